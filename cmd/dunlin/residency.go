package main

import (
	"errors"
	"time"

	"github.com/dunlin-go/dunlin/runtime"
)

// residencyFlags say how long weights stay in memory.
type residencyFlags struct {
	KeepAlive     *time.Duration `placeholder:"D" help:"Unmap a model's weights when no request has needed them for so long, such as 5m; the next brings them back (default: they stay until --resident-limit is reached). Linux only."`
	ResidentLimit byteSize       `placeholder:"SIZE" help:"Most memory of the process, its pages of model files included, such as 8GiB: beyond it the weights of models that compute nothing go, the least recently used first (default: three quarters of the cgroup's or the machine's). Linux only."`
	WarmUp        string         `enum:"background,wait,none" default:"background" placeholder:"WHEN" help:"When weights are read into memory: background, while the first requests are served; wait, before the server listens; none, when requests touch them (default: ${default})."`
}

// apply sets what is the process's and returns what is the models'.
func (f *residencyFlags) apply() ([]runtime.Option, error) {
	var opts []runtime.Option
	if f.KeepAlive != nil {
		if *f.KeepAlive <= 0 {
			return nil, errors.New("--keep-alive must be above zero; without it weights stay")
		}
		opts = append(opts, runtime.WithKeepAlive(*f.KeepAlive))
	}
	if f.ResidentLimit > 0 {
		if err := runtime.SetResidentLimit(int64(f.ResidentLimit)); err != nil {
			return nil, err
		}
	}
	ways := map[string]runtime.WarmUp{"background": runtime.WarmUpBackground, "wait": runtime.WarmUpWait, "none": runtime.WarmUpNone}
	return append(opts, runtime.WithWarmUp(ways[f.WarmUp])), nil
}

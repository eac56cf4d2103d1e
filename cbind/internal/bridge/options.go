package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dunlin-go/dunlin/cbind/internal/device"
	"github.com/dunlin-go/dunlin/runtime"
)

// Options say how a model is opened.
type Options struct {
	Dir      string // where the bridge's files are; see [device.Find]
	Isolated bool
	Device   device.Options
	Runtime  []runtime.Option
}

// Option changes how a model is opened.
type Option func(*Options) error

// WithDir names the directory that `make bridge` filled. Without it that is what
// DUNLIN_BRIDGE says, or dunlin/bridge in the user's cache directory.
func WithDir(dir string) Option {
	return func(o *Options) error {
		if dir == "" {
			return errors.New("the bridge's directory is empty")
		}
		o.Dir = dir
		return nil
	}
}

// WithDType sets the type of the weights and of the arithmetic: "float32", the
// default and the reference, "bfloat16", "float16", or "auto" for that of the files.
// Logits are always float32.
func WithDType(name string) Option {
	return func(o *Options) error {
		if !slices.Contains([]string{"float32", "bfloat16", "float16", "auto"}, name) {
			return fmt.Errorf("there is no dtype %q", name)
		}
		o.Device.DType = name
		return nil
	}
}

// WithSharedWeights has torch use the tensors of a GGUF file where they are mapped,
// so that the file's pages are the only copy for all engines and processes: those of F32,
// F16 and BF16 that are of the dtype in use, and that Transformers takes as they are. [Model.SharedBytes]
// tells how much that is. A file that is cut while it is in use then ends the
// process that has torch: use it with Isolated, or for files that nobody writes.
func WithSharedWeights() Option {
	return func(o *Options) error {
		o.Device.ShareWeights = true
		return nil
	}
}

// WithRuntime passes options of package runtime: WithID, WithContextLength,
// WithThreads, WithMaxSequences, WithQueue, WithStreamBuffer, WithStallLimit and
// WithMemoryLimit. Others are refused.
func WithRuntime(opts ...runtime.Option) Option {
	return func(o *Options) error {
		o.Runtime = append(o.Runtime, opts...)
		return nil
	}
}

// Isolated puts torch into a child process: a crash of it ends the requests in
// flight with a [device.CrashError], and the child is started anew.
func Isolated() Option {
	return func(o *Options) error {
		o.Isolated = true
		return nil
	}
}

// ReadOptions applies options over their defaults.
func ReadOptions(opts []Option) (*Options, error) {
	o := &Options{Device: device.Options{DType: "float32"}}
	var errs []error
	for _, opt := range opts {
		errs = append(errs, opt(o))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, runtime.NewError(runtime.CodeInvalidRequest, err)
	}
	return o, nil
}

// Starter starts what opens models, with so many threads.
type Starter func(ctx context.Context, paths device.Paths, threads int) (device.Device, error)

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/alecthomas/kong"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/internal/loadsim"
	"github.com/dunlin-go/dunlin/runtime"
)

// simFlags say how a trace of requests is replayed.
type simFlags struct {
	ServeSim    *string       `group:"Replay of a trace:" placeholder:"TRACE" help:"Replay a trace of requests (docs/traces.md) instead, and tell how the model keeps up."`
	URL         string        `group:"Replay of a trace:" placeholder:"URL" help:"Send it to the server of OpenAI's API at this address instead of a MODEL in the process."`
	ServedModel string        `group:"Replay of a trace:" placeholder:"NAME" help:"What requests to --url name as their model (default: default)."`
	Rate        float64       `group:"Replay of a trace:" placeholder:"X" help:"Requests that arrive each second in the mean, instead of the trace's own rate."`
	Speed       float64       `group:"Replay of a trace:" placeholder:"X" help:"Times as fast as in the trace (default: 1)."`
	Concurrency int           `group:"Replay of a trace:" placeholder:"N" help:"Instead of by their arrivals, send the next request when one of so many is answered."`
	Limit       int           `group:"Replay of a trace:" placeholder:"N" help:"Requests of the trace to replay at most (default: all)."`
	BlockSize   int           `group:"Replay of a trace:" placeholder:"N" help:"Prompt tokens of one of the trace's hash ids (default: as it says, else 512)."`
	Seed        uint64        `group:"Replay of a trace:" placeholder:"N" help:"Other words in the prompts, such as for a server that has seen these (default: 0)."`
	StopAtEOS   bool          `group:"Replay of a trace:" help:"End answers where the model ends them, instead of where the trace says."`
	SLO         string        `group:"Replay of a trace:" placeholder:"ttft=D,tbt=D,..." help:"Count requests that keep to these times: ttft, tbt (every one), tpot (mean time per output token), e2e."`
	Timeout     time.Duration `group:"Replay of a trace:" placeholder:"D" help:"How long a request may take (default: 10m)."`
	Parallel    int           `group:"Replay of a trace:" placeholder:"N" help:"Requests that MODEL computes at the same time (default: 32)."`
	Queue       int           `group:"Replay of a trace:" placeholder:"N" help:"Requests that may wait for MODEL (default: 1024)."`
}

// simReport is what a replay is printed as.
type simReport struct {
	Machine machine          `json:"machine"` // of the client
	Threads int              `json:"threads,omitempty"`
	Model   *benchModel      `json:"model,omitempty"` // in the process, or
	URL     string           `json:"url,omitempty"`
	Served  string           `json:"served_model,omitempty"`
	Trace   simTrace         `json:"trace"`
	Figures *loadsim.Figures `json:"figures"`
}

// simTrace says what was replayed, and how.
type simTrace struct {
	Name        string  `json:"name"`
	BlockTokens int     `json:"block_size"`
	Shared      float64 `json:"shared_prompt_tokens"` // share that repeats an earlier prompt
	Rate        float64 `json:"requests_per_second"`  // as they arrived; 0 where Concurrency counts
	Concurrency int     `json:"concurrency,omitempty"`
	Seed        uint64  `json:"seed"`
	StopAtEOS   bool    `json:"stop_at_eos"`
}

// checkSim refuses flags that would have no effect.
func (c *benchCmd) checkSim() error {
	var unset benchCmd
	if err := kong.ApplyDefaults(&unset); err != nil {
		return err
	}
	switch {
	case *c.ServeSim == "":
		return errors.New("--serve-sim names no trace")
	case !slices.Equal(c.Prompt, unset.Prompt) || !slices.Equal(c.Tokens, unset.Tokens) || !slices.Equal(c.Streams, unset.Streams) || c.Repeat != unset.Repeat:
		return errors.New("-p, -n, -b and -r have no meaning with --serve-sim")
	case c.URL == "" && c.Model == "":
		return errors.New("--serve-sim needs a model or --url")
	case c.URL != "" && c.Model != "":
		return errors.New("a model in the process and --url can't be used together: --served-model names the server's")
	case c.URL == "" && c.ServedModel != "":
		return errors.New("--served-model needs --url")
	case c.URL != "" && (c.Parallel != 0 || c.Queue != 0 || len(c.Threads) > 0 || c.modelFlags != unset.modelFlags):
		return errors.New("--url has its own threads, context and memory: flags that set a model's can't be used with it")
	case len(c.Threads) > 1 || len(c.Threads) == 1 && c.Threads[0] < 1:
		return errors.New("--serve-sim takes one number of threads, at least 1")
	case c.Limit < 0 || c.BlockSize < 0 || c.Timeout < 0:
		return errors.New("--limit, --block-size and --timeout can't be negative")
	}
	return nil
}

// simulate replays the trace and prints. What was measured until an interrupt is
// printed, too.
func (c *benchCmd) simulate(ctx context.Context, std *stdio) (err error) {
	if err := c.checkSim(); err != nil {
		return err
	}
	opt := loadsim.Options{
		Rate: c.Rate, Speed: c.Speed, Concurrency: c.Concurrency,
		Seed: c.Seed, IgnoreEOS: !c.StopAtEOS, Timeout: c.Timeout,
	}
	if c.SLO != "" {
		if opt.Objectives, err = loadsim.ParseObjectives(c.SLO); err != nil {
			return fmt.Errorf("--slo: %w", err)
		}
	}
	memory := budget.New(budget.Available() / 8)
	lease := memory.Lease()
	defer lease.Close()
	trace, err := c.readTrace(lease)
	if err != nil {
		return fmt.Errorf("%s: %w", *c.ServeSim, err)
	}
	arrivals, err := opt.ArrivalRate(trace)
	if err != nil {
		return err
	}
	report := simReport{
		Machine: thisMachine(),
		Trace: simTrace{
			Name: trace.Name, BlockTokens: trace.BlockTokens, Shared: round3(trace.Shared()),
			Rate: round3(arrivals), Concurrency: c.Concurrency, Seed: c.Seed, StopAtEOS: c.StopAtEOS,
		},
	}
	target, done, err := c.target(ctx, &report)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := done(); err == nil {
			err = closeErr
		}
	}()
	if report.Figures, err = loadsim.Run(ctx, target, trace, opt, memory); err != nil {
		return err
	}
	return errors.Join(report.print(std.out, c.Output), ctx.Err())
}

func (c *benchCmd) readTrace(lease *budget.Lease) (t *loadsim.Trace, err error) {
	f, err := os.Open(*c.ServeSim)
	if err != nil {
		return nil, err
	}
	defer closeInto(&err, f)
	return loadsim.Read(f, loadsim.ReadOptions{BlockTokens: c.BlockSize, Limit: c.Limit}, lease)
}

// target is the server, or the model, and what closes it.
func (c *benchCmd) target(ctx context.Context, report *simReport) (loadsim.Target, func() error, error) {
	if c.URL != "" {
		if c.ServedModel == "" {
			c.ServedModel = "default"
		}
		client, err := loadsim.NewClient(c.URL, c.ServedModel)
		report.URL, report.Served = c.URL, c.ServedModel
		return client, func() error { return nil }, err
	}
	opts := places(c.Parallel, c.Queue)
	report.Threads = report.Machine.Processors
	if len(c.Threads) > 0 {
		report.Threads = min(c.Threads[0], report.Threads)
		opts = append(opts, runtime.WithThreads(c.Threads[0]))
	}
	m, err := c.load(ctx, c.Model, opts...)
	if err != nil {
		return nil, nil, err
	}
	info := m.Info()
	report.Model = &benchModel{info.ID, info.Architecture, info.Quantization, info.Parameters, info.FileBytes}
	return loadsim.Native{Generator: m}, m.Close, nil
}

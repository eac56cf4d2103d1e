package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	goruntime "runtime"
	"slices"
	"sync"
	"time"

	"github.com/dunlin-go/dunlin/models/hub"
	"github.com/dunlin-go/dunlin/runtime"
)

// benchSeed makes the prompts of every run of the command the same.
const benchSeed = 1

// benchCmd measures a model's speed beside the machine's limits.
type benchCmd struct {
	Model   string `arg:"" optional:"" help:"Path of a GGUF file, or a name of the catalogue; none with --url."`
	Prompt  []int  `short:"p" default:"512" placeholder:"N,..." help:"Tokens of the prompts whose prefill is measured (default: ${default}); 0: no prefill."`
	Tokens  []int  `short:"n" default:"128" placeholder:"N,..." help:"Tokens to decode from an empty context (default: ${default}); 0: no decode."`
	Streams []int  `short:"b" default:"1" placeholder:"N,..." help:"Requests that decode at the same time (default: ${default})."`
	Threads []int  `short:"t" placeholder:"N,..." help:"Threads that compute (default: all processors)."`
	Repeat  int    `short:"r" default:"5" placeholder:"N" help:"Measurements, after one that isn't counted; the median is told (default: ${default})."`
	Output  string `short:"o" enum:"table,md,csv,json" default:"table" placeholder:"FORMAT" help:"table, md, csv or json (default: ${default})."`
	JSON    bool   `help:"The same as -o json."`
	modelFlags
	simFlags
}

type benchReport struct {
	Machine machine       `json:"machine"`
	Limits  []benchLimits `json:"limits"`
	Model   benchModel    `json:"model"`
	Results []benchResult `json:"results"`
}

type benchModel struct {
	ID           string `json:"id"`
	Architecture string `json:"architecture"`
	Quantization string `json:"quantization"`
	Parameters   int64  `json:"parameters"`
	FileBytes    int64  `json:"file_bytes"`
}

// benchResult is one test: all streams together.
type benchResult struct {
	Test            string  `json:"test"` // as llama-bench has it: pp512 is a prompt, tg128 are generated tokens
	Kind            string  `json:"kind"`
	Tokens          int     `json:"tokens"` // of one stream
	Streams         int     `json:"streams"`
	Threads         int     `json:"threads"`
	TokensPerSecond float64 `json:"tokens_per_second"` // of all streams, the median
	Min             float64 `json:"min"`
	Max             float64 `json:"max"`
	// What the products alone come to. Reading is the weights once for each
	// decoded token of a stream; a prompt reads them once for each step, which
	// isn't counted.
	GBPerSecond  float64 `json:"gb_per_second,omitempty"`
	ReadShare    float64 `json:"share_of_read,omitempty"`
	GOPPerSecond float64 `json:"gop_per_second"`
	PeakShare    float64 `json:"share_of_peak,omitempty"`
}

func (c *benchCmd) check() error {
	if c.Model == "" {
		return errors.New("expected \"<model>\"")
	}
	if c.simFlags != (simFlags{}) {
		return errors.New("--url and the flags below it need --serve-sim")
	}
	for _, list := range []struct {
		flag  string
		of    []int
		least int
	}{{"-p", c.Prompt, 0}, {"-n", c.Tokens, 0}, {"-b", c.Streams, 1}, {"-t", c.Threads, 1}} {
		if len(list.of) > 0 && slices.Min(list.of) < list.least {
			return fmt.Errorf("%s must be at least %d", list.flag, list.least)
		}
	}
	if c.Repeat < 1 {
		return errors.New("--repeat must be at least 1")
	}
	if len(c.Prompt)+len(c.Tokens) == 0 || max(0, slices.Max(append(c.Prompt, c.Tokens...))) == 0 {
		return errors.New("nothing to measure: both -p and -n are 0")
	}
	return nil
}

// Run measures and prints.
func (c *benchCmd) Run(ctx context.Context, std *stdio) (err error) {
	if c.JSON {
		c.Output = "json"
	}
	if c.ServeSim != nil {
		return c.simulate(ctx, std)
	}
	if err := c.check(); err != nil {
		return err
	}
	path, err := hub.Resolve(c.Model)
	if err != nil {
		return err
	}
	work, err := workOf(path)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Model, err)
	}
	defer closeInto(&err, work)
	if c.Context == 0 {
		c.Context = 1 + slices.Max(append(c.Prompt, c.Tokens...))
	}
	report := benchReport{Machine: thisMachine(), Results: []benchResult{}}
	procs := goruntime.GOMAXPROCS(0)
	if len(c.Threads) == 0 {
		c.Threads = []int{procs}
	}
	for i, t := range c.Threads {
		c.Threads[i] = min(t, procs) // what a model gets at most, so that the report is true
	}
	c.Threads = slices.Compact(c.Threads)
	for _, threads := range c.Threads {
		if err := c.measureWith(ctx, threads, work, &report); err != nil {
			return err
		}
	}
	return report.print(std.out, c.Output)
}

// measureWith adds the results with so many threads.
func (c *benchCmd) measureWith(ctx context.Context, threads int, work *work, report *benchReport) (err error) {
	m, err := c.load(ctx, c.Model, runtime.WithMaxSequences(slices.Max(c.Streams)), runtime.WithThreads(threads))
	if err != nil {
		return err
	}
	defer closeInto(&err, m)
	info := m.Info()
	report.Model = benchModel{info.ID, info.Architecture, info.Quantization, info.Parameters, info.FileBytes}
	limits := work.limits(threads)
	b := &bench{m: m, rng: rand.New(rand.NewPCG(benchSeed, 0)), repeat: c.Repeat}
	for _, n := range c.Prompt {
		if n == 0 {
			continue
		}
		res, err := b.measure(ctx, 1, n, n, 1)
		if err != nil {
			return err
		}
		res.Kind, res.Test, res.Threads = "prefill", fmt.Sprintf("pp%d", n), threads
		res.GOPPerSecond = round3(res.TokensPerSecond * (work.layerOps + work.headOps/float64(n)) / 1e9)
		report.Results = append(report.Results, res)
	}
	for _, streams := range c.Streams {
		for _, n := range c.Tokens {
			if n == 0 {
				continue
			}
			// The one token of the prompt is what the first step decodes, so n
			// answers are n equal steps.
			res, err := b.measure(ctx, streams, n, 1, n)
			if err != nil {
				return err
			}
			res.Kind, res.Test, res.Threads = "decode", fmt.Sprintf("tg%d", n), threads
			res.GOPPerSecond = round3(res.TokensPerSecond * (work.layerOps + work.headOps) / 1e9)
			res.GBPerSecond = round3(res.TokensPerSecond / float64(streams) * work.bytes / 1e9)
			report.Results = append(report.Results, res)
		}
	}
	limits.best(work.limits(threads)) // before and after, as machines have moods
	report.Limits = append(report.Limits, *limits)
	for i := range report.Results {
		r := &report.Results[i]
		if r.Threads != threads {
			continue
		}
		if limits.ReadGB > 0 {
			r.ReadShare = round3(r.GBPerSecond / limits.ReadGB)
		}
		if peak := limits.peakFor(info.Quantization, c.Activations == "f32"); peak > 0 {
			r.PeakShare = round3(r.GOPPerSecond / peak)
		}
	}
	return nil
}

// bench runs rounds of equal requests.
type bench struct {
	m      runtime.Generator
	rng    *rand.Rand
	repeat int
}

// measure takes the rates of the rounds after the first, in tokens each second
// over all streams, as a caller sees them: from the call to the end.
func (b *bench) measure(ctx context.Context, streams, tokens, prompt, answer int) (benchResult, error) {
	rates := make([]float64, 0, b.repeat)
	for round := range b.repeat + 1 {
		took, err := b.round(ctx, streams, prompt, answer)
		if err != nil {
			return benchResult{}, err
		}
		if round > 0 {
			rates = append(rates, perSecond(tokens*streams, took))
		}
	}
	slices.Sort(rates)
	return benchResult{Tokens: tokens, Streams: streams, TokensPerSecond: median(rates), Min: rates[0], Max: rates[len(rates)-1]}, nil
}

func (b *bench) round(ctx context.Context, streams, prompt, answer int) (time.Duration, error) {
	reqs := make([]runtime.Request, streams)
	for i := range reqs {
		// New tokens each time: a prefix that is cached would be no prefill.
		ids := make([]int32, prompt)
		for j := range ids {
			ids[j] = b.rng.Int32N(int32(b.m.Info().Vocabulary))
		}
		reqs[i] = runtime.Request{Tokens: ids, MaxTokens: answer, IgnoreEOS: true}
	}
	errs := make([]error, len(reqs))
	var wg sync.WaitGroup
	begin := time.Now()
	for i, req := range reqs {
		wg.Go(func() {
			res, err := runtime.Generate(ctx, b.m, req)
			if err == nil && res.Usage.CompletionTokens != answer {
				err = fmt.Errorf("the model generated %d tokens, not %d", res.Usage.CompletionTokens, answer)
			}
			errs[i] = err
		})
	}
	wg.Wait()
	return time.Since(begin), errors.Join(errs...)
}

// median is the middle of a sorted list.
func median(sorted []float64) float64 {
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return round3((sorted[n/2-1] + sorted[n/2]) / 2)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	goruntime "runtime"
	"slices"
	"strconv"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/dunlin-go/dunlin/runtime"
)

// benchSeed makes the prompts of every run of the command the same.
const benchSeed = 1

// benchCmd measures a model's speed.
type benchCmd struct {
	Model   string `arg:"" help:"Path of a GGUF file, or a name of the catalogue."`
	Prompt  int    `short:"p" default:"512" placeholder:"N" help:"Tokens of the prompt whose prefill is measured (default: ${default}); 0: no prefill."`
	Tokens  int    `short:"n" default:"128" placeholder:"N" help:"Tokens to decode after an empty prompt (default: ${default}); 0: no decode."`
	Streams int    `short:"s" default:"1" placeholder:"N" help:"Requests at the same time (default: ${default})."`
	Repeat  int    `short:"r" default:"5" placeholder:"N" help:"Measurements, after one that isn't counted; the median is told (default: ${default})."`
	JSON    bool   `help:"Print one JSON object."`
	engineFlags
}

type benchReport struct {
	Machine machine       `json:"machine"`
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

type benchResult struct {
	Kind            string  `json:"kind"`
	Tokens          int     `json:"tokens"` // of one stream
	Streams         int     `json:"streams"`
	Threads         int     `json:"threads"`
	TokensPerSecond float64 `json:"tokens_per_second"` // of all streams, the median
	Min             float64 `json:"min"`
	Max             float64 `json:"max"`
}

// Run measures and prints.
func (c *benchCmd) Run(ctx context.Context, std *stdio) (err error) {
	switch {
	case c.Prompt < 0 || c.Tokens < 0:
		return errors.New("the numbers of tokens can't be negative")
	case c.Prompt == 0 && c.Tokens == 0:
		return errors.New("nothing to measure: both -p and -n are 0")
	case c.Streams < 1 || c.Repeat < 1:
		return errors.New("--streams and --repeat must be at least 1")
	}
	if procs := goruntime.GOMAXPROCS(0); c.Threads == 0 || c.Threads > procs {
		c.Threads = procs // what a model gets at most, so that the report is true
	}
	if c.Context == 0 {
		c.Context = max(c.Prompt+1, c.Tokens+1)
	}
	m, err := c.load(ctx, c.Model, runtime.WithMaxSequences(c.Streams))
	if err != nil {
		return err
	}
	defer closeInto(&err, m)

	info := m.Info()
	report := benchReport{
		Machine: thisMachine(),
		Model:   benchModel{info.ID, info.Architecture, info.Quantization, info.Parameters, info.FileBytes},
		Results: []benchResult{},
	}
	b := &bench{m: m, rng: rand.New(rand.NewPCG(benchSeed, 0)), streams: c.Streams, repeat: c.Repeat}
	for _, k := range []struct {
		kind                   string
		tokens, prompt, answer int
	}{
		{"prefill", c.Prompt, c.Prompt, 1},
		// The one token of the prompt is what the first step decodes, so n
		// answers are n equal steps.
		{"decode", c.Tokens, 1, c.Tokens},
	} {
		if k.tokens == 0 {
			continue
		}
		rates, err := b.measure(ctx, k.tokens, k.prompt, k.answer)
		if err != nil {
			return err
		}
		report.Results = append(report.Results, benchResult{
			Kind: k.kind, Tokens: k.tokens, Streams: c.Streams, Threads: c.Threads,
			TokensPerSecond: median(rates), Min: rates[0], Max: rates[len(rates)-1],
		})
	}
	if c.JSON {
		return writeJSON(std.out, report)
	}
	return report.print(std)
}

// bench runs rounds of equal requests.
type bench struct {
	m       *runtime.Model
	rng     *rand.Rand
	streams int
	repeat  int
}

// measure returns the sorted rates of the rounds after the first, in tokens
// each second over all streams, as a caller sees them: from the call to the end.
func (b *bench) measure(ctx context.Context, tokens, prompt, answer int) ([]float64, error) {
	rates := make([]float64, 0, b.repeat)
	for round := range b.repeat + 1 {
		took, err := b.round(ctx, prompt, answer)
		if err != nil {
			return nil, err
		}
		if round > 0 {
			rates = append(rates, perSecond(tokens*b.streams, took))
		}
	}
	slices.Sort(rates)
	return rates, nil
}

func (b *bench) round(ctx context.Context, prompt, answer int) (time.Duration, error) {
	reqs := make([]runtime.Request, b.streams)
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

func (r *benchReport) print(std *stdio) error {
	fmt.Fprintf(std.out, "%s, %d processors, %s/%s\n", r.Machine.CPU, r.Machine.Processors, r.Machine.OS, r.Machine.Arch)
	fmt.Fprintf(std.out, "%s: %s, %s, %s\n\n", r.Model.ID, r.Model.Architecture, r.Model.Quantization, humanBytes(r.Model.FileBytes))
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "kind\ttokens\tstreams\tthreads\ttokens/s\tmin\tmax\t")
	for _, b := range r.Results {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\t%s\t%s\t\n", b.Kind, b.Tokens, b.Streams, b.Threads, rate(b.TokensPerSecond), rate(b.Min), rate(b.Max))
	}
	return w.Flush()
}

func rate(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/mattn/go-isatty"
	"github.com/schollz/progressbar/v3"

	"github.com/dunlin-go/dunlin/runtime"
)

// perplexityRows is how many positions of a step have logits: with enough of
// them a step reads the output head for many positions, and the rows of a
// vocabulary of 262,144 tokens still take only 32 MiB.
const perplexityRows = 32

// minWindow is the shortest window in which a position is scored.
const minWindow = 3

// perplexityCmd measures how well a model predicts a text, as llama.cpp's
// llama-perplexity does, so that both can be compared:
// https://github.com/ggml-org/llama.cpp/tree/master/tools/perplexity
type perplexityCmd struct {
	Model   string `arg:"" help:"Path of a GGUF file, a name of the catalogue, or transformers:DIR."`
	File    string `arg:"" help:"File of the text, in which special tokens aren't parsed; -: standard input. A newline at its end is left out."`
	Ctx     int    `default:"512" placeholder:"N" help:"Tokens of a window, of which the second half is scored (default: ${default})."`
	Chunks  int    `placeholder:"N" help:"Most windows to evaluate (default: all of the text)."`
	JSON    bool   `help:"Print one JSON object."`
	Threads int    `short:"t" placeholder:"N" help:"Threads that compute (default: all processors)."`
	computeFlags
}

type perplexityResult struct {
	Perplexity float64 `json:"perplexity"`
	// Uncertainty is the perplexity's standard error, nil for a single position.
	Uncertainty *float64 `json:"uncertainty"`
	MeanNLL     float64  `json:"mean_nll"` // negative natural log-probability of a token
	Scored      int      `json:"scored"`   // positions that the means are over
	Tokens      int      `json:"tokens"`   // of the whole text
	Ctx         int      `json:"ctx"`
	Chunks      int      `json:"chunks"`
}

// Run measures and prints.
func (c *perplexityCmd) Run(ctx context.Context, std *stdio) (err error) {
	switch {
	case c.Ctx < minWindow:
		return fmt.Errorf("--ctx must be at least %d", minWindow)
	case c.Chunks < 0:
		return errors.New("--chunks can't be negative")
	}
	text, err := c.text(ctx, std)
	if err != nil {
		return err
	}
	opts := []runtime.Option{runtime.WithContextLength(c.Ctx), runtime.WithMaxSequences(perplexityRows)}
	if c.Threads != 0 {
		opts = append(opts, runtime.WithThreads(c.Threads))
	}
	m, err := c.load(ctx, c.Model, opts...)
	if err != nil {
		return err
	}
	defer closeInto(&err, m)
	p := &perplexityProgress{w: std.err}
	res, err := perplexityOf(ctx, m, text, c.Ctx, c.Chunks, p.report)
	p.finish()
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(std.out, res)
	}
	_, err = fmt.Fprintln(std.out, res)
	return err
}

// text reads the whole text, without a newline at its end.
func (c *perplexityCmd) text(ctx context.Context, std *stdio) (text string, err error) {
	if c.File == "-" {
		text, err = std.readAll(ctx)
	} else {
		var f *os.File
		if f, err = os.Open(c.File); err != nil {
			return "", err
		}
		defer f.Close()
		text, err = readAll(ctx, f, c.File)
	}
	return strings.TrimSuffix(text, "\n"), err
}

// String is the result as a line for people.
func (r *perplexityResult) String() string {
	s := fmt.Sprintf("perplexity %.4f", r.Perplexity)
	if r.Uncertainty != nil {
		s += fmt.Sprintf(" +/- %.5f", *r.Uncertainty)
	}
	return s + fmt.Sprintf(" (%d windows of %d tokens, %d positions scored)", r.Chunks, r.Ctx, r.Scored)
}

// perplexityOf cuts the text's tokens into windows of n and drops the rest.
// Each is evaluated from an empty context, with BOS in place of its first token
// where the model begins texts with one; the tokens after positions n/2 to n-2
// are scored. At most chunks windows are evaluated, or all for 0. report is told
// after each one.
func perplexityOf(ctx context.Context, g runtime.Generator, text string, n, chunks int, report func(done, all int, perplexity float64)) (*perplexityResult, error) {
	tok, ok := runtime.As[runtime.Tokenizer](g)
	if !ok {
		return nil, errors.New("the model can't turn text into tokens")
	}
	scorer, ok := runtime.As[runtime.Scorer](g)
	if !ok {
		return nil, errors.New("the model can't score tokens")
	}
	begin, err := beginning(ctx, tok)
	if err != nil {
		return nil, err
	}
	ids, err := tok.Tokenize(ctx, text, runtime.TokenizeOptions{AddSpecial: true})
	if err != nil {
		return nil, err
	}
	if len(ids) < 2*n {
		return nil, fmt.Errorf("the text has %d tokens, windows of %d need at least %d", len(ids), n, 2*n)
	}
	all := len(ids) / n
	if chunks > 0 {
		all = min(all, chunks)
	}
	var sum nllSum
	window := make([]int32, n)
	for i := range all {
		copy(window, ids[i*n:])
		copy(window, begin)
		score, err := scorer.Score(ctx, window, runtime.ScoreOptions{From: n / 2})
		if err != nil {
			return nil, err
		}
		sum.add(score.Logprobs)
		report(i+1, all, math.Exp(sum.mean()))
	}
	res := &perplexityResult{
		Perplexity: math.Exp(sum.mean()), Uncertainty: sum.uncertainty(), MeanNLL: sum.mean(),
		Scored: sum.count, Tokens: len(ids), Ctx: n, Chunks: all,
	}
	if math.IsInf(res.Perplexity, 0) || math.IsNaN(res.Perplexity) {
		return nil, fmt.Errorf("the perplexity is not finite: the mean negative log-probability is %g", res.MeanNLL)
	}
	return res, nil
}

// beginning is the BOS that a tokenizer puts before each text, or nothing. A
// tokenizer that adds EOS is refused: it would stand within the text.
func beginning(ctx context.Context, tok runtime.Tokenizer) ([]int32, error) {
	const probe = "a"
	plain, err := tok.Tokenize(ctx, probe, runtime.TokenizeOptions{})
	if err != nil {
		return nil, err
	}
	whole, err := tok.Tokenize(ctx, probe, runtime.TokenizeOptions{AddSpecial: true})
	if err != nil {
		return nil, err
	}
	added := len(whole) - len(plain)
	if added < 0 || added > 1 || !slices.Equal(whole[added:], plain) {
		return nil, runtime.NewError(runtime.CodeUnsupported, errors.New("a model that adds EOS to each text has no perplexity of windows"))
	}
	return whole[:added], nil
}

// nllSum adds up negative log-probabilities and their squares.
type nllSum struct {
	count      int
	sum, sumSq float64
}

func (s *nllSum) add(logprobs []float64) {
	for _, l := range logprobs {
		s.sum -= l
		s.sumSq += l * l
	}
	s.count += len(logprobs)
}

func (s *nllSum) mean() float64 { return s.sum / float64(s.count) }

// uncertainty is the standard error of the mean, carried over to its exponential
// in first order.
func (s *nllSum) uncertainty() *float64 {
	if s.count < 2 {
		return nil
	}
	mean := s.mean()
	variance := max(s.sumSq/float64(s.count)-mean*mean, 0) // rounding may pass zero
	u := math.Sqrt(variance/float64(s.count-1)) * math.Exp(mean)
	return &u
}

// perplexityProgress shows a bar of windows with the perplexity so far, on a
// terminal only.
type perplexityProgress struct {
	w   io.Writer
	bar *progressbar.ProgressBar
}

func (p *perplexityProgress) report(done, all int, perplexity float64) {
	if p.bar == nil {
		f, ok := p.w.(*os.File)
		if !ok || !isatty.IsTerminal(f.Fd()) {
			return
		}
		p.bar = progressbar.NewOptions(all,
			progressbar.OptionSetWriter(p.w),
			progressbar.OptionSetWidth(30),
			progressbar.OptionShowCount(),
			progressbar.OptionOnCompletion(func() { fmt.Fprintln(p.w) }),
		)
	}
	p.bar.Describe(fmt.Sprintf("perplexity %.4f", perplexity))
	_ = p.bar.Set(done) // a bar that can't be drawn is no reason to stop
}

// finish leaves the terminal's cursor on a line of its own.
func (p *perplexityProgress) finish() {
	if p.bar != nil && !p.bar.IsFinished() {
		_ = p.bar.Exit() // as in report
	}
}

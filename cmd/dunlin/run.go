package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/internal/procmem"
	"github.com/dunlin-go/dunlin/runtime"
)

// defaultTemperature is low: small models lose the thread soon.
const defaultTemperature = 0.2

// runCmd answers one prompt.
type runCmd struct {
	Model  string  `arg:"" help:"Path of a GGUF file, a name of the catalogue, or transformers:DIR."`
	Prompt *string `arg:"" optional:"" help:"What to answer; standard input without it, or for -."`

	Raw       bool     `help:"Continue the prompt as it is, without the model's chat template."`
	System    string   `placeholder:"TEXT" help:"The system message before the prompt."`
	MaxTokens int      `short:"n" default:"512" placeholder:"N" help:"Most tokens to generate (default: ${default}); 0: as many as the context has room for."`
	Stop      []string `sep:"none" placeholder:"TEXT" help:"End the answer before this text; may be repeated."`
	Greedy    bool     `xor:"sampling" help:"Always take the likeliest token."`
	Temp      *float64 `xor:"sampling" placeholder:"T" help:"Temperature of sampling (default: ${default_temp}); 0 is greedy."`
	TopP      float64  `default:"0.9" placeholder:"P" help:"Sample from the likeliest tokens that reach this probability together (default: ${default})."`
	TopK      int      `placeholder:"K" help:"Sample from the K likeliest tokens (default: all)."`
	Seed      *uint64  `placeholder:"N" help:"Makes the sampling repeatable."`
	JSON      bool     `help:"Print one JSON object when the answer is complete."`
	engineFlags
}

type runResult struct {
	Text         string    `json:"text"`
	Tokens       []int32   `json:"tokens"`
	FinishReason string    `json:"finish_reason"`
	Usage        runUsage  `json:"usage"`
	Timing       runTiming `json:"timing"`
}

type runUsage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	CachedTokens     int `json:"cached_tokens"`
}

type runTiming struct {
	LoadMS                 float64 `json:"load_ms"`
	TTFTMS                 float64 `json:"ttft_ms"`
	PrefillTokensPerSecond float64 `json:"prefill_tokens_per_second"`
	DecodeTokensPerSecond  float64 `json:"decode_tokens_per_second"`
}

// Run answers the prompt.
func (c *runCmd) Run(ctx context.Context, std *stdio) (err error) {
	req, err := c.request(ctx, std)
	if err != nil {
		return err
	}
	begin := time.Now()
	m, err := c.load(ctx, c.Model, runtime.WithMaxSequences(1))
	if err != nil {
		return err
	}
	defer closeInto(&err, m)
	load := time.Since(begin)

	out := &answer{w: bufio.NewWriter(std.out), quiet: c.JSON}
	res, err := out.generate(ctx, m, req)
	if e := (*runtime.Error)(nil); errors.As(err, &e) && e.Code == runtime.CodeUnsupported && e.Field == "messages" {
		return fmt.Errorf("%w; --raw continues the prompt as it is", err)
	}
	if err != nil {
		return err
	}
	report := newRunResult(res, load)
	if c.JSON {
		return writeJSON(std.out, report)
	}
	_, err = fmt.Fprintln(std.err, figures(&report))
	return err
}

func (c *runCmd) request(ctx context.Context, std *stdio) (runtime.Request, error) {
	var prompt string
	switch {
	case c.Prompt != nil && *c.Prompt != "-":
		prompt = *c.Prompt
	case c.Prompt != nil || std.piped():
		var err error
		if prompt, err = std.readAll(ctx); err != nil {
			return runtime.Request{}, err
		}
	}
	if prompt == "" {
		return runtime.Request{}, errNoPrompt
	}
	req := runtime.Request{
		MaxTokens: c.MaxTokens, Stop: c.Stop, Seed: c.Seed,
		Temperature: c.temperature(), TopP: c.TopP, TopK: c.TopK,
	}
	switch {
	case c.Raw && c.System != "":
		return req, errors.New("--raw has no messages, so --system can't be used with it")
	case c.Raw:
		req.Prompt = prompt
		return req, req.Validate()
	case c.System != "":
		req.Messages = append(req.Messages, runtime.Message{Role: "system", Content: c.System})
	}
	req.Messages = append(req.Messages, runtime.Message{Role: "user", Content: prompt})
	return req, req.Validate()
}

func (c *runCmd) temperature() float64 {
	switch {
	case c.Greedy:
		return 0
	case c.Temp != nil:
		return *c.Temp
	}
	return defaultTemperature
}

// answer writes a text as it is generated.
type answer struct {
	w     *bufio.Writer
	quiet bool
}

func (a *answer) generate(ctx context.Context, g runtime.Generator, req runtime.Request) (*runtime.Result, error) {
	s, err := g.Start(ctx, req)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	lease := budget.Process().Lease() // the answer, while it grows
	defer lease.Close()
	res := &runtime.Result{Tokens: []int32{}}
	var text strings.Builder
	for {
		ev, err := s.Recv()
		if errors.Is(err, io.EOF) {
			err = nil
		} else if err == nil {
			text.WriteString(ev.Text)
			switch ev.Kind {
			case runtime.EventToken:
				res.Tokens = append(res.Tokens, ev.Token)
				// Once more for what growing leaves behind.
				if err := lease.Cover(budget.Request, 2*int64(text.Len()+4*len(res.Tokens))); err != nil {
					return nil, err
				}
			case runtime.EventFinish:
				res.Finish, res.Usage, res.Timing = ev.Finish, ev.Usage, ev.Timing
			}
			if err := a.write(ev.Text); err != nil {
				return nil, err
			}
			continue
		}
		res.Text = text.String()
		// Whatever comes next on a terminal begins on a line of its own, also
		// after an answer that was cut short.
		if res.Text != "" && !strings.HasSuffix(res.Text, "\n") {
			err = errors.Join(err, a.write("\n"))
		}
		return res, err
	}
}

func (a *answer) write(text string) error {
	if a.quiet || text == "" {
		return nil
	}
	if _, err := a.w.WriteString(text); err != nil {
		return err
	}
	return a.w.Flush()
}

func newRunResult(res *runtime.Result, load time.Duration) runResult {
	u, t := res.Usage, res.Timing
	return runResult{
		Text: res.Text, Tokens: res.Tokens, FinishReason: res.Finish.String(),
		Usage: runUsage{u.PromptTokens, u.CompletionTokens, u.CachedTokens},
		Timing: runTiming{
			LoadMS: millis(load), TTFTMS: millis(t.TimeToFirstToken),
			PrefillTokensPerSecond: perSecond(u.PromptTokens-u.CachedTokens, t.Prefill),
			DecodeTokensPerSecond:  perSecond(u.CompletionTokens-1, t.Decode),
		},
	}
}

// figures is the line of measurements after an answer.
func figures(r *runResult) string {
	s := fmt.Sprintf("prompt: %d tokens, %.1f tokens/s | decode: %d tokens, %.1f tokens/s | first token: %.0f ms",
		r.Usage.PromptTokens, r.Timing.PrefillTokensPerSecond, r.Usage.CompletionTokens, r.Timing.DecodeTokensPerSecond, r.Timing.TTFTMS)
	if m, err := procmem.Rollup(0); err == nil {
		s += memoryFigures(m)
	}
	return s
}

// memoryFigures counts a file's page as shared also while no other process
// happens to map it, or while it isn't on the disk yet: it costs nobody twice.
func memoryFigures(m procmem.Usage) string {
	return fmt.Sprintf(" | memory: %s private, %s shared", humanBytes(m.Anonymous), humanBytes(m.Rss-m.Anonymous))
}

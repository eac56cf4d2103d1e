package runtimetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dunlin-go/dunlin/runtime"
)

// Option changes a [Fake].
type Option func(*Fake)

// WithID sets the id by which requests name the model; "fake" without it.
func WithID(id string) Option { return func(f *Fake) { f.id = id } }

// WithReply scripts the answers: reply gets the prompt's text, which for
// messages is the rendered template. It is called from many goroutines.
func WithReply(reply func(prompt string) string) Option {
	return func(f *Fake) { f.reply = func(prompt string, _ uint64) string { return reply(prompt) } }
}

// WithContextLength sets how many tokens a prompt and its answer may have
// together; 4096 without it.
func WithContextLength(n int) Option { return func(f *Fake) { f.context = n } }

// WithBuffer sets how many events a stream holds for its reader; 16 without it.
func WithBuffer(events int) Option { return func(f *Fake) { f.buffer = events } }

// WithGate makes every token wait for a step of the gate.
func WithGate(g *Gate) Option { return func(f *Fake) { f.gate = g } }

// WithError makes every request fail at once with err.
func WithError(err error) Option { return func(f *Fake) { f.startErr = err } }

// WithErrorAfter makes every answer that gets as far fail with err after that
// many tokens.
func WithErrorAfter(tokens int, err error) Option {
	return func(f *Fake) { f.runErr, f.runErrAfter = err, tokens }
}

// Fake is a deterministic generator in memory. It is safe for concurrent use.
// Besides [runtime.Generator] it is a [runtime.Tokenizer], a
// [runtime.Templater] and a [runtime.StatsReader].
type Fake struct {
	id          string
	reply       func(prompt string, seed uint64) string
	context     int
	buffer      int
	gate        *Gate
	startErr    error
	runErr      error
	runErrAfter int

	mu     sync.Mutex // guards closed, and orders it with wg.Go
	closed bool
	done   chan struct{}
	wg     sync.WaitGroup

	running                         atomic.Int64
	steps, promptTokens, completion atomic.Int64
}

var (
	_ runtime.Generator   = (*Fake)(nil)
	_ runtime.Tokenizer   = (*Fake)(nil)
	_ runtime.Templater   = (*Fake)(nil)
	_ runtime.StatsReader = (*Fake)(nil)
)

// New makes a fake. Without [WithReply] its answer is a few words that depend
// on the prompt, and on the seed where the temperature isn't 0.
func New(opts ...Option) *Fake {
	f := &Fake{id: "fake", reply: babble, context: 4096, buffer: 16, done: make(chan struct{})}
	for _, opt := range opts {
		opt(f)
	}
	return f
}

// Info describes the fake.
func (f *Fake) Info() runtime.Info {
	return runtime.Info{ID: f.id, Name: "Fake", Architecture: "fake", ContextLength: f.context, Vocabulary: vocabulary}
}

// Stats reports the fake's figures. Those about memory are 0.
func (f *Fake) Stats() runtime.Stats {
	return runtime.Stats{
		Running: int(f.running.Load()), Steps: f.steps.Load(),
		PromptTokens: f.promptTokens.Load(), CompletionTokens: f.completion.Load(),
	}
}

// Ready reports whether requests are taken: an error after Close and where
// [WithError] makes them fail.
func (f *Fake) Ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return runtime.NewError(runtime.CodeCanceled, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return errClosed
	}
	return f.startErr
}

// Close ends the requests that are running and waits for their goroutines.
func (f *Fake) Close() error {
	f.mu.Lock()
	if !f.closed {
		f.closed = true
		close(f.done)
	}
	f.mu.Unlock()
	f.wg.Wait()
	return nil
}

var errClosed = &runtime.Error{Code: runtime.CodeClosed, Err: errors.New("the model was closed")}

// Start begins an answer.
func (f *Fake) Start(ctx context.Context, req runtime.Request) (*runtime.Stream, error) {
	if err := req.Validate(); err != nil {
		return nil, err
	}
	tokens, err := f.prompt(req)
	if err != nil {
		return nil, err
	}
	if len(tokens) >= f.context {
		return nil, runtime.NewError(runtime.CodeContextLength, &runtime.ContextLengthError{Prompt: len(tokens), Limit: f.context})
	}
	if err := ctx.Err(); err != nil {
		return nil, runtime.NewError(runtime.CodeCanceled, err)
	}
	if f.startErr != nil {
		return nil, runtime.NewError(runtime.CodeInternal, f.startErr)
	}

	r := &run{f: f, prompt: tokens, wake: make(chan struct{}, 1), begin: time.Now()}
	r.setRequest(req)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errClosed
	}
	var s *runtime.Stream
	s, r.w = runtime.NewStream(ctx, f.buffer, r.notify)
	f.running.Add(1)
	f.wg.Go(r.loop)
	return s, nil
}

func (f *Fake) prompt(req runtime.Request) ([]int32, error) {
	switch {
	case len(req.Messages) > 0:
		return tokenize(render(req.Messages, true), runtime.TokenizeOptions{AddSpecial: true}), nil
	case req.Prompt != "":
		return tokenize(req.Prompt, runtime.TokenizeOptions{AddSpecial: true, ParseSpecial: true}), nil
	}
	for i, id := range req.Tokens {
		if id < 0 || id >= vocabulary {
			return nil, &runtime.Error{
				Code: runtime.CodeInvalidRequest, Field: "tokens",
				Err: fmt.Errorf("token %d is %d, the vocabulary has %d", i, id, vocabulary),
			}
		}
	}
	return append([]int32(nil), req.Tokens...), nil
}

var words = [...]string{
	"time", "river", "café", "stone", "naïve", "light", "雪", "green", "voice", "🦆", "winter", "little", "日本語", "never", "open", "sea",
}

// babble is a text that depends on nothing but its arguments.
func babble(prompt string, seed uint64) string {
	h := seed ^ 14695981039346656037 // FNV-1a
	for i := range len(prompt) {
		h = (h ^ uint64(prompt[i])) * 1099511628211
	}
	next := func() uint64 { // splitmix64
		h += 0x9e3779b97f4a7c15
		z := h
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		return z ^ z>>31
	}
	var b strings.Builder
	for i := range 8 + next()%24 {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(words[next()%uint64(len(words))])
	}
	b.WriteByte('.')
	return b.String()
}

package runtime_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/dunlin-go/dunlin/runtime"
	"github.com/dunlin-go/dunlin/runtime/runtimetest"
)

func newFake(t *testing.T, opts ...runtimetest.Option) *runtimetest.Fake {
	t.Helper()
	f := runtimetest.New(opts...)
	t.Cleanup(func() { f.Close() })
	return f
}

func TestGenerate(t *testing.T) {
	f := newFake(t, runtimetest.WithReply(func(string) string { return "né" }))
	res, err := runtime.Generate(t.Context(), f, runtime.Request{Prompt: "x", Logprobs: true, TopLogprobs: 2})
	if err != nil {
		t.Fatal(err)
	}
	if res.Text != "né" || len(res.Tokens) != 4 || res.Tokens[3] != runtimetest.EOS || len(res.Logprobs) != 4 || len(res.Top) != 4 || len(res.Top[0]) != 2 {
		t.Errorf("got %+v", res)
	}
	if res.Finish != runtime.FinishStop || res.Usage != (runtime.Usage{PromptTokens: 2, CompletionTokens: 4}) || res.Timing.TimeToFirstToken <= 0 {
		t.Errorf("got %+v", res)
	}
	res, err = runtime.Generate(t.Context(), f, runtime.Request{Prompt: "x"})
	if err != nil || res.Logprobs != nil || res.Top != nil {
		t.Errorf("got %+v, %v", res, err)
	}
}

func TestGenerateFails(t *testing.T) {
	boom := errors.New("boom")
	res, err := runtime.Generate(t.Context(), newFake(t, runtimetest.WithError(boom)), runtime.Request{Prompt: "x"})
	if res != nil || !errors.Is(err, boom) {
		t.Errorf("what could not begin gave %+v, %v", res, err)
	}
	f := newFake(t, runtimetest.WithReply(func(string) string { return "abc" }), runtimetest.WithErrorAfter(2, boom))
	res, err = runtime.Generate(t.Context(), f, runtime.Request{Prompt: "x"})
	if !errors.Is(err, boom) || res == nil || res.Text != "ab" || len(res.Tokens) != 2 || res.Finish != 0 {
		t.Errorf("what failed in between gave %+v, %v", res, err)
	}
}

func TestAll(t *testing.T) {
	f := newFake(t, runtimetest.WithReply(func(string) string { return "abc" }))
	var text strings.Builder
	for ev, err := range runtime.All(t.Context(), f, runtime.Request{Prompt: "x"}) {
		if err != nil {
			t.Fatal(err)
		}
		text.WriteString(ev.Text)
	}
	if text.String() != "abc" {
		t.Errorf("got %q", text.String())
	}
	for range runtime.All(t.Context(), f, runtime.Request{Prompt: "x", IgnoreEOS: true}) {
		break
	}
	waitFor(t, "nothing runs", func() bool { return f.Stats().Running == 0 })
	calls := 0
	for ev, err := range runtime.All(t.Context(), f, runtime.Request{}) {
		if calls++; err == nil || ev.Kind != 0 {
			t.Errorf("an empty request gave %+v, %v", ev, err)
		}
	}
	if calls != 1 {
		t.Errorf("an empty request gave %d events", calls)
	}
}

type wrapper struct{ g runtime.Generator }

func (w wrapper) Info() runtime.Info { return w.g.Info() }
func (w wrapper) Start(ctx context.Context, req runtime.Request) (*runtime.Stream, error) {
	return w.g.Start(ctx, req)
}
func (w wrapper) Unwrap() runtime.Generator { return w.g }

type opaque struct{ runtime.Generator }

func TestAs(t *testing.T) {
	f := newFake(t)
	if tk, ok := runtime.As[runtime.Tokenizer](wrapper{wrapper{f}}); !ok || tk != runtime.Tokenizer(f) {
		t.Error("a wrapped tokenizer wasn't found")
	}
	if _, ok := runtime.As[runtime.Scorer](wrapper{f}); ok {
		t.Error("a scorer out of nothing")
	}
	if _, ok := runtime.As[runtime.Tokenizer](opaque{f}); ok {
		t.Error("found through what doesn't unwrap")
	}
	if _, ok := runtime.As[runtime.Tokenizer](wrapper{nil}); ok {
		t.Error("found behind nothing")
	}
	if _, ok := runtime.As[runtime.Tokenizer](nil); ok {
		t.Error("found in nothing")
	}
}

func TestNewError(t *testing.T) {
	boom := errors.New("boom")
	long := &runtime.ContextLengthError{Prompt: 9, Limit: 8}
	for _, tc := range []struct {
		err  error
		want runtime.Code
	}{
		{boom, runtime.CodeNumerics},
		{long, runtime.CodeNumerics},
		{context.Canceled, runtime.CodeCanceled},
		{context.DeadlineExceeded, runtime.CodeDeadline},
		{&runtime.Error{Code: runtime.CodeClosed, Err: boom}, runtime.CodeClosed},
		{errors.Join(boom, &runtime.Error{Code: runtime.CodeOverloaded, Err: boom}), runtime.CodeOverloaded},
	} {
		err := runtime.NewError(runtime.CodeNumerics, tc.err)
		if runtime.CodeOf(err) != tc.want || !errors.Is(err, tc.err) || err.Error() != tc.err.Error() {
			t.Errorf("%v became %v (%v), want %v", tc.err, err, runtime.CodeOf(err), tc.want)
		}
	}
	if runtime.NewError(runtime.CodeInternal, nil) != nil {
		t.Error("nil became an error")
	}
	if runtime.CodeOf(boom) != runtime.CodeInternal {
		t.Error("an error without a code isn't internal")
	}
	seen := map[string]bool{}
	for c := runtime.CodeInternal; c <= runtime.CodeClosed; c++ {
		if s := c.String(); s == "" || seen[s] || strings.HasPrefix(s, "code ") {
			t.Errorf("code %d is called %q", c, s)
		}
		seen[c.String()] = true
	}
	if got := runtime.Code(math.MaxUint8).String(); got != "code 255" {
		t.Errorf("an unknown code is called %q", got)
	}
	if a, b := long.Error(), (&runtime.ContextLengthError{Prompt: 9, Limit: 8, AtLeast: true}).Error(); a == b || !strings.Contains(b, "at least 9") {
		t.Errorf("got %q and %q", a, b)
	}
}

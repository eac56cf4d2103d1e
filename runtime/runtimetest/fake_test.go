package runtimetest_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/dunlin-go/dunlin/runtime"
	"github.com/dunlin-go/dunlin/runtime/runtimetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, opts ...runtimetest.Option) *runtimetest.Fake {
	t.Helper()
	f := runtimetest.New(opts...)
	t.Cleanup(func() { f.Close() })
	return f
}

func TestConformance(t *testing.T) {
	for _, tc := range []struct {
		name string
		opts []runtimetest.Option
	}{
		{"default", nil},
		{"smallest buffer", []runtimetest.Option{runtimetest.WithBuffer(1)}},
		{"short context", []runtimetest.Option{runtimetest.WithContextLength(512)}},
		{"invalid UTF-8", []runtimetest.Option{runtimetest.WithReply(func(string) string {
			return "a\xff\xe2\x82b\xf0\x9f\xa6\x86 \xed\xa0\x80 and a long tail of words\xe2"
		})}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			runtimetest.Conformance(t, func(t *testing.T) runtime.Generator { return open(t, tc.opts...) })
		})
	}
}

func TestReply(t *testing.T) {
	f := open(t, runtimetest.WithReply(func(prompt string) string { return "You said: " + prompt }))
	for _, tc := range []struct {
		name   string
		req    runtime.Request
		text   string
		finish runtime.FinishReason
		usage  runtime.Usage
	}{
		{"prompt", runtime.Request{Prompt: "hé"}, "You said: hé", runtime.FinishStop, runtime.Usage{PromptTokens: 4, CompletionTokens: 14}},
		{
			"messages",
			runtime.Request{Messages: []runtime.Message{{Role: "user", Content: "x"}}},
			"You said: <|user|>\nx\n<|assistant|>\n",
			runtime.FinishStop,
			runtime.Usage{PromptTokens: 26, CompletionTokens: 36},
		},
		{"tokens", runtime.Request{Tokens: []int32{'o', 'k'}}, "You said: ok", runtime.FinishStop, runtime.Usage{PromptTokens: 2, CompletionTokens: 13}},
		{"length", runtime.Request{Prompt: "x", MaxTokens: 3}, "You", runtime.FinishLength, runtime.Usage{PromptTokens: 2, CompletionTokens: 3}},
		{"length inside a rune", runtime.Request{Prompt: "é", MaxTokens: 11}, "You said: \uFFFD", runtime.FinishLength, runtime.Usage{PromptTokens: 3, CompletionTokens: 11}},
		{"length is the end token's place", runtime.Request{Prompt: "x", MaxTokens: 12}, "You said: x", runtime.FinishStop, runtime.Usage{PromptTokens: 2, CompletionTokens: 12}},
		{"ignore eos", runtime.Request{Prompt: "x", MaxTokens: 15, IgnoreEOS: true}, "You said: xYou", runtime.FinishLength, runtime.Usage{PromptTokens: 2, CompletionTokens: 15}},
		{"stop", runtime.Request{Prompt: "x", Stop: []string{"id:"}}, "You sa", runtime.FinishStop, runtime.Usage{PromptTokens: 2, CompletionTokens: 9}},
		{"stop held back, not met", runtime.Request{Prompt: "x", Stop: []string{"xx"}}, "You said: x", runtime.FinishStop, runtime.Usage{PromptTokens: 2, CompletionTokens: 12}},
		{"the earliest stop wins", runtime.Request{Prompt: "x", Stop: []string{"said!", "aid"}}, "You s", runtime.FinishStop, runtime.Usage{PromptTokens: 2, CompletionTokens: 8}},
		{"special tokens in a prompt", runtime.Request{Prompt: "<bos>x<eos>"}, "You said: x<eos>", runtime.FinishStop, runtime.Usage{PromptTokens: 4, CompletionTokens: 17}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			res, err := runtime.Generate(t.Context(), f, tc.req)
			if err != nil {
				t.Fatal(err)
			}
			if res.Text != tc.text || res.Finish != tc.finish || res.Usage != tc.usage {
				t.Errorf("got %q, %v, %+v; want %q, %v, %+v", res.Text, res.Finish, res.Usage, tc.text, tc.finish, tc.usage)
			}
		})
	}
}

func TestGate(t *testing.T) {
	gate := runtimetest.NewGate()
	f := open(t, runtimetest.WithGate(gate), runtimetest.WithReply(func(string) string { return "abcdef" }))
	s, err := f.Start(t.Context(), runtime.Request{Prompt: "x"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range 2 { // progress needs no step
		if ev, err := s.Recv(); err != nil || ev.Kind != runtime.EventProgress {
			t.Fatalf("got %v, %v", ev, err)
		}
	}
	gate.Step(2)
	for _, want := range []string{"a", "b"} {
		if ev, err := s.Recv(); err != nil || ev.Text != want {
			t.Fatalf("got %v, %v; want %q", ev, err, want)
		}
	}
	var none [1]runtime.Event
	if n, err := s.Drain(none[:]); n != 0 || err != nil {
		t.Fatalf("a third token passed: %v, %v", none, err)
	}
	gate.Open()
	var rest strings.Builder
	for ev, err := range s.All() {
		if err != nil {
			t.Fatal(err)
		}
		rest.WriteString(ev.Text)
	}
	if rest.String() != "cdef" {
		t.Errorf("rest is %q", rest.String())
	}
}

func TestErrors(t *testing.T) {
	boom := errors.New("boom")
	f := open(t, runtimetest.WithError(boom))
	if _, err := f.Start(t.Context(), runtime.Request{Prompt: "x"}); !errors.Is(err, boom) || runtime.CodeOf(err) != runtime.CodeInternal {
		t.Errorf("Start gave %v", err)
	}
	if err := f.Ready(t.Context()); !errors.Is(err, boom) {
		t.Errorf("Ready gave %v", err)
	}

	f = open(t, runtimetest.WithErrorAfter(2, &runtime.Error{Code: runtime.CodeNumerics, Err: boom}),
		runtimetest.WithReply(func(string) string { return "abc" }))
	res, err := runtime.Generate(t.Context(), f, runtime.Request{Prompt: "x"})
	if runtime.CodeOf(err) != runtime.CodeNumerics || res == nil || res.Text != "ab" {
		t.Errorf("got %+v, %v", res, err)
	}
}

func TestClose(t *testing.T) {
	f := runtimetest.New(runtimetest.WithGate(runtimetest.NewGate()))
	blocked, err := f.Start(t.Context(), runtime.Request{Prompt: "x"})
	if err != nil {
		t.Fatal(err)
	}
	full := runtimetest.New(runtimetest.WithBuffer(1))
	unread, err := full.Start(context.Background(), runtime.Request{Prompt: "x"})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		f.Close()
		full.Close()
	}
	for _, s := range []*runtime.Stream{blocked, unread} {
		for {
			if _, err = s.Recv(); err != nil {
				break
			}
		}
		if runtime.CodeOf(err) != runtime.CodeClosed {
			t.Errorf("the stream ended with %v", err)
		}
	}
	if _, err := f.Start(t.Context(), runtime.Request{Prompt: "x"}); runtime.CodeOf(err) != runtime.CodeClosed {
		t.Errorf("Start after Close gave %v", err)
	}
	if err := f.Ready(t.Context()); runtime.CodeOf(err) != runtime.CodeClosed {
		t.Errorf("Ready after Close gave %v", err)
	}
	if n := f.Stats().Running; n != 0 {
		t.Errorf("%d still run", n)
	}
}

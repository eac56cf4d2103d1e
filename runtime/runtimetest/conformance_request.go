package runtimetest

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/dunlin-go/dunlin/runtime"
)

func testInvalid(t *testing.T, g runtime.Generator) {
	long := strings.Repeat("x", 257)
	for _, tc := range []struct {
		name string
		req  runtime.Request
	}{
		{"empty", runtime.Request{}},
		{"two inputs", runtime.Request{Prompt: "a", Tokens: []int32{1}}},
		{"three inputs", runtime.Request{Prompt: "a", Tokens: []int32{1}, Messages: []runtime.Message{{Role: "user"}}}},
		{"no role", runtime.Request{Messages: []runtime.Message{{Content: "a"}}}},
		{"negative max tokens", runtime.Request{Prompt: "a", MaxTokens: -1}},
		{"smallest max tokens", runtime.Request{Prompt: "a", MaxTokens: math.MinInt}},
		{"empty stop", runtime.Request{Prompt: "a", Stop: []string{""}}},
		{"long stop", runtime.Request{Prompt: "a", Stop: []string{long}}},
		{"many stops", runtime.Request{Prompt: "a", Stop: strings.Split(long[:17], "")}},
		{"negative temperature", runtime.Request{Prompt: "a", Temperature: -0.1}},
		{"temperature NaN", runtime.Request{Prompt: "a", Temperature: math.NaN()}},
		{"temperature infinite", runtime.Request{Prompt: "a", Temperature: math.Inf(1)}},
		{"negative top-k", runtime.Request{Prompt: "a", TopK: -1}},
		{"negative top-p", runtime.Request{Prompt: "a", TopP: -0.1}},
		{"top-p over 1", runtime.Request{Prompt: "a", TopP: 1.1}},
		{"top-p NaN", runtime.Request{Prompt: "a", TopP: math.NaN()}},
		{"many top logprobs", runtime.Request{Prompt: "a", Logprobs: true, TopLogprobs: 150000}},
		{"negative top logprobs", runtime.Request{Prompt: "a", Logprobs: true, TopLogprobs: -1}},
		{"top logprobs alone", runtime.Request{Prompt: "a", TopLogprobs: 1}},
		{"negative token", runtime.Request{Tokens: []int32{1, -1}}},
		{"unknown token", runtime.Request{Tokens: []int32{1, math.MaxInt32}}},
		{"first unknown token", runtime.Request{Tokens: []int32{int32(g.Info().Vocabulary)}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.name == "first unknown token" && g.Info().Vocabulary == 0 {
				t.Skip("the vocabulary's size isn't known")
			}
			s, err := g.Start(limited(t), tc.req)
			if err == nil {
				s.Close()
				t.Fatal("it was accepted")
			}
			if len(tc.req.Tokens) > 0 {
				unsupported(t, "Tokens", err)
			}
			var e *runtime.Error
			if !errors.As(err, &e) || e.Code != runtime.CodeInvalidRequest || e.Field == "" {
				t.Errorf("the error is %#v", err)
			}
			if strings.ContainsRune(err.Error(), '\n') || err.Error() == "" {
				t.Errorf("the error's text is not one line: %q", err)
			}
		})
	}
	quiet(t, g)
	if res := generate(t, g, runtime.Request{Prompt: prompt, MaxTokens: 2}); len(res.Tokens) == 0 {
		t.Error("nothing is generated any more")
	}
}

// testExtreme has requests that are odd but allowed.
func testExtreme(t *testing.T, g runtime.Generator) {
	seed := uint64(math.MaxUint64)
	for _, tc := range []struct {
		name string
		req  runtime.Request
	}{
		{"huge top-k", runtime.Request{Prompt: prompt, MaxTokens: 2, TopK: math.MaxInt, Temperature: 1}},
		{"top-k of one", runtime.Request{Prompt: prompt, MaxTokens: 2, TopK: 1, Temperature: 1}},
		{"least top-p", runtime.Request{Prompt: prompt, MaxTokens: 2, TopP: math.SmallestNonzeroFloat64, Temperature: 1}},
		{"hot", runtime.Request{Prompt: prompt, MaxTokens: 2, Temperature: 100, Seed: &seed}},
		{"cold", runtime.Request{Prompt: prompt, MaxTokens: 2, Temperature: math.SmallestNonzeroFloat64}},
		{"one byte", runtime.Request{Prompt: " ", MaxTokens: 2}},
		{"zero byte", runtime.Request{Prompt: "\x00", MaxTokens: 2}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			res, err := runtime.Generate(limited(t), g, tc.req)
			unsupported(t, tc.name, err)
			if err != nil {
				t.Fatal(err)
			}
			if len(res.Tokens) == 0 {
				t.Error("no token")
			}
		})
	}
	t.Run("top-k of one is greedy", func(t *testing.T) {
		greedy := generate(t, g, runtime.Request{Prompt: prompt, MaxTokens: 8})
		res, err := runtime.Generate(limited(t), g, runtime.Request{Prompt: prompt, MaxTokens: 8, TopK: 1, Temperature: 2})
		unsupported(t, "TopK", err)
		if err != nil {
			t.Fatal(err)
		}
		if res.Text != greedy.Text {
			t.Errorf("got %q, greedy decoding gives %q", res.Text, greedy.Text)
		}
	})
	t.Run("huge max tokens", func(t *testing.T) { // nothing may be allocated for it in advance
		s := start(limited(t), t, g, runtime.Request{Prompt: prompt, MaxTokens: math.MaxInt})
		recvToken(t, s)
		s.Close()
		quiet(t, g)
	})
	t.Run("invalid UTF-8", func(t *testing.T) { // accepted or refused
		for _, text := range []string{"\xff", "a\xe2\x82", "\xed\xa0\x80", "\xc0\x80 tail", strings.Repeat("\xf0", 33)} {
			for _, req := range []runtime.Request{
				{Prompt: text, MaxTokens: 2}, {Messages: []runtime.Message{{Role: "user", Content: text}}, MaxTokens: 2},
			} {
				_, err := runtime.Generate(limited(t), g, req)
				if code := runtime.CodeOf(err); err != nil && code != runtime.CodeInvalidRequest && code != runtime.CodeUnsupported {
					t.Errorf("%q: %v", text, err)
				}
			}
		}
	})
	t.Run("tokens are taken as they are", func(t *testing.T) {
		ids := []int32{1, 2, 3}
		res, err := runtime.Generate(limited(t), g, runtime.Request{Tokens: ids, MaxTokens: 1})
		unsupported(t, "Tokens", err)
		if err != nil {
			t.Fatal(err)
		}
		if res.Usage.PromptTokens != len(ids) || ids[0] != 1 || ids[1] != 2 || ids[2] != 3 {
			t.Errorf("usage is %+v, the ids are now %v", res.Usage, ids)
		}
	})
	quiet(t, g)
}

func testContextLength(t *testing.T, g runtime.Generator) {
	limit := g.Info().ContextLength
	if limit == 0 || limit > 1<<17 {
		t.Skipf("ContextLength: a context of %d tokens isn't known or too long to be filled", limit)
	}
	ids := make([]int32, limit+8)
	for i := range ids {
		ids[i] = int32(1 + i%2)
	}
	for _, n := range []int{limit + 8, limit + 1, limit} {
		s, err := g.Start(limited(t), runtime.Request{Tokens: ids[:n]})
		if err == nil {
			s.Close()
			t.Fatalf("a prompt of %d tokens was accepted, the context holds %d", n, limit)
		}
		unsupported(t, "Tokens", err)
		var long *runtime.ContextLengthError
		if runtime.CodeOf(err) != runtime.CodeContextLength || !errors.As(err, &long) {
			t.Fatalf("a prompt of %d tokens gave %v", n, err)
		}
		if long.Limit != limit || (long.Prompt != n && !long.AtLeast) || long.Prompt > n || long.Prompt < limit {
			t.Errorf("a prompt of %d tokens gave %+v", n, long)
		}
	}
	for name, req := range map[string]runtime.Request{
		"Prompt":   {Prompt: strings.Repeat("word and ", limit)},
		"Messages": {Messages: []runtime.Message{{Role: "user", Content: strings.Repeat("word and ", limit)}}},
	} {
		_, err := runtime.Generate(limited(t), g, req)
		if code := runtime.CodeOf(err); code != runtime.CodeContextLength && code != runtime.CodeUnsupported {
			t.Errorf("%s: %v", name, err)
		}
	}
	quiet(t, g)
	if limit > 1024 {
		return // to fill it takes too long
	}
	for _, room := range []int{1, 3} {
		res := generate(t, g, runtime.Request{Tokens: ids[:limit-room], IgnoreEOS: true})
		if res.Finish != runtime.FinishLength || len(res.Tokens) < 1 || len(res.Tokens) > room+1 {
			t.Errorf("with room for %d: %d tokens, %v", room, len(res.Tokens), res.Finish)
		}
	}
}

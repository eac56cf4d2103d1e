package runtime_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/dunlin-go/dunlin/runtime"
)

func TestValidate(t *testing.T) {
	seed := uint64(0)
	valid := map[string]runtime.Request{
		"prompt":    {Prompt: "a"},
		"messages":  {Messages: []runtime.Message{{Role: "user"}}},
		"tokens":    {Tokens: []int32{-1}}, // whether an id is known is for the model to say
		"the most":  {Prompt: "a", MaxTokens: math.MaxInt, Temperature: 100, TopK: math.MaxInt, TopP: 1, Logprobs: true, TopLogprobs: 20, Seed: &seed, Stop: strings.Split(strings.Repeat("x", 16), "")},
		"long stop": {Prompt: "a", Stop: []string{strings.Repeat("x", 256)}},
	}
	for name, req := range valid {
		if err := req.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, tc := range []struct {
		name  string
		field string
		set   func(*runtime.Request)
	}{
		{"empty", "messages", func(r *runtime.Request) { r.Prompt = "" }},
		{"two inputs", "messages", func(r *runtime.Request) { r.Tokens = []int32{1} }},
		{"many messages", "messages", func(r *runtime.Request) { r.Prompt, r.Messages = "", make([]runtime.Message, 65537) }},
		{"no role", "messages", func(r *runtime.Request) {
			r.Prompt, r.Messages = "", []runtime.Message{{Role: "user"}, {Content: "b"}}
		}},
		{"negative max tokens", "max_tokens", func(r *runtime.Request) { r.MaxTokens = -1 }},
		{"many stops", "stop", func(r *runtime.Request) { r.Stop = make([]string, 17) }},
		{"empty stop", "stop", func(r *runtime.Request) { r.Stop = []string{"a", ""} }},
		{"long stop", "stop", func(r *runtime.Request) { r.Stop = []string{strings.Repeat("x", 257)} }},
		{"negative temperature", "temperature", func(r *runtime.Request) { r.Temperature = -math.SmallestNonzeroFloat64 }},
		{"high temperature", "temperature", func(r *runtime.Request) { r.Temperature = 100.1 }},
		{"temperature NaN", "temperature", func(r *runtime.Request) { r.Temperature = math.NaN() }},
		{"temperature infinite", "temperature", func(r *runtime.Request) { r.Temperature = math.Inf(1) }},
		{"negative top-k", "top_k", func(r *runtime.Request) { r.TopK = math.MinInt }},
		{"negative top-p", "top_p", func(r *runtime.Request) { r.TopP = -0.1 }},
		{"high top-p", "top_p", func(r *runtime.Request) { r.TopP = math.Nextafter(1, 2) }},
		{"top-p NaN", "top_p", func(r *runtime.Request) { r.TopP = math.NaN() }},
		{"negative top logprobs", "top_logprobs", func(r *runtime.Request) { r.Logprobs, r.TopLogprobs = true, -1 }},
		{"many top logprobs", "top_logprobs", func(r *runtime.Request) { r.Logprobs, r.TopLogprobs = true, 21 }},
		{"top logprobs alone", "top_logprobs", func(r *runtime.Request) { r.TopLogprobs = 1 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req := runtime.Request{Prompt: "a"}
			tc.set(&req)
			err := req.Validate()
			var e *runtime.Error
			if !errors.As(err, &e) || e.Code != runtime.CodeInvalidRequest || e.Field != tc.field {
				t.Fatalf("got %#v", err)
			}
			if s := err.Error(); s == "" || len(s) > 200 || strings.Contains(s, "\n") {
				t.Errorf("the error's text is %q", s)
			}
		})
	}
}

package httpapi

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin-go/dunlin/runtime"
	"github.com/dunlin-go/dunlin/runtime/runtimetest"
)

func TestRefused(t *testing.T) {
	e := engine(New(fake(t)))
	long := strings.Repeat("x", 300)
	for _, tc := range []struct{ body, code, param string }{
		// not a request
		{``, "invalid_json", ""},
		{`{`, "invalid_json", ""},
		{`[]`, "invalid_json", ""},
		{`"text"`, "invalid_json", ""},
		{ask("") + `x`, "invalid_json", ""},
		{ask(`"user":"` + "\xff" + `"`), "invalid_json", ""},
		{ask(`"user":"` + "a\nb" + `"`), "invalid_json", ""},
		{ask(`"temperature":NaN`), "invalid_json", ""},
		{ask(`"temperature":.5`), "invalid_json", ""},
		{strings.Repeat("[", 1<<20), "invalid_json", ""},
		{ask(`"metadata":` + strings.Repeat(`{"a":`, 100) + `1` + strings.Repeat(`}`, 100)), "invalid_json", ""},
		{`{}`, "missing_required_parameter", "messages"},
		{`{"messages":[]}`, "missing_required_parameter", "messages"},
		{`{"messages":null}`, "missing_required_parameter", "messages"},

		// of OpenAI's, but not done here
		{ask(`"n":2`), "unsupported_parameter", "n"},
		{ask(`"n":0`), "unsupported_parameter", "n"},
		{ask(`"tools":[{"type":"function"}]`), "unsupported_parameter", "tools"},
		{ask(`"tool_choice":"auto"`), "unsupported_parameter", "tool_choice"},
		{ask(`"tool_choice":{"type":"function"}`), "unsupported_parameter", "tool_choice"},
		{ask(`"functions":[{}]`), "unsupported_parameter", "functions"},
		{ask(`"function_call":"auto"`), "unsupported_parameter", "function_call"},
		{ask(`"response_format":{"type":"json_object"}`), "unsupported_parameter", "response_format"},
		{ask(`"response_format":{"type":"json_schema","json_schema":{}}`), "unsupported_parameter", "response_format"},
		{ask(`"response_format":{"type":"text","type":"json_object"}`), "unsupported_parameter", "response_format"},
		{ask(`"response_format":"text"`), "unsupported_parameter", "response_format"},
		{ask(`"logit_bias":{"50256":-100}`), "unsupported_parameter", "logit_bias"},
		{ask(`"presence_penalty":0.5`), "unsupported_parameter", "presence_penalty"},
		{ask(`"frequency_penalty":-1`), "unsupported_parameter", "frequency_penalty"},
		{ask(`"frequency_penalty":"0"`), "unsupported_parameter", "frequency_penalty"},
		{ask(`"modalities":["text","audio"]`), "unsupported_parameter", "modalities"},
		{ask(`"audio":{"voice":"alloy"}`), "unsupported_parameter", "audio"},
		{ask(`"prediction":{"type":"content"}`), "unsupported_parameter", "prediction"},
		{ask(`"store":true`), "unsupported_parameter", "store"},
		{ask(`"service_tier":"flex"`), "unsupported_parameter", "service_tier"},
		{ask(`"reasoning_effort":"low"`), "unsupported_parameter", "reasoning_effort"},
		{ask(`"verbosity":"low"`), "unsupported_parameter", "verbosity"},
		{ask(`"web_search_options":{}`), "unsupported_parameter", "web_search_options"},
		{ask(`"moderation":{}`), "unsupported_parameter", "moderation"},
		{ask(`"stream":true,"stream_options":{"include_obfuscation":true}`), "unsupported_parameter", "stream_options.include_obfuscation"},

		// unknown or twice
		{ask(`"typo":1`), "unknown_parameter", "typo"},
		{ask(`"typo":null`), "unknown_parameter", "typo"},
		{ask(`"":1`), "unknown_parameter", ""},
		{ask(`"` + long + `":1`), "unknown_parameter", long[:64] + "…"},
		{ask(`"seed":1,"seed":2`), "duplicate_parameter", "seed"},
		{ask(`"seed":1,"se\u0065d":2`), "duplicate_parameter", "seed"},
		{ask(`"messages":[]`), "duplicate_parameter", "messages"},
		{ask(`"stream":true,"stream_options":{"typo":1}`), "unknown_parameter", "stream_options.typo"},

		// of the wrong type
		{`{"messages":"Hi"}`, "invalid_type", "messages"},
		{`{"messages":{"role":"user"}}`, "invalid_type", "messages"},
		{ask(`"model":1`), "invalid_type", "model"},
		{ask(`"max_tokens":"10"`), "invalid_type", "max_tokens"},
		{ask(`"max_tokens":true`), "invalid_type", "max_tokens"},
		{ask(`"temperature":"1"`), "invalid_type", "temperature"},
		{ask(`"top_p":[]`), "invalid_type", "top_p"},
		{ask(`"top_k":{}`), "invalid_type", "top_k"},
		{ask(`"seed":"1"`), "invalid_type", "seed"},
		{ask(`"stop":1`), "invalid_type", "stop"},
		{ask(`"stop":["a",1]`), "invalid_type", "stop[1]"},
		{ask(`"stream":"true"`), "invalid_type", "stream"},
		{ask(`"stream":1`), "invalid_type", "stream"},
		{ask(`"stream_options":true`), "invalid_type", "stream_options"},
		{ask(`"stream":true,"stream_options":{"include_usage":1}`), "invalid_type", "stream_options.include_usage"},
		{ask(`"logprobs":1`), "invalid_type", "logprobs"},
		{ask(`"top_logprobs":true`), "invalid_type", "top_logprobs"},
		{ask(`"ignore_eos":1`), "invalid_type", "ignore_eos"},
		{ask(`"user":1`), "invalid_type", "user"},
		{ask(`"metadata":"a"`), "invalid_type", "metadata"},
		{ask(`"parallel_tool_calls":1`), "invalid_type", "parallel_tool_calls"},

		// of the wrong value
		{ask(`"max_tokens":0`), "invalid_value", "max_tokens"},
		{ask(`"max_tokens":-1`), "invalid_value", "max_tokens"},
		{ask(`"max_tokens":1.5`), "invalid_value", "max_tokens"},
		{ask(`"max_tokens":1e3`), "invalid_value", "max_tokens"},
		{ask(`"max_tokens":99999999999999999999`), "invalid_value", "max_tokens"},
		{ask(`"max_completion_tokens":0`), "invalid_value", "max_completion_tokens"},
		{ask(`"max_tokens":5,"max_completion_tokens":5`), "invalid_value", "max_tokens"},
		{ask(`"temperature":-0.1`), "invalid_value", "temperature"},
		{ask(`"temperature":1e999`), "invalid_value", "temperature"},
		{ask(`"temperature":1000`), "invalid_value", "temperature"},
		{ask(`"top_p":1.5`), "invalid_value", "top_p"},
		{ask(`"top_p":-0.5`), "invalid_value", "top_p"},
		{ask(`"top_k":-1`), "invalid_value", "top_k"},
		{ask(`"seed":1.5`), "invalid_value", "seed"},
		{ask(`"seed":18446744073709551616`), "invalid_value", "seed"},
		{ask(`"top_logprobs":5`), "invalid_value", "top_logprobs"},
		{ask(`"logprobs":true,"top_logprobs":150000`), "invalid_value", "top_logprobs"},
		{ask(`"logprobs":true,"top_logprobs":-1`), "invalid_value", "top_logprobs"},
		{ask(`"stop":""`), "invalid_value", "stop"},
		{ask(`"stop":"` + long + `"`), "invalid_value", "stop"},
		{ask(`"stop":["a"` + strings.Repeat(`,"b"`, 16) + `]`), "invalid_value", "stop"},
		{ask(`"stream_options":{"include_usage":true}`), "invalid_value", "stream_options"},

		// messages
		{`{"messages":["Hi"]}`, "invalid_type", "messages[0]"},
		{`{"messages":[{"role":"user","content":"a"},{"content":"Hi"}]}`, "missing_required_parameter", "messages[1].role"},
		{`{"messages":[{"role":"user"}]}`, "missing_required_parameter", "messages[0].content"},
		{`{"messages":[{"role":"user","content":null}]}`, "missing_required_parameter", "messages[0].content"},
		{`{"messages":[{"role":"user","content":1}]}`, "invalid_type", "messages[0].content"},
		{`{"messages":[{"role":1,"content":""}]}`, "invalid_type", "messages[0].role"},
		{`{"messages":[{"role":"critic","content":""}]}`, "invalid_value", "messages[0].role"},
		{`{"messages":[{"role":"tool","content":""}]}`, "unsupported_parameter", "messages[0].role"},
		{`{"messages":[{"role":"user","content":"","name":"Ann"}]}`, "unsupported_parameter", "messages[0].name"},
		{`{"messages":[{"role":"user","content":"","typo":1}]}`, "unknown_parameter", "messages[0].typo"},
		{`{"messages":[{"role":"user","content":"","content":""}]}`, "duplicate_parameter", "messages[0].content"},
		{`{"messages":[{"role":"assistant","content":"","tool_calls":[{}]}]}`, "unsupported_parameter", "messages[0].tool_calls"},
		{`{"messages":[{"role":"assistant","content":"","refusal":"no"}]}`, "unsupported_parameter", "messages[0].refusal"},
		{`{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:,"}}]}]}`, "unsupported_parameter", "messages[0].content[0]"},
		{`{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"input_audio"}]}]}`, "unsupported_parameter", "messages[0].content[1]"},
		{`{"messages":[{"role":"user","content":[{"type":"text","text":1}]}]}`, "invalid_type", "messages[0].content[0].text"},
		{`{"messages":[{"role":"user","content":[{"text":"a"}]}]}`, "missing_required_parameter", "messages[0].content[0].type"},
		{`{"messages":[{"role":"user","content":[{"type":"text","text":"a","image_url":{}}]}]}`, "unsupported_parameter", "messages[0].content[0].image_url"},
		{`{"messages":[{"role":"user","content":["a"]}]}`, "invalid_type", "messages[0].content[0]"},
	} {
		name := tc.body
		if len(name) > 100 {
			name = name[:100]
		}
		t.Run(name, func(t *testing.T) {
			got := wantError(t, do(e, "POST", chatPath, tc.body), 400, tc.code, tc.param)
			if got.Error.Type != kindInvalid || len(got.Error.Message) > 300 {
				t.Errorf("got %+v", got)
			}
		})
	}
	for _, tc := range []struct{ body, code, param string }{
		{`{}`, "missing_required_parameter", "prompt"},
		{`{"prompt":""}`, "missing_required_parameter", "prompt"},
		{`{"prompt":[]}`, "missing_required_parameter", "prompt"},
		{`{"prompt":{}}`, "invalid_type", "prompt"},
		{`{"prompt":["a","b"]}`, "unsupported_parameter", "prompt[1]"},
		{`{"prompt":["a",1]}`, "unsupported_parameter", "prompt[1]"},
		{`{"prompt":[[1],2]}`, "unsupported_parameter", "prompt[1]"},
		{`{"prompt":[1,"a"]}`, "invalid_value", "prompt[1]"},
		{`{"prompt":[-1]}`, "invalid_value", "prompt[0]"},
		{`{"prompt":[1.5]}`, "invalid_value", "prompt[0]"},
		{`{"prompt":[2147483648]}`, "invalid_value", "prompt[0]"},
		{`{"prompt":[1,999999]}`, "invalid_value", "prompt"},
		{`{"prompt":"a","echo":true}`, "unsupported_parameter", "echo"},
		{`{"prompt":"a","best_of":2}`, "unsupported_parameter", "best_of"},
		{`{"prompt":"a","suffix":"b"}`, "unsupported_parameter", "suffix"},
		{`{"prompt":"a","logprobs":1}`, "unsupported_parameter", "logprobs"},
		{`{"prompt":"a","messages":[]}`, "unknown_parameter", "messages"},
		{`{"prompt":"` + strings.Repeat("a", 5000) + `"}`, "context_length_exceeded", "prompt"},
	} {
		t.Run("completion "+tc.body[:min(60, len(tc.body))], func(t *testing.T) {
			wantError(t, do(e, "POST", "/v1/completions", tc.body), 400, tc.code, tc.param)
		})
	}
	t.Run("logprobs without tokens", func(t *testing.T) {
		e := engine(New(opaque{fake(t)}))
		wantError(t, do(e, "POST", chatPath, ask(`"logprobs":true`)), 400, "unsupported_parameter", "logprobs")
	})
}

func seed(n uint64) *uint64 { return &n }

func TestParse(t *testing.T) {
	hi := []runtime.Message{{Role: "user", Content: "Hi"}}
	for _, tc := range []struct {
		body string
		want runtime.Request
	}{
		{ask(""), runtime.Request{Messages: hi, Temperature: 1}},
		{ask(`"temperature":null,"stop":null,"max_tokens":null,"tools":null,"n":null,"seed":null`), runtime.Request{Messages: hi, Temperature: 1}},
		{ask(`"n":1,"store":false,"user":"me","metadata":{"a":"b"},"logit_bias":{},"presence_penalty":0,"frequency_penalty":0.0,"tools":[],"response_format":{"type":"text"},"modalities":["text"],"service_tier":"auto","tool_choice":"none","parallel_tool_calls":true,"safety_identifier":"s","prompt_cache_key":"k","prompt_cache_retention":"24h","verbosity":"medium","reasoning_effort":"none"`), runtime.Request{Messages: hi, Temperature: 1}},
		{
			ask(`"temperature":0,"top_p":0.5,"top_k":7,"max_tokens":9,"seed":5,"stop":"x","logprobs":true,"top_logprobs":2,"ignore_eos":true`),
			runtime.Request{Messages: hi, TopP: 0.5, TopK: 7, MaxTokens: 9, Seed: seed(5), Stop: []string{"x"}, Logprobs: true, TopLogprobs: 2, IgnoreEOS: true},
		},
		{ask(`"max_completion_tokens":9,"stop":["a","\u00e9\n"]`), runtime.Request{Messages: hi, Temperature: 1, MaxTokens: 9, Stop: []string{"a", "é\n"}}},
		{ask(`"max_tokens":9223372036854775807`), runtime.Request{Messages: hi, Temperature: 1, MaxTokens: math.MaxInt32}},
		{ask(`"top_p":0`), runtime.Request{Messages: hi, Temperature: 1, TopP: 1e-9}},
		{ask(`"seed":-1`), runtime.Request{Messages: hi, Temperature: 1, Seed: seed(math.MaxUint64)}},
		{ask(`"seed":18446744073709551615`), runtime.Request{Messages: hi, Temperature: 1, Seed: seed(math.MaxUint64)}},
		{
			`{"messages":[{"role":"developer","content":"a\ud83e\udd86\\\"\u0000\ud800"},{"role":"assistant","content":"b","refusal":null,"tool_calls":null,"annotations":[]},{"role":"user","content":[{"type":"text","text":"c"},{"type":"text","text":"d"}]},{"role":"system","content":[]}]}`,
			runtime.Request{Temperature: 1, Messages: []runtime.Message{
				{Role: "system", Content: "a🦆\\\"\x00\ufffd"}, {Role: "assistant", Content: "b"}, {Role: "user", Content: "cd"}, {Role: "system"},
			}},
		},
	} {
		r, err := New(fake(t)).parse(&chat, tc.body)
		if err != nil {
			t.Errorf("%s: %+v", tc.body, err)
			continue
		}
		if diff := cmp.Diff(tc.want, r.gen); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.body, diff)
		}
	}
	for _, tc := range []struct {
		body string
		want runtime.Request
	}{
		{`{"prompt":"a"}`, runtime.Request{Prompt: "a", Temperature: 1, MaxTokens: 16}},
		{`{"prompt":["a"],"max_tokens":3,"echo":false,"best_of":1,"suffix":""}`, runtime.Request{Prompt: "a", Temperature: 1, MaxTokens: 3}},
		{`{"prompt":[1,2]}`, runtime.Request{Tokens: []int32{1, 2}, Temperature: 1, MaxTokens: 16}},
		{`{"prompt":[[1,2]]}`, runtime.Request{Tokens: []int32{1, 2}, Temperature: 1, MaxTokens: 16}},
	} {
		r, err := New(fake(t)).parse(&legacy, tc.body)
		if err != nil {
			t.Errorf("%s: %+v", tc.body, err)
			continue
		}
		if diff := cmp.Diff(tc.want, r.gen); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.body, diff)
		}
	}
}

func TestIgnoreUnknownFields(t *testing.T) {
	e := engine(New(fake(t), IgnoreUnknownFields()))
	if w := do(e, "POST", chatPath, ask(`"typo":1,"typo":{"a":[]}`)); w.Code != 200 {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	wantError(t, do(e, "POST", chatPath, ask(`"n":2`)), 400, "unsupported_parameter", "n")
	wantError(t, do(e, "POST", chatPath, `{"messages":[{"role":"user","content":"","typo":1}]}`), 400, "unknown_parameter", "messages[0].typo")
}

// FuzzParse: no body is too odd to be answered, and what is accepted is what
// runtime accepts or refuses by a field's name.
func FuzzParse(f *testing.F) {
	f.Add(ask(`"temperature":1e308,"stop":["a","b"],"seed":-9`))
	f.Add(`{"messages":[{"role":"user","content":[{"type":"text","text":"\ud83e"}]}],"stream":true,"stream_options":{"include_usage":true}}`)
	f.Add(`{"prompt":[1,2,[3]],"logit_bias":{"1":2},"":0}`)
	f.Add(`{"a":[[[[{}]]]],"b":"\\\"","c":-0.0e+1}`)
	gen := runtimetest.New(runtimetest.WithReply(func(string) string { return "x" }))
	f.Cleanup(func() { gen.Close() })
	a := New(gen)
	f.Fuzz(func(t *testing.T, body string) {
		for _, s := range []*surface{&chat, &legacy} {
			r, e := a.parse(s, body)
			if e != nil {
				if e.status != 400 || e.message == "" {
					t.Errorf("%q: %+v", body, e)
				}
				checkString(t, e.message)
				continue
			}
			if err := r.gen.Validate(); err != nil && fromError(err).param == "" {
				t.Errorf("%q: %v", body, err)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	a := New(runtimetest.New())
	for _, kind := range []string{"plain", "escapes"} {
		text := strings.Repeat("the quick brown fox ", 500)
		if kind == "escapes" {
			text = strings.Repeat(`the \"quick\"\n fox `, 500)
		}
		body := fmt.Sprintf(`{"model":"default","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"%s"}],"max_tokens":64,"stream":true}`, text)
		b.Run("10KB/"+kind, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, e := a.parse(&chat, body); e != nil {
					b.Fatal(e)
				}
			}
		})
	}
}

func TestTooDeep(t *testing.T) {
	nest := func(n int, inside string) string { return strings.Repeat("[", n) + inside + strings.Repeat("]", n) }
	for s, want := range map[string]bool{
		"": false, `"`: false, `"\`: false, `"\"`: false, nest(maxDepth, ""): false, nest(maxDepth+1, ""): true, `{"a":` + nest(maxDepth, "") + "}": true,
		`"` + nest(99, ""): false, `"a\"` + nest(99, "") + `"`: false, `"a\\"` + nest(99, ""): true, `"a\\\"` + nest(99, "") + `"`: false,
		nest(maxDepth, "[]"): true, nest(maxDepth, `"[]"`): false, strings.Repeat("[]", 1000): false,
		`"\\\\\\\\"` + nest(99, ""): true, strings.Repeat(`\`, 99) + `"` + nest(99, ""): false,
	} {
		if got := tooDeep(s); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}

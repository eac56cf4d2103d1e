package httpapi

import (
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin-go/dunlin/runtime"
	"github.com/dunlin-go/dunlin/runtime/runtimetest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestGolden compares whole answers, byte for byte.
func TestGolden(t *testing.T) {
	e := engine(New(fake(t, says("Hé \"\n🦆"), runtimetest.WithContextLength(256)), fixed))
	for _, tc := range []struct{ name, path, body string }{
		{"chat", chatPath, ask("")},
		{"chat_length", chatPath, ask(`"max_tokens":2`)},
		{"chat_logprobs", chatPath, ask(`"logprobs":true,"top_logprobs":2,"max_tokens":3`)},
		{"chat_stream", chatPath, ask(`"stream":true`)},
		{"chat_stream_usage", chatPath, ask(`"stream":true,"stream_options":{"include_usage":true},"max_tokens":1`)},
		{"chat_stream_logprobs", chatPath, ask(`"stream":true,"logprobs":true,"top_logprobs":1,"max_tokens":3`)},
		{"chat_stream_stop", chatPath, ask(`"stream":true,"stop":["é"]`)},
		{"completion", "/v1/completions", `{"prompt":"Hi"}`},
		{"completion_stream", "/v1/completions", `{"prompt":["Hi"],"stream":true,"stream_options":{"include_usage":true}}`},
		{"error_unsupported", chatPath, ask(`"n":2`)},
		{"error_context_length", chatPath, `{"messages":[{"role":"user","content":"` + strings.Repeat("x", 300) + `"}]}`},
		{"error_model", chatPath, ask(`"model":"<none>"`)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := do(e, "POST", tc.path, tc.body)
			got := http.StatusText(w.Code) + "\n" + w.Header().Get("Content-Type") + "\n\n" + w.Body.String()
			file := filepath.Join("testdata", "golden", tc.name+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", file, diff)
			}
		})
	}
}

// TestStreamEqualsWhole puts the pieces of streams together again.
func TestStreamEqualsWhole(t *testing.T) {
	e := engine(New(fake(t)))
	for _, fields := range []string{`"seed":1`, `"seed":-2`, `"seed":3,"max_tokens":9`, `"seed":4,"stop":"e"`, `"seed":5,"temperature":0`, `"seed":6,"logprobs":true`} {
		type choice struct {
			Message, Delta struct{ Content, Role string }
			Logprobs       *struct{ Content []any }
			Finish         *string `json:"finish_reason"`
		}
		type answer struct {
			Choices []choice
			Usage   *struct {
				Prompt, Completion, Total int
			}
		}
		var whole answer
		if err := json.Unmarshal(do(e, "POST", chatPath, ask(fields)).Body.Bytes(), &whole); err != nil {
			t.Fatal(err)
		}
		var text, role, finish string
		logprobs := 0
		data := events(t, do(e, "POST", chatPath, ask(fields+`,"stream":true`)).Body)
		for i, d := range data {
			if d == "[DONE]" {
				if i != len(data)-1 {
					t.Errorf("%s: [DONE] is not the last", fields)
				}
				continue
			}
			var part answer
			if err := json.Unmarshal([]byte(d), &part); err != nil {
				t.Fatalf("%s: %v", d, err)
			}
			c := part.Choices[0]
			text, role = text+c.Delta.Content, role+c.Delta.Role
			if c.Logprobs != nil {
				logprobs += len(c.Logprobs.Content)
			}
			if c.Finish != nil {
				finish += *c.Finish
			}
		}
		c := whole.Choices[0]
		if text != c.Message.Content || role != "assistant" || finish != *c.Finish || text == "" {
			t.Errorf("%s: the stream has %q, %q, %q; the whole answer is %+v", fields, text, role, finish, c)
		}
		if c.Logprobs != nil && len(c.Logprobs.Content) != logprobs {
			t.Errorf("%s: the stream has %d logprobs", fields, logprobs)
		}
	}
}

func TestAppendString(t *testing.T) {
	for _, s := range []string{"", "plain", "\"\\/\b\f\n\r\t\x00\x1f\x7f", "é 日本 🦆 \u2028\u2029", "<&>", "\xff", "a\xe2\x82", "\xed\xa0\x80b", "�"} {
		checkString(t, s)
	}
}

func checkString(t *testing.T, s string) {
	t.Helper()
	b := appendString([]byte("x"), s)
	if b2 := appendString([]byte("x"), []byte(s)); string(b) != string(b2) {
		t.Errorf("%q: a string gives %q, bytes give %q", s, b, b2)
	}
	var back string
	if err := json.Unmarshal(b[1:], &back); err != nil {
		t.Fatalf("%q became %q: %v", s, b, err)
	}
	want := string([]rune(s)) // every invalid byte becomes U+FFFD
	if back != want || !utf8.Valid(b) {
		t.Errorf("%q became %q", s, b)
	}
}

func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "a\"b", "\xf0\x9f\xa6\x86", "\xf0\x9f\xa6", "\u2028"} {
		f.Add(s)
	}
	f.Fuzz(checkString)
}

// TestEventAllocs: a token costs no allocation.
func TestEventAllocs(t *testing.T) {
	a := New(fake(t))
	r := &reply{api: a, surface: &chat, model: a.models[0], id: "x", req: &request{gen: runtime.Request{Logprobs: true}}}
	r.head = r.appendHead(nil, r.surface.chunk)
	ev := runtime.Event{Kind: runtime.EventToken, Text: "wörd\n", Token: 65, Logprob: -0.25}
	b := make([]byte, 0, 4096)
	plain := testing.AllocsPerRun(100, func() {
		r.req.gen.Logprobs = false
		b = r.appendEvent(b[:0], &ev)
	})
	if plain != 0 {
		t.Errorf("%v allocations", plain)
	}
}

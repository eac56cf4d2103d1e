package loadsim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// answer serves one body to every request and remembers the last.
type answer struct {
	status int // 0: OK
	body   string
	then   func(w http.ResponseWriter, r *http.Request) // after the body, which is flushed before

	path  string
	asked map[string]any
}

func (a *answer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.path = r.URL.Path
	if err := json.NewDecoder(r.Body).Decode(&a.asked); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if a.status != 0 {
		w.WriteHeader(a.status)
	}
	_, _ = io.WriteString(w, a.body) // the client sees it if it fails
	if a.then != nil {
		_ = http.NewResponseController(w).Flush()
		a.then(w, r)
	}
}

func client(t *testing.T, h http.Handler, path string) *Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	c, err := NewClient(server.URL+path, "m")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func say(text string) string {
	return fmt.Sprintf("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":%q},\"finish_reason\":null}]}\n\n", text)
}

const (
	role     = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":null},\"finish_reason\":null}],\"usage\":null}\n\n"
	finish   = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"length\"}]}\n\n"
	usage    = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":3,\"prompt_tokens_details\":{\"cached_tokens\":7}}}\n\n"
	doneLine = "data: [DONE]\n\n"
)

// TestClientAsks: the request has what every server of the API knows, and asks for
// its usage.
func TestClientAsks(t *testing.T) {
	for _, path := range []string{"", "/", "/v1", "/v1/", "/llm", "/llm/v1"} {
		a := &answer{body: finish + doneLine}
		c := client(t, a, path)
		if _, err := c.Do(t.Context(), Request{Text: "a b", MaxTokens: 5, IgnoreEOS: true}, func() {}); err != nil {
			t.Fatal(err)
		}
		want := map[string]any{
			"model": "m", "messages": []any{map[string]any{"role": "user", "content": "a b"}}, "max_tokens": 5.0, "temperature": 0.0,
			"stream": true, "stream_options": map[string]any{"include_usage": true}, "ignore_eos": true,
		}
		if diff := cmp.Diff(want, a.asked); diff != "" {
			t.Error(diff)
		}
		wantPath := "/v1/chat/completions"
		if strings.HasPrefix(path, "/llm") {
			wantPath = "/llm" + wantPath
		}
		if a.path != wantPath {
			t.Errorf("%q: asked at %s", path, a.path)
		}
	}
	a := &answer{body: doneLine}
	if _, err := client(t, a, "").Do(t.Context(), Request{MaxTokens: 1}, func() {}); err != nil {
		t.Fatal(err)
	}
	if _, has := a.asked["ignore_eos"]; has {
		t.Error("ignore_eos is sent where it isn't asked for")
	}
}

func TestClientAddresses(t *testing.T) {
	for _, address := range []string{"", "localhost:8080", "ftp://host", "http://", "http://host?x=1", "http://user:secret@host", "http://host#x", "http://[::1", "/v1"} {
		if c, err := NewClient(address, "m"); err == nil {
			t.Errorf("%q: %s", address, c.endpoint)
		}
	}
}

// TestClientReads has the ways in which servers end their streams.
func TestClientReads(t *testing.T) {
	told := Usage{Prompt: 11, Output: 3, Cached: 7, Told: true, CachedTold: true}
	for _, tc := range []struct {
		name, body string
		pieces     int
		want       Usage
	}{
		{"usage at the end", role + say("a") + say("b") + finish + usage + doneLine, 2, told},
		{"no usage", role + say("a") + finish + doneLine, 1, Usage{}},
		{"usage in each event, and no cache", strings.ReplaceAll(say("a"), `"choices"`, `"usage":{"prompt_tokens":1,"completion_tokens":2},"choices"`) + finish + doneLine, 1, Usage{Prompt: 1, Output: 2, Told: true}},
		{"only [DONE]", say("a") + doneLine, 1, Usage{}},
		{"only a reason", say("a") + finish, 1, Usage{}},
		{"no text", role + say("") + finish + usage + doneLine, 0, told},
		{"thoughts", `data: {"choices":[{"delta":{"reasoning_content":"a"}}]}` + "\n\n" + `data:{"choices":[{"delta":{"reasoning":"a"}}]}` + "\n\n" + say("c") + finish + doneLine, 3, Usage{}},
		{"comments, names and CRLF", ": ping\r\n\r\nevent: message\r\nid: 1\r\n" + strings.ReplaceAll(say("a")+finish+doneLine, "\n", "\r\n"), 1, Usage{}},
		{"more after [DONE]", finish + doneLine + "data: junk\n\n", 0, Usage{}},
	} {
		pieces := 0
		got, err := client(t, &answer{body: tc.body}, "").Do(t.Context(), Request{Text: "x", MaxTokens: 4}, func() { pieces++ })
		if err != nil || got != tc.want || pieces != tc.pieces {
			t.Errorf("%s: %+v and %d pieces, %v", tc.name, got, pieces, err)
		}
	}
}

func TestClientFails(t *testing.T) {
	abort := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	for _, tc := range []struct {
		name  string
		a     answer
		cause string
		text  string
	}{
		{"an error of OpenAI's form", answer{status: 503, body: `{"error":{"message":"too busy","code":"overloaded"}}`}, "HTTP 503", "too busy"},
		{"an error of another form", answer{status: 400, body: "<h1>no</h1>\n"}, "HTTP 400", "<h1>no</h1>"},
		{"an endless error", answer{status: 500, body: strings.Repeat("no ", 1<<20)}, "HTTP 500", "no no"},
		{"a redirection", answer{status: 307}, "HTTP 307", ""},
		{"a status that is no stream's", answer{status: 204}, "HTTP 204", ""},
		{"a page", answer{body: "<html>\nhello\n</html>"}, causeNoStream, ""},
		{"a whole answer", answer{body: `{"choices":[{"message":{"content":"hello"}}]}`}, causeNoStream, ""},
		{"nothing", answer{}, causeNoStream, ""},
		{"an end in the middle", answer{body: role + say("a")}, causeClosed, "unexpected EOF"},
		{"a connection that breaks", answer{body: role + say("a"), then: abort}, causeClosed, "unexpected EOF"},
		{"a broken event", answer{body: "data: {\"choices\": \n\n"}, causeJunk, "unexpected end"},
		{"another type", answer{body: `data: {"choices":[{"delta":{"content":5}}]}` + "\n\n"}, causeJunk, "cannot unmarshal"},
		{"two choices", answer{body: `data: {"choices":[{},{}]}` + "\n\n"}, causeJunk, "2 choices"},
		{"a long line", answer{body: "data: " + strings.Repeat("x", maxEventBytes+1)}, causeJunk, "more than 1048576 bytes"},
		{"an answer without end", answer{body: strings.Repeat(say("a"), 2000)}, causeJunk, "far more text"},
		{"negative usage", answer{body: `data: {"choices":[],"usage":{"prompt_tokens":-1}}` + "\n\n"}, causeJunk, "-1 tokens"},
		{"incredible usage", answer{body: `data: {"choices":[],"usage":{"completion_tokens":4611686018427387904}}` + "\n\n"}, causeJunk, "4611686018427387904 tokens"},
		{"an error in the stream", answer{body: say("a") + `data: {"error":{"message":"out of memory"}}` + "\n\n"}, causeReported, "out of memory"},
		{"an error that is a text", answer{body: say("a") + `data: {"error":"out of memory"}` + "\n\n"}, causeReported, "out of memory"},
	} {
		_, err := client(t, &tc.a, "").Do(t.Context(), Request{Text: "x", MaxTokens: 4}, func() {})
		var f *RequestError
		if !errors.As(err, &f) || f.Cause != tc.cause || !strings.Contains(f.Err.Error(), tc.text) || len(f.Err.Error()) > maxErrorBytes {
			t.Errorf("%s: got %v", tc.name, err)
		}
	}
	server := httptest.NewServer(http.NotFoundHandler())
	c, err := NewClient(server.URL, "m")
	if err != nil {
		t.Fatal(err)
	}
	server.Close()
	var f *RequestError
	if _, err := c.Do(t.Context(), Request{}, func() {}); !errors.As(err, &f) || f.Cause != causeConnection {
		t.Errorf("no server: got %v", err)
	}
}

// TestClientHangs: the end of the context ends a request that a server never
// answers, or never goes on with.
func TestClientHangs(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for _, body := range []string{"", say("a")} {
		ctx, cancel := context.WithCancel(t.Context())
		arrived := make(chan struct{})
		a := &answer{body: body, then: func(w http.ResponseWriter, r *http.Request) { close(arrived); hang(w, r) }}
		c := client(t, a, "")
		go func() { <-arrived; cancel() }()
		if _, err := c.Do(ctx, Request{Text: "x", MaxTokens: 4}, func() {}); !errors.Is(err, context.Canceled) {
			t.Errorf("after %q: got %v", body, err)
		}
	}
}

// FuzzStream: whatever a server sends, the reader ends, with usage in bounds and no
// more pieces than it may have.
func FuzzStream(f *testing.F) {
	f.Add([]byte(role + say("a") + finish + usage + doneLine))
	f.Add([]byte(`data: {"error":{"message":"x"}}` + "\n"))
	f.Add([]byte("data: {\"usage\":{\"prompt_tokens\":9e18}}\n: x\n\ndata:[DONE]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		pieces := 0
		s := stream{left: 3, piece: func() { pieces++ }}
		err := s.read(strings.NewReader(string(data)))
		if pieces > 3 || err == nil && !s.finished {
			t.Fatalf("%d pieces, %v", pieces, err)
		}
		for _, n := range []int{s.usage.Prompt, s.usage.Output, s.usage.Cached} {
			if err == nil && (n < 0 || n > maxUsage) {
				t.Fatalf("usage %+v", s.usage)
			}
		}
	})
}

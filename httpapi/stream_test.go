package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/dunlin-go/dunlin/runtime"
	"github.com/dunlin-go/dunlin/runtime/runtimetest"
)

// post sends a request over the network; the caller cancels it or reads it.
func post(ctx context.Context, t *testing.T, s *httptest.Server, body string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+chatPath, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func idle(f *runtimetest.Fake) func() bool { return func() bool { return f.Stats().Running == 0 } }

func TestStreamHeaders(t *testing.T) {
	s := serve(t, engine(New(fake(t))))
	resp := post(t.Context(), t, s, ask(`"stream":true`))
	for name, want := range map[string]string{"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
	if resp.Header.Get(headerRequestID) == "" {
		t.Error("no request id")
	}
	data := events(t, resp.Body)
	if len(data) < 3 || data[len(data)-1] != "[DONE]" {
		t.Errorf("got %q", data)
	}
}

// TestStreamStepwise sees each token before the next one is made.
func TestStreamStepwise(t *testing.T) {
	gate := runtimetest.NewGate()
	s := serve(t, engine(New(fake(t, says("abc"), runtimetest.WithGate(gate)))))
	gate.Step(1) // the headers come with the first token
	resp := post(t.Context(), t, s, ask(`"stream":true`))
	sc := bufio.NewScanner(resp.Body)
	next := func() string {
		for sc.Scan() {
			if strings.HasPrefix(sc.Text(), "data: ") {
				return sc.Text()
			}
		}
		return ""
	}
	if got := next(); !strings.Contains(got, `"role":"assistant"`) {
		t.Errorf("got %s", got)
	}
	for _, want := range []string{"a", "b", "c"} {
		if got := next(); !strings.Contains(got, `"content":"`+want+`"`) {
			t.Errorf("got %s, want %s", got, want)
		}
		gate.Step(1)
	}
	if got := next(); !strings.Contains(got, `"finish_reason":"stop"`) {
		t.Errorf("got %s", got)
	}
	if got := next(); got != "data: [DONE]" {
		t.Errorf("got %s", got)
	}
}

// counter counts what reaches the network.
type counter struct {
	gin.ResponseWriter
	writes, flushes *atomic.Int64
}

func (w counter) Write(b []byte) (int, error) { w.writes.Add(1); return w.ResponseWriter.Write(b) }
func (w counter) Flush()                      { w.flushes.Add(1); w.ResponseWriter.Flush() }

// TestCoalesce: what is ready leaves in one write.
func TestCoalesce(t *testing.T) {
	var writes, flushes atomic.Int64
	e := gin.New()
	e.Use(func(c *gin.Context) { c.Writer = counter{c.Writer, &writes, &flushes} })
	f := fake(t, says(strings.Repeat("x", 50)), runtimetest.WithBuffer(64))
	New(ready{f}).Mount(e)
	data := events(t, do(e, "POST", chatPath, ask(`"stream":true`)).Body)
	if len(data) != 1+50+2 { // role, tokens, finish and [DONE]
		t.Errorf("%d events", len(data))
	}
	if w, f := writes.Load(), flushes.Load(); w != 1 || f != 1 {
		t.Errorf("%d writes, %d flushes", w, f)
	}
}

// ready gives streams whose answer is already complete.
type ready struct{ *runtimetest.Fake }

func (r ready) Start(ctx context.Context, req runtime.Request) (*runtime.Stream, error) {
	s, w := runtime.NewStream(ctx, 1024, nil)
	for ev, err := range runtime.All(ctx, r.Fake, req) {
		if err != nil {
			return nil, err
		}
		w.TrySend(ev)
	}
	w.Finish(nil)
	return s, nil
}

// beating is a generator that passes heartbeats of its own on, one before each event.
type beating struct{ *runtimetest.Fake }

func (b beating) Start(ctx context.Context, req runtime.Request) (*runtime.Stream, error) {
	s, w := runtime.NewStream(ctx, 1024, nil)
	for ev, err := range runtime.All(ctx, b.Fake, req) {
		if err != nil {
			return nil, err
		}
		w.TrySend(runtime.Event{Kind: runtime.EventHeartbeat})
		w.TrySend(ev)
	}
	w.Finish(nil)
	return s, nil
}

// TestHeartbeatsAreNotSent: clients see what they see without them.
func TestHeartbeatsAreNotSent(t *testing.T) {
	f := fake(t, says("hello"))
	for _, fields := range []string{"", `"logprobs":true,"top_logprobs":2`, `"stream":true`, `"stream":true,"logprobs":true`} {
		want := do(engine(New(ready{f})), "POST", chatPath, ask(fields))
		got := do(engine(New(beating{f})), "POST", chatPath, ask(fields))
		id := regexp.MustCompile(`"id":"[^"]*","object":"([^"]*)","created":\d+`)
		if a, b := id.ReplaceAllString(want.Body.String(), ""), id.ReplaceAllString(got.Body.String(), ""); a != b || want.Code != got.Code || !strings.Contains(a, "choices") {
			t.Errorf("%s:\n%s\nwant\n%s", fields, b, a)
		}
	}
}

func TestConcurrentStreams(t *testing.T) {
	f := fake(t)
	s := serve(t, engine(New(f)))
	s.Client().Transport.(*http.Transport).MaxConnsPerHost = 0
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			body := fmt.Sprintf(`{"messages":[{"role":"user","content":"%d"}],"temperature":0%%s}`, i)
			read := func(fields string) []byte {
				resp, err := s.Client().Post(s.URL+chatPath, "application/json", strings.NewReader(fmt.Sprintf(body, fields)))
				if err != nil {
					t.Error(err)
					return nil
				}
				defer resp.Body.Close()
				b, err := io.ReadAll(resp.Body)
				if err != nil || resp.StatusCode != http.StatusOK {
					t.Errorf("%d: %v", resp.StatusCode, err)
				}
				return b
			}
			type choices struct {
				Choices []struct{ Message, Delta struct{ Content string } }
			}
			var whole choices
			if err := json.Unmarshal(read(""), &whole); err != nil {
				t.Error(err)
				return
			}
			var text strings.Builder
			for line := range strings.Lines(string(read(`,"stream":true`))) {
				var part choices
				if json.Unmarshal([]byte(strings.TrimPrefix(line, "data: ")), &part) == nil {
					text.WriteString(part.Choices[0].Delta.Content)
				}
			}
			if want := whole.Choices[0].Message.Content; text.String() != want || want == "" {
				t.Errorf("stream %d: %q, want %q", i, text.String(), want)
			}
		})
	}
	wg.Wait()
	eventually(t, "nothing runs", idle(f))
}

func TestPing(t *testing.T) {
	gate := runtimetest.NewGate()
	s := serve(t, engine(New(fake(t, says("abc"), runtimetest.WithGate(gate)), WithPing(time.Millisecond))))
	resp := post(t.Context(), t, s, ask(`"stream":true`)) // returns with the first ping
	sc := bufio.NewScanner(resp.Body)
	for range 3 {
		if !sc.Scan() || sc.Text() != ": ping" || !sc.Scan() || sc.Text() != "" {
			t.Fatalf("got %q", sc.Text())
		}
	}
	gate.Open()
	rest := ""
	for sc.Scan() {
		rest += sc.Text() + "\n"
	}
	if !strings.HasSuffix(rest, "data: [DONE]\n\n") || !strings.Contains(rest, `"content":"a"`) {
		t.Errorf("got %q", rest)
	}
}

func TestDisconnect(t *testing.T) {
	for _, stream := range []bool{true, false} {
		t.Run(fmt.Sprintf("stream %v", stream), func(t *testing.T) {
			gate := runtimetest.NewGate()
			f := fake(t, runtimetest.WithGate(gate))
			s := serve(t, engine(New(f)))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var wg sync.WaitGroup
			defer wg.Wait()
			wg.Go(func() {
				req, _ := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+chatPath, strings.NewReader(ask(fmt.Sprintf(`"stream":%v`, stream))))
				if resp, err := s.Client().Do(req); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			})
			eventually(t, "it runs", func() bool { return f.Stats().Running == 1 })
			cancel() // before a token, so that no write can tell
			eventually(t, "nothing runs", idle(f))
		})
	}
}

// TestStuckClient: a client that doesn't read holds the handler only for the
// write timeout.
func TestStuckClient(t *testing.T) {
	f := fake(t, says(strings.Repeat("a long answer ", 1000)), runtimetest.WithContextLength(1<<30))
	var handlers atomic.Int64
	e := gin.New()
	e.Use(func(c *gin.Context) { handlers.Add(1); defer handlers.Add(-1); c.Next() })
	New(f, WithWriteTimeout(100*time.Millisecond)).Mount(e)
	s := serve(t, e)
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.(*net.TCPConn).SetReadBuffer(4096)
	body := ask(`"stream":true,"ignore_eos":true`)
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", chatPath, len(body), body)
	eventually(t, "it runs", func() bool { return f.Stats().CompletionTokens > 1000 })
	eventually(t, "the handler returns", func() bool { return handlers.Load() == 0 })
	eventually(t, "nothing runs", idle(f))
}

// TestServerTimeouts: an answer may last longer than the server's timeouts, and
// the connection serves other requests after it. The clock is the test's own: a busy
// machine must not be what runs into them.
func TestServerTimeouts(t *testing.T) {
	for _, tc := range []struct {
		stream bool
		server time.Duration
	}{{true, 100 * time.Millisecond}, {false, 100 * time.Millisecond}, {true, 0}, {false, 0}} {
		t.Run(fmt.Sprintf("stream=%v/server=%v", tc.stream, tc.server), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				gate := runtimetest.NewGate()
				gate.Step(1)
				e := engine(New(fake(t, says("abc"), runtimetest.WithGate(gate)), WithWriteTimeout(50*time.Millisecond)))
				e.GET("/other", func(c *gin.Context) { c.String(200, "fine") })
				client, dialled := servePipes(t, &http.Server{
					Handler: e, ReadTimeout: tc.server, WriteTimeout: tc.server, IdleTimeout: time.Minute,
				})
				time.AfterFunc(400*time.Millisecond, gate.Open) // a token comes at once, the others after every timeout
				resp, err := client.Post("http://dunlin"+chatPath, "application/json", strings.NewReader(ask(fmt.Sprintf(`"stream":%v`, tc.stream))))
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				b, err := io.ReadAll(resp.Body)
				if err != nil || resp.StatusCode != http.StatusOK || !bytes.Contains(b, []byte(`"finish_reason":"stop"`)) {
					t.Fatalf("%d %s, %v", resp.StatusCode, b, err)
				}
				<-time.After(150 * time.Millisecond) // longer than the last write's deadline
				other, err := client.Get("http://dunlin/other")
				if err != nil {
					t.Fatal(err)
				}
				defer other.Body.Close()
				if b, err := io.ReadAll(other.Body); err != nil || string(b) != "fine" {
					t.Errorf("the next request got %q, %v", b, err)
				}
				if n := dialled.Load(); n != 1 {
					t.Errorf("%d connections, so the first one was not kept", n)
				}
			})
		})
	}
}

// servePipes runs a server whose connections are pipes, which a synctest bubble can
// hold, and counts them.
func servePipes(t *testing.T, s *http.Server) (*http.Client, *atomic.Int64) {
	t.Helper()
	l := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	dialled := new(atomic.Int64)
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		dialled.Add(1)
		near, far := net.Pipe()
		l.conns <- far
		return near, nil
	}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return &http.Client{Transport: transport}, dialled
}

// pipeListener accepts the pipes that it is sent.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error { close(l.done); return nil }

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func TestErrorInStream(t *testing.T) {
	secret := errors.New("a secret path")
	var reported []string
	e := gin.New()
	e.Use(func(c *gin.Context) { c.Next(); reported = append(reported, c.Errors.Errors()...) })
	New(fake(t, says("abc"), runtimetest.WithErrorAfter(2, secret))).Mount(e)
	w := do(e, "POST", chatPath, ask(`"stream":true`))
	data := events(t, bytes.NewReader(w.Body.Bytes()))
	last := data[len(data)-1]
	id := w.Header().Get(headerRequestID)
	if w.Code != 200 || len(data) != 4 || !strings.HasPrefix(last, `{"error":{`) || !strings.Contains(last, `"code":"internal_error"`) {
		t.Errorf("got %d %s", w.Code, w.Body) // want the role, two tokens and the error
	}
	if strings.Contains(w.Body.String(), "secret") || strings.Contains(w.Body.String(), "[DONE]") || !strings.Contains(w.Body.String(), id) {
		t.Errorf("got %s", w.Body)
	}
	if len(reported) != 1 || !strings.Contains(reported[0], "a secret path") || !strings.Contains(reported[0], id) {
		t.Errorf("the application was told %q", reported)
	}
}

func TestErrorBeforeStream(t *testing.T) {
	for _, stream := range []bool{true, false} {
		for code, want := range codes {
			cause := &runtime.Error{Code: code, Field: "f", Err: errors.New("the text")}
			for _, gen := range []runtime.Generator{
				fake(t, runtimetest.WithError(cause)), fake(t, runtimetest.WithErrorAfter(0, cause)),
			} {
				w := do(engine(New(gen)), "POST", chatPath, ask(fmt.Sprintf(`"stream":%v`, stream)))
				param := ""
				if want.message == "" {
					param = "f"
				}
				got := wantError(t, w, want.status, want.code, param)
				if told := strings.Contains(got.Error.Message, "the text"); told != (want.message == "") {
					t.Errorf("%v: the message is %q", code, got.Error.Message)
				}
				if (w.Header().Get("Retry-After") != "") != (want.retry > 0) {
					t.Errorf("%v: Retry-After is %q", code, w.Header().Get("Retry-After"))
				}
			}
		}
	}
	for code := runtime.CodeInternal; code <= runtime.CodeClosed; code++ {
		if _, ok := codes[code]; !ok {
			t.Errorf("%v has no status", code)
		}
	}
}

// TestRetryAfterIsTheGenerators tells clients when the generator expects room,
// in whole seconds.
func TestRetryAfterIsTheGenerators(t *testing.T) {
	for hint, want := range map[time.Duration]string{time.Millisecond: "1", time.Second: "1", 2300 * time.Millisecond: "3"} {
		busy := &runtime.Error{Code: runtime.CodeOverloaded, Err: &runtime.OverloadedError{Waiting: 5, RetryAfter: hint}}
		w := do(engine(New(fake(t, runtimetest.WithError(busy)))), "POST", chatPath, ask(`"stream":false`))
		if got := w.Header().Get("Retry-After"); w.Code != 429 || got != want {
			t.Errorf("a hint of %v: status %d, Retry-After %q, want %q", hint, w.Code, got, want)
		}
	}
}

// faulty panics when its token's text is asked for.
type faulty struct{ *runtimetest.Fake }

func (faulty) TokenBytes(int32) []byte { panic("a secret") }

func TestPanic(t *testing.T) {
	var reported []string
	mount := func(gen runtime.Generator) *gin.Engine {
		reported = nil
		e := gin.New()
		e.Use(func(c *gin.Context) { c.Next(); reported = append(reported, c.Errors.Errors()...) })
		New(gen).Mount(e)
		return e
	}
	f := fake(t)
	for name, tc := range map[string]struct {
		gen    runtime.Generator
		fields string
	}{
		"in Start":            {broken{f}, ""},
		"in Start of stream":  {broken{f}, `"stream":true`},
		"in an answer":        {faulty{f}, `"logprobs":true`},
		"in a stream's event": {faulty{f}, `"logprobs":true,"stream":true`},
	} {
		t.Run(name, func(t *testing.T) {
			w := do(mount(tc.gen), "POST", chatPath, ask(tc.fields))
			got := wantError(t, w, 500, "internal_error", "")
			if strings.Contains(got.Error.Message, "secret") {
				t.Errorf("the client is told %q", got.Error.Message)
			}
			if len(reported) != 1 || !strings.Contains(reported[0], "a secret") {
				t.Errorf("the application is told %q", reported)
			}
			eventually(t, "nothing runs", idle(f))
		})
	}
}

func TestBody(t *testing.T) {
	e := engine(New(fake(t, runtimetest.WithContextLength(1<<20)), WithMaxBody(1000)))
	fits := `{"messages":[{"role":"user","content":"`
	fits += strings.Repeat("x", 1000-len(fits)-4) + `"}]}`
	if w := do(e, "POST", chatPath, fits); w.Code != 200 {
		t.Errorf("%d bytes: %d %s", len(fits), w.Code, w.Body)
	}
	wantError(t, do(e, "POST", chatPath, fits+" "), 413, "request_too_large", "")
	send := func(body io.Reader, header ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, chatPath, body)
		r.ContentLength = -1
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		e.ServeHTTP(w, r)
		return w
	}
	wantError(t, send(endlessly{}), 413, "request_too_large", "")
	wantError(t, send(io.MultiReader(strings.NewReader("{"), failing{})), 400, "incomplete_body", "")
	for _, ct := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ";"} {
		wantError(t, send(strings.NewReader(ask("")), "Content-Type", ct), 415, "unsupported_media_type", "")
	}
	for _, ct := range []string{"application/json", "application/json; charset=utf-8", "application/vnd.x+json"} {
		if w := send(strings.NewReader(ask("")), "Content-Type", ct); w.Code != 200 {
			t.Errorf("%s: %d", ct, w.Code)
		}
	}
	for id, kept := range map[string]bool{"req-1.a:b_C": true, "a b": false, "a\"": false, strings.Repeat("x", 129): false} {
		if got := send(strings.NewReader(ask("")), headerRequestID, id).Header().Get(headerRequestID); (got == id) != kept || got == "" {
			t.Errorf("the request id %q became %q", id, got)
		}
	}
}

type endlessly struct{}

func (endlessly) Read(p []byte) (int, error) { return len(p), nil }

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("reset") }

// discard is a response that costs nothing.
type discard struct{ h http.Header }

func (d discard) Header() http.Header       { return d.h }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}
func (discard) Flush()                      {}

// BenchmarkStream is the way of a token from a generator to the socket's edge.
func BenchmarkStream(b *testing.B) {
	const tokens = 256
	for _, buffer := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("buffer=%d", buffer), func(b *testing.B) {
			f := runtimetest.New(says(strings.Repeat("x", tokens-1)), runtimetest.WithBuffer(buffer))
			defer f.Close()
			e := engine(New(f))
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest(http.MethodPost, chatPath, strings.NewReader(ask(`"stream":true`)))
				e.ServeHTTP(discard{http.Header{}}, r)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*tokens), "ns/token")
		})
	}
}

// TestServerEndsRequest ends a request's context as a server does that stops,
// which a client must be able to tell from its own cancel.
func TestServerEndsRequest(t *testing.T) {
	gate := runtimetest.NewGate()
	e := engine(New(fake(t, says("abc"), runtimetest.WithGate(gate))))
	for _, stream := range []bool{true, false} {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("maintenance"))
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, chatPath, strings.NewReader(ask(fmt.Sprintf(`"stream":%v`, stream))))
		e.ServeHTTP(w, r.WithContext(ctx))
		if body := w.Body.String(); !strings.Contains(body, `"code":"unavailable"`) || strings.Contains(body, "maintenance") {
			t.Errorf("stream %v: %d %s", stream, w.Code, body)
		}
	}
}

package httpapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"go.uber.org/goleak"

	"github.com/dunlin-go/dunlin/runtime"
	"github.com/dunlin-go/dunlin/runtime/runtimetest"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	http.DefaultTransport.(*http.Transport).DisableKeepAlives = true
	goleak.VerifyTestMain(m)
}

func says(text string) runtimetest.Option {
	return runtimetest.WithReply(func(string) string { return text })
}

func fake(t *testing.T, opts ...runtimetest.Option) *runtimetest.Fake {
	t.Helper()
	f := runtimetest.New(opts...)
	t.Cleanup(func() { f.Close() })
	return f
}

// fixed makes what is random or of the moment the same each time.
func fixed(a *API) {
	a.newID = func() string { return "0123" }
	a.now = func() time.Time { return time.Unix(1700000000, 0) }
}

func engine(a *API) *gin.Engine {
	e := gin.New()
	a.Mount(e)
	return e
}

// serve starts a real server.
func serve(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// do sends a request to a handler without a network.
func do(h http.Handler, method, path, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w
}

const chatPath = "/v1/chat/completions"

func ask(fields string) string {
	if fields != "" {
		fields = "," + fields
	}
	return `{"messages":[{"role":"user","content":"Hi"}]` + fields + `}`
}

type wireError struct {
	Error struct {
		Message, Type, Code string
		Param               *string
	}
}

// wantError checks an answer's status, code and param.
func wantError(t *testing.T, w *httptest.ResponseRecorder, status int, code, param string) wireError {
	t.Helper()
	var e wireError
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil {
		t.Fatalf("the body %q: %v", w.Body, err)
	}
	got := ""
	if e.Error.Param != nil {
		got = *e.Error.Param
	}
	if w.Code != status || e.Error.Code != code || got != param || e.Error.Message == "" || e.Error.Type == "" {
		t.Errorf("got %d %s, want %d, code %q, param %q", w.Code, w.Body, status, code, param)
	}
	if ct := w.Header().Get("Content-Type"); ct != mimeJSON {
		t.Errorf("Content-Type is %q", ct)
	}
	if w.Header().Get(headerRequestID) == "" {
		t.Error("no request id")
	}
	return e
}

// eventually polls until ok, which something else makes true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("it never came to this: %s", what)
		}
	}
}

// events reads a stream's data up to its end.
func events(t *testing.T, r io.Reader) (data []string) {
	t.Helper()
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		line := sc.Text()
		switch {
		case line == "" || strings.HasPrefix(line, ":"):
		case strings.HasPrefix(line, "data: "):
			data = append(data, line[len("data: "):])
		default:
			t.Fatalf("the stream has the line %q", line)
		}
	}
	if err := sc.Err(); err != nil {
		t.Fatal(err)
	}
	return data
}

func TestModels(t *testing.T) {
	a := New(fake(t, runtimetest.WithID("one")), WithModels(fake(t, runtimetest.WithID("org/two"), says("2"))), fixed)
	e := engine(a)
	const one = `{"id":"one","object":"model","created":1700000000,"owned_by":"dunlin"}`
	two := strings.Replace(one, "one", "org/two", 1)
	for path, want := range map[string]string{
		"/v1/models":           `{"object":"list","data":[` + one + `,` + two + `]}`,
		"/v1/models/one":       one,
		"/v1/models/default":   one,
		"/v1/models/org/two":   two,
		"/v1/models/org%2Ftwo": two,
	} {
		if w := do(e, "GET", path, ""); w.Code != 200 || w.Body.String() != want {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	wantError(t, do(e, "GET", "/v1/models/three", ""), 404, "model_not_found", "model")
	wantError(t, do(e, "POST", chatPath, ask(`"model":"three"`)), 404, "model_not_found", "model")
	wantError(t, do(e, "GET", "/v1/models/%ff%00"+strings.Repeat("x", 1000), ""), 404, "model_not_found", "model")
	if w := do(e, "POST", chatPath, ask(`"model":"org/two"`)); !strings.Contains(w.Body.String(), `"content":"2"`) || !strings.Contains(w.Body.String(), `"model":"org/two"`) {
		t.Errorf("got %s", w.Body)
	}
	if w := do(e, "POST", chatPath, ask(`"model":"default"`)); !strings.Contains(w.Body.String(), `"model":"one"`) {
		t.Errorf("got %s", w.Body)
	}
}

func TestNewPanics(t *testing.T) {
	for name, f := range map[string]func(){
		"nil":    func() { New(nil) },
		"twice":  func() { New(fake(t), WithModels(fake(t))) },
		"second": func() { New(fake(t), WithModels(nil)) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if p, _ := recover().(string); !strings.HasPrefix(p, "httpapi: ") {
					t.Errorf("it panicked with %q", p)
				}
			}()
			f()
		})
	}
}

func TestMountOnGroup(t *testing.T) {
	e := gin.New()
	e.GET("/healthz", func(c *gin.Context) { c.String(200, "the application's") })
	denied := func(c *gin.Context) {
		if c.GetHeader("Authorization") != "Bearer k" {
			c.AbortWithStatus(http.StatusUnauthorized)
		}
		c.Header("Content-Type", "text/plain") // must not stay
	}
	New(fake(t), WithoutHealth()).Mount(e.Group("/llm", denied))
	if w := do(e, "GET", "/llm/v1/models", ""); w.Code != 401 {
		t.Errorf("without a key: %d", w.Code)
	}
	if w := do(e, "GET", "/healthz", ""); w.Body.String() != "the application's" {
		t.Errorf("got %s", w.Body)
	}
	if w := do(e, "GET", "/llm/readyz", ""); w.Code != 404 {
		t.Errorf("/readyz without health: %d", w.Code)
	}
	r := httptest.NewRequest(http.MethodPost, "/llm"+chatPath, strings.NewReader(ask("")))
	r.Header.Set("Authorization", "Bearer k")
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	if w.Code != 200 || w.Header().Get("Content-Type") != mimeJSON {
		t.Errorf("with a key: %d %v", w.Code, w.Header())
	}
}

// opaque hides the capabilities of a generator.
type opaque struct{ runtime.Generator }

// broken panics in Start.
type broken struct{ runtime.Generator }

func (broken) Start(context.Context, runtime.Request) (*runtime.Stream, error) { panic("a secret") }

// stuck gives streams in which nothing ever happens.
type stuck struct{ runtime.Generator }

func (stuck) Start(ctx context.Context, _ runtime.Request) (*runtime.Stream, error) {
	s, _ := runtime.NewStream(ctx, 1, nil)
	return s, nil
}

// stuckBeating is stuck but for heartbeats.
type stuckBeating struct{ runtime.Generator }

func (stuckBeating) Start(ctx context.Context, _ runtime.Request) (*runtime.Stream, error) {
	s, w := runtime.NewStream(ctx, 2, nil)
	w.TrySend(runtime.Event{Kind: runtime.EventHeartbeat})
	w.TrySend(runtime.Event{Kind: runtime.EventHeartbeat})
	return s, nil
}

func TestHealth(t *testing.T) {
	closed := runtimetest.New()
	closed.Close()
	busy := &runtime.Error{Code: runtime.CodeOverloaded, Err: errors.New("queue full")}
	for _, tc := range []struct {
		name string
		gen  runtime.Generator
		want int
	}{
		{"ready", fake(t), 200},
		{"closed", closed, 503},
		{"failing", fake(t, runtimetest.WithError(errors.New("broken"))), 503},
		{"probed", opaque{fake(t)}, 200},
		{"probed and waiting", opaque{fake(t, runtimetest.WithGate(runtimetest.NewGate()))}, 200},
		{"probed and busy", opaque{fake(t, runtimetest.WithError(busy))}, 200},
		{"probed and closed", opaque{closed}, 503},
		{"probed and panicking", broken{fake(t)}, 503},
		{"probed and stuck", stuck{fake(t)}, 503},
		{"probed, stuck and beating", stuckBeating{fake(t)}, 503},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := engine(New(tc.gen, WithReadyTimeout(200*time.Millisecond)))
			for range 2 {
				if w := do(e, "GET", "/readyz", ""); w.Code != tc.want || strings.Contains(w.Body.String(), "secret") {
					t.Errorf("/readyz: %d %s, want %d", w.Code, w.Body, tc.want)
				}
			}
			if w := do(e, "GET", "/healthz", ""); w.Code != 200 {
				t.Errorf("/healthz: %d", w.Code)
			}
		})
	}
	t.Run("one of two", func(t *testing.T) {
		err := New(fake(t, runtimetest.WithID("good")), WithModels(closed)).Ready(t.Context())
		if err == nil || !strings.Contains(err.Error(), "model fake") || strings.Contains(err.Error(), "good") {
			t.Errorf("got %v", err)
		}
	})
}

func TestAliasesAndUnknownRoutes(t *testing.T) {
	a := New(fake(t, runtimetest.WithID("first")), WithModels(fake(t, runtimetest.WithID("second"))),
		WithAlias("short", "second"), WithAlias("first", "second"), WithAlias("dangling", "none"))
	e := engine(a)
	e.HandleMethodNotAllowed = true
	e.NoRoute(a.NotFound)
	e.NoMethod(a.MethodNotAllowed)
	for _, tc := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{http.MethodPost, chatPath, ask(`"model":"short"`), http.StatusOK, `"model":"second"`},
		{http.MethodPost, chatPath, ask(`"model":"first"`), http.StatusOK, `"model":"first"`},
		{http.MethodPost, chatPath, ask(`"model":"dangling"`), http.StatusNotFound, `"code":"model_not_found"`},
		{http.MethodGet, "/v1/models/short", "", http.StatusOK, `"id":"second"`},
		{http.MethodGet, "/nope", "", http.StatusNotFound, `"code":"unknown_url"`},
		{http.MethodGet, chatPath, "", http.StatusMethodNotAllowed, `"code":"method_not_allowed"`},
		{http.MethodPost, chatPath, `{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":null},{"role":"user","content":"?"}]}`, http.StatusOK, `"finish_reason"`},
	} {
		w := do(e, tc.method, tc.path, tc.body)
		if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.want) {
			t.Errorf("%s %s %s: %d %s, want %d and %s", tc.method, tc.path, tc.body, w.Code, w.Body, tc.status, tc.want)
		}
	}
}

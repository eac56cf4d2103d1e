package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/models/hub"
)

// slowModel is a model whose answers last: a long context, and layers enough.
func slowModel() []byte {
	return testmodel.Llama(testmodel.Config{Layers: 8, ContextLength: 1 << 16, Keys: map[string]any{"tokenizer.ggml.eos_token_id": uint32(testmodel.Vocabulary - 1)}})
}

// A request that runs when the server is told to stop may end by itself within
// the time of grace; after that its context ends.
func TestServeStops(t *testing.T) {
	for _, tt := range []struct {
		name   string
		grace  time.Duration
		finish bool // the handler ends by itself
	}{{"within the grace", time.Minute, true}, {"after the grace", 20 * time.Millisecond, false}} {
		t.Run(tt.name, func(t *testing.T) {
			listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			finish := make(chan struct{})
			ended := make(chan error, 1)
			handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_ = http.NewResponseController(w).Flush() // the client sees a failure
				select {
				case <-finish:
				case <-r.Context().Done():
				}
				ended <- context.Cause(r.Context())
				_, _ = io.WriteString(w, "end") // as above
			})
			var logged bytes.Buffer
			served := make(chan error, 1)
			go func() { served <- serve(ctx, listener, handler, tt.grace, &logged) }()

			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+listener.Addr().String(), nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			stop()
			if tt.finish {
				close(finish)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || string(body) != "end" {
				t.Errorf("the answer was %q, %v", body, err)
			}
			cause := <-ended
			if tt.finish && cause != nil || !tt.finish && !errors.Is(cause, errStopping) {
				t.Errorf("the request ended with %v", cause)
			}
			if err := <-served; err != nil || logged.Len() > 0 {
				t.Errorf("serve: %v, log %q", err, &logged)
			}
		})
	}
}

func TestServeNames(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DUNLIN_CACHE", filepath.Join(dir, "cache"))
	for _, name := range []string{"a/m.gguf", "b/m.gguf", "a/" + hub.DefaultName + ".gguf"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, tinyModel(1), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c := serveCmd{Models: []string{filepath.Join(dir, "a/m.gguf"), filepath.Join(dir, "a", hub.DefaultName+".gguf")}}
	gens, all, err := c.loadAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if gens[0].Info().ID != "m" || gens[1].Info().ID != hub.DefaultName {
		t.Errorf("the models are called %q and %q", gens[0].Info().ID, gens[1].Info().ID)
	}
	if err := all.Close(); err != nil {
		t.Error(err)
	}
	c.Models[1] = filepath.Join(dir, "b/m.gguf")
	if _, _, err := c.loadAll(t.Context()); err == nil || !strings.Contains(err.Error(), "both called m") {
		t.Errorf("two models of one name: %v", err)
	}
}

// TestServeLogsFaults: the id that a client was given leads to what went wrong.
func TestServeLogsFaults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := os.WriteFile(path, tinyModel(1), 0o644); err != nil {
		t.Fatal(err)
	}
	c := serveCmd{Models: []string{path}}
	gens, all, err := c.loadAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var logged bytes.Buffer
	handler := c.handler(gens, &logged)
	ask := func(body string) (status int, answer string) {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/chat/completions", strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, req)
		return w.Code, w.Body.String()
	}
	const body = `{"model": "m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}`
	for body, want := range map[string]int{body: http.StatusOK, `{"model": "m", "messages": []}`: http.StatusBadRequest} {
		if status, answer := ask(body); status != want || logged.Len() > 0 {
			t.Errorf("status %d, want %d: %s, logged %q", status, want, answer, &logged)
		}
	}
	if err := all.Close(); err != nil {
		t.Fatal(err)
	}
	status, answer := ask(body)
	_, id, _ := strings.Cut(gjson.Get(answer, "error.message").String(), "(request id ")
	id = strings.TrimSuffix(id, ")")
	if status != http.StatusServiceUnavailable || len(id) < 8 || !strings.Contains(logged.String(), id+": ") || !strings.Contains(logged.String(), "closed") {
		t.Errorf("status %d, %s, logged %q", status, answer, &logged)
	}
	if n := strings.Count(logged.String(), "\n"); n != 1 {
		t.Errorf("%d lines: %q", n, &logged)
	}
}

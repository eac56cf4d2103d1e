package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/gin-gonic/gin"

	"github.com/dunlin-go/dunlin/httpapi"
	"github.com/dunlin-go/dunlin/runtime/runtimetest"
)

func writeTrace(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "trace.jsonl")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestBenchSimOverHTTP replays against a server.
func TestBenchSimOverHTTP(t *testing.T) {
	gin.SetMode(gin.TestMode)
	engine := gin.New()
	fake := runtimetest.New(runtimetest.WithID("m"), runtimetest.WithReply(func(string) string { return "abcdef" }))
	defer fake.Close()
	httpapi.New(fake).Mount(engine)
	server := httptest.NewServer(engine)
	defer server.Close()
	trace := writeTrace(t, `{"timestamp": 0, "input_length": 3, "output_length": 4}`, `{"timestamp": 5, "input_length": 3, "output_length": 2}`)
	var out, errs bytes.Buffer
	args := []string{"bench", "--serve-sim", trace, "--url", server.URL, "--served-model", "m", "--json"}
	if code := dunlin(args, &stdio{strings.NewReader(""), &out, &errs}); code != 0 || errs.Len() > 0 {
		t.Fatalf("exit code %d, stderr %q", code, &errs)
	}
	var got simReport
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Model != nil || got.URL != server.URL || got.Served != "m" || got.Figures.Done != 2 || got.Figures.OutputTokens != 6 || got.Figures.CountedBy != "usage" {
		t.Errorf("got %s", &out)
	}
	errs.Reset()
	out.Reset()
	args[6] = "other"
	if code := dunlin(args, &stdio{strings.NewReader(""), &out, &errs}); code != 1 || out.Len() > 0 || !strings.Contains(errs.String(), "HTTP 404") {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, &out, &errs)
	}
}

// TestBenchSimInterrupted: what was measured is printed, and the interrupt is an
// error. It comes while the server keeps the second request waiting.
func TestBenchSimInterrupted(t *testing.T) {
	gin.SetMode(gin.TestMode)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	engine := gin.New()
	fake := runtimetest.New()
	defer fake.Close()
	var asked atomic.Int64
	engine.Use(func(c *gin.Context) {
		if asked.Add(1) == 3 { // after the warm-up and the first
			_, _ = io.Copy(io.Discard, c.Request.Body) // net/http sees the client go only then
			cancel()
			<-c.Request.Context().Done()
			c.Abort()
		}
	})
	httpapi.New(fake).Mount(engine)
	server := httptest.NewServer(engine)
	defer server.Close()
	var out bytes.Buffer
	var c benchCmd
	if err := kong.ApplyDefaults(&c); err != nil {
		t.Fatal(err)
	}
	c.Output = "json"
	line := `{"timestamp": 0, "input_length": 3, "output_length": 4}`
	trace := writeTrace(t, line, line, line)
	c.ServeSim = &trace
	c.URL, c.ServedModel, c.Concurrency = server.URL, fake.Info().ID, 1
	err := c.Run(ctx, &stdio{strings.NewReader(""), &out, &out})
	var got simReport
	if jsonErr := json.Unmarshal(out.Bytes(), &got); jsonErr != nil || !errors.Is(err, context.Canceled) {
		t.Fatalf("%v, %v: %s", err, jsonErr, &out)
	}
	if got.Figures.Done != 1 || got.Figures.NotSent != 1 || got.Figures.Failed != 1 || got.Figures.Failures[0].Cause != "interrupted" {
		t.Errorf("got %s", &out)
	}
}

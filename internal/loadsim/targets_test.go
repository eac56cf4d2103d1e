package loadsim

import (
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/dunlin-go/dunlin/httpapi"
	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/runtime"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func tiny(t *testing.T) *runtime.Model {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tiny.gguf")
	if err := os.WriteFile(path, testmodel.Llama(testmodel.Config{ContextLength: 2048}), 0o644); err != nil {
		t.Fatal(err)
	}
	m, err := runtime.Load(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// served is the model behind dunlin's own HTTP surface.
func served(t *testing.T, m *runtime.Model) Target {
	t.Helper()
	gin.SetMode(gin.TestMode)
	engine := gin.New()
	httpapi.New(m).Mount(engine)
	server := httptest.NewServer(engine)
	t.Cleanup(server.Close)
	c, err := NewClient(server.URL, m.Info().ID)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestTargetsAgree replays one trace in the process and over HTTP: all that isn't a
// time is equal.
func TestTargetsAgree(t *testing.T) {
	tr := &Trace{BlockTokens: 32}
	for i := range 12 {
		e := Entry{Arrival: time.Duration(i) * time.Millisecond, Input: 40 + 4*i, Output: 1 + 2*i, Blocks: []int64{0}}
		if i == 7 {
			e.Input = 4000 // more than the context
		}
		tr.Entries = append(tr.Entries, e)
	}
	var got []*Figures
	for i := range 2 {
		m := tiny(t) // of its own, for a cache of its own
		target := Target(Native{m})
		if i == 1 {
			target = served(t, m)
		}
		f, err := Run(t.Context(), target, tr, Options{Concurrency: 1, IgnoreEOS: true}, budget.New(8<<20))
		if err != nil {
			t.Fatal(err)
		}
		if f.Done != 11 || f.Failed != 1 || f.OutputTokens != f.AskedOutput || f.AskedOutput != 144-15 || f.CountedBy != "usage" || f.CachedTokens == nil || *f.CachedTokens == 0 {
			t.Errorf("%+v", f)
		}
		got = append(got, f)
	}
	if got[0].Failures[0].Cause != runtime.CodeContextLength.String() || got[1].Failures[0].Cause != "HTTP 400" {
		t.Errorf("failures %v and %v", got[0].Failures, got[1].Failures)
	}
	times := cmpopts.IgnoreFields(Figures{}, "Seconds", "PerSecond", "Late", "PromptPerSecond", "OutputPerSecond", "TimeToFirstToken", "TimeBetweenTokens", "TimePerOutputToken", "EndToEnd", "Failures")
	if diff := cmp.Diff(got[0], got[1], times); diff != "" {
		t.Error(diff)
	}
}

// TestTargetsCountPieces: the text of one request comes in as many pieces on both
// ways.
func TestTargetsCountPieces(t *testing.T) {
	m := tiny(t)
	for _, text := range []string{"time people way", "red water", "a"} {
		var pieces [2]int
		var usages [2]Usage
		for i, target := range []Target{Native{m}, served(t, m)} {
			u, err := target.Do(t.Context(), Request{Text: text, MaxTokens: 100, IgnoreEOS: true}, func() { pieces[i]++ })
			if err != nil {
				t.Fatal(err)
			}
			u.Cached = 0 // the second meets what the first computed
			usages[i] = u
		}
		if pieces[0] != pieces[1] || usages[0] != usages[1] || pieces[0] == 0 || usages[0].Output != 100 {
			t.Errorf("%q: %d pieces in the process, %d over HTTP; %+v and %+v", text, pieces[0], pieces[1], usages[0], usages[1])
		}
	}
}

func TestNativeFails(t *testing.T) {
	m := tiny(t)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tc := range []struct {
		ctx    context.Context
		tokens int
		cause  string
	}{{canceled, 1, "canceled"}, {t.Context(), -1, "invalid request"}} {
		var f *RequestError
		if _, err := (Native{m}).Do(tc.ctx, Request{Text: "x", MaxTokens: tc.tokens}, func() {}); !errors.As(err, &f) || f.Cause != tc.cause {
			t.Errorf("got %v, want %s", err, tc.cause)
		}
	}
}

package runtime_test

import (
	"errors"
	"math"
	"sync"
	"testing"

	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/runtime"
)

// withProcessLimit sets the limit of the process until the test ends.
func withProcessLimit(t *testing.T, bytes int64) {
	before := runtime.SetMemoryLimit(bytes)
	t.Cleanup(func() { runtime.SetMemoryLimit(before) })
}

// exhausted is the refusal that err has to be.
func exhausted(t *testing.T, err error) *runtime.MemoryError {
	t.Helper()
	var e *runtime.MemoryError
	if runtime.CodeOf(err) != runtime.CodeResourceExhausted || !errors.As(err, &e) {
		t.Fatalf("%v, want a refusal with its numbers", err)
	}
	return e
}

// TestSetMemoryLimit: the limit of the process is lowered and raised while a model
// is loaded.
func TestSetMemoryLimit(t *testing.T) {
	m := tiny(t, testmodel.Config{})
	used := m.Stats().ProcessBudget.Used
	withProcessLimit(t, used/2)
	if got := runtime.SetMemoryLimit(-1); got != used/2 {
		t.Errorf("the limit is %d, want %d", got, used/2)
	}
	if s := m.Stats(); s.ProcessBudget.Used != used || s.BudgetUsed != used || s.BudgetLimit != used/2 || s.Budget.Limit != math.MaxInt64 {
		t.Errorf("with less than is used: %+v", s)
	}
	_, err := m.Start(t.Context(), runtime.Request{Prompt: "hello"})
	if e := exhausted(t, err); e.Purpose != runtime.PurposeRequest || e.Asked == 0 || e.Left != 0 || e.Limit != used/2 || e.Own {
		t.Errorf("a request: %+v", e)
	}
	_, err = runtime.LoadBytes(t.Context(), testmodel.Llama(testmodel.Config{}), runtime.WithMemoryLimit(1<<30))
	if e := exhausted(t, err); e.Left != 0 || e.Own {
		t.Errorf("another model: %+v", e)
	}
	runtime.SetMemoryLimit(used + 16<<20)
	if _, err := runtime.Generate(t.Context(), m, runtime.Request{Prompt: "hello", MaxTokens: 3}); err != nil {
		t.Errorf("after it was raised: %v", err)
	}
}

// TestStatsOfMemory: each model's bytes are told apart by purpose, and together
// they are the process's.
func TestStatsOfMemory(t *testing.T) {
	before := tiny(t, testmodel.Config{}).Stats()
	own, err := runtime.LoadBytes(t.Context(), testmodel.Llama(testmodel.Config{}), runtime.WithMemoryLimit(64<<20))
	if err != nil {
		t.Fatal(err)
	}
	s := own.Stats()
	if s.BudgetLimit != 64<<20 || s.BudgetUsed != s.Budget.Used || s.Budget.Limit != s.BudgetLimit {
		t.Errorf("a limit of its own: %+v", s)
	}
	sum := int64(0)
	for p := range runtime.Purpose(runtime.NumPurposes) {
		sum += s.Budget.By[p]
		if got, want := s.ProcessBudget.By[p], before.ProcessBudget.By[p]+s.Budget.By[p]; got != want {
			t.Errorf("%v: the process has %d bytes, want %d", p, got, want)
		}
	}
	if sum != s.Budget.Used {
		t.Errorf("the purposes have %d bytes, all %d", sum, s.Budget.Used)
	}
	for _, p := range []runtime.Purpose{runtime.PurposeVocabulary, runtime.PurposeKVCache, runtime.PurposeScratch} {
		if s.Budget.By[p] == 0 {
			t.Errorf("no bytes of %v", p)
		}
	}
	if _, err = runtime.LoadBytes(t.Context(), testmodel.Llama(testmodel.Config{}), runtime.WithMemoryLimit(1000)); err != nil {
		if e := exhausted(t, err); !e.Own || e.Limit != 1000 {
			t.Errorf("%+v", e)
		}
	}
	if err := own.Close(); err != nil {
		t.Fatal(err)
	}
	if got := before.ProcessBudget; own.Stats().ProcessBudget != got {
		t.Errorf("%+v after it was closed, want %+v", own.Stats().ProcessBudget, got)
	}
}

// TestLimitsAtOnce: requests of two models run while the limits move. They are
// answered or refused, and everything is given back.
func TestLimitsAtOnce(t *testing.T) {
	shared, own := tiny(t, testmodel.Config{}), tiny(t, testmodel.Config{}, runtime.WithMemoryLimit(64<<20))
	idle := shared.Stats().ProcessBudget
	withProcessLimit(t, idle.Limit)
	var requests, limits sync.WaitGroup
	stop := make(chan struct{})
	limits.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				runtime.SetMemoryLimit(idle.Used + 4096)
				runtime.SetMemoryLimit(idle.Limit)
			}
		}
	})
	for _, m := range []*runtime.Model{shared, own, shared, own} {
		requests.Go(func() {
			for range 20 {
				_, err := runtime.Generate(t.Context(), m, runtime.Request{Prompt: "hello", MaxTokens: 2})
				if err != nil && runtime.CodeOf(err) != runtime.CodeResourceExhausted {
					t.Error(err)
				}
			}
		})
	}
	requests.Wait()
	close(stop)
	limits.Wait()
	waitFor(t, "the memory of the requests", func() bool { return shared.Stats().ProcessBudget.Used == idle.Used })
}

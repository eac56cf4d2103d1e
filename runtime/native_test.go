package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/runtime"
	"github.com/dunlin-go/dunlin/runtime/runtimetest"
	"github.com/dunlin-go/dunlin/tensor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tiny loads a model made up for tests.
func tiny(t testing.TB, c testmodel.Config, opts ...runtime.Option) *runtime.Model {
	t.Helper()
	m, err := runtime.LoadBytes(context.Background(), testmodel.Llama(c), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func TestConformance(t *testing.T) {
	runtimetest.Conformance(t, func(t *testing.T) runtime.Generator {
		return tiny(t, testmodel.Config{Weights: tensor.Q4_1, HeadType: tensor.Q8_0, Seed: 3})
	})
}

func TestConformanceRealModel(t *testing.T) {
	m := realModel(t, runtime.WithContextLength(1024))
	runtimetest.Conformance(t, func(*testing.T) runtime.Generator { return m })
}

// TestSameBits generates with each weight format and type of pages: the same text and
// log-probabilities whether one caller asks or 32 at once, on any number of
// threads and at any pace of the prefill.
func TestSameBits(t *testing.T) {
	for _, format := range []struct {
		weights tensor.DType
		pages   runtime.KVCacheType
	}{
		{tensor.F32, runtime.KVCacheF16},
		{tensor.F16, runtime.KVCacheF16},
		{tensor.Q8_0, runtime.KVCacheF16},
		{tensor.Q4_1, runtime.KVCacheF16},
		{tensor.Q4_1, runtime.KVCacheQ8_0},
	} {
		t.Run(fmt.Sprint(format), func(t *testing.T) {
			cfg := testmodel.Config{Weights: format.weights, HeadType: format.weights, Seed: 5, Untied: true, Embedding: 128}
			pages := runtime.WithKVCacheType(format.pages)
			requests := make([]runtime.Request, 32)
			for i := range requests {
				seed := uint64(i)
				requests[i] = runtime.Request{
					Prompt: fmt.Sprint("the ", i, " hello ", slices.Repeat([]string{"in the hell "}, i)), MaxTokens: 12, IgnoreEOS: true,
					Temperature: float64(i%2) * 0.8, TopK: 40, Seed: &seed, Logprobs: true,
				}
			}
			var want []*runtime.Result
			one := tiny(t, cfg, pages, runtime.WithThreads(1), runtime.WithMaxSequences(1))
			for _, r := range requests {
				res, err := runtime.Generate(t.Context(), one, r)
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, res)
			}
			for _, threads := range []int{1, 2, 3} {
				many := tiny(t, cfg, pages, runtime.WithThreads(threads))
				var wg sync.WaitGroup
				for i, r := range requests {
					wg.Go(func() {
						res, err := runtime.Generate(t.Context(), many, r)
						if err != nil {
							t.Error(err)
							return
						}
						if !slices.Equal(res.Tokens, want[i].Tokens) || !slices.Equal(res.Logprobs, want[i].Logprobs) || res.Text != want[i].Text {
							t.Errorf("request %d with %d threads: %q, alone it was %q", i, threads, res.Text, want[i].Text)
						}
					})
				}
				wg.Wait()
			}
		})
	}
}

// TestConcurrentCallersRealModel is the promise of the API: 32 goroutines get
// what one alone gets.
func TestConcurrentCallersRealModel(t *testing.T) {
	m := realModel(t, runtime.WithContextLength(256))
	req := runtime.Request{Messages: []runtime.Message{{Role: "user", Content: "Name three rivers."}}, MaxTokens: 12}
	alone, err := runtime.Generate(t.Context(), m, req)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			res, err := runtime.Generate(t.Context(), m, req)
			if err != nil {
				t.Error(err)
			} else if res.Text != alone.Text {
				t.Errorf("caller %d: %q, alone it was %q", i, res.Text, alone.Text)
			}
		})
	}
	wg.Wait()
}

func TestCloseEndsRequests(t *testing.T) {
	m := tiny(t, testmodel.Config{})
	var streams []*runtime.Stream
	for range 40 { // more than run at once
		s, err := m.Start(t.Context(), runtime.Request{Prompt: "hello", IgnoreEOS: true})
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, s)
	}
	if _, err := streams[0].Recv(); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	for i, s := range streams {
		for _, err := range s.All() {
			if err != nil && runtime.CodeOf(err) != runtime.CodeClosed {
				t.Errorf("stream %d: %v", i, err)
			}
		}
	}
	if _, err := m.Start(t.Context(), runtime.Request{Prompt: "hello"}); runtime.CodeOf(err) != runtime.CodeClosed {
		t.Errorf("Start after Close: %v", err)
	}
}

func TestQueueIsBounded(t *testing.T) {
	m := tiny(t, testmodel.Config{}, runtime.WithMaxSequences(1), runtime.WithQueue(2))
	var err error
	for range 10 {
		if _, err = m.Start(t.Context(), runtime.Request{Prompt: "hello", IgnoreEOS: true}); err != nil {
			break
		}
	}
	if runtime.CodeOf(err) != runtime.CodeOverloaded {
		t.Errorf("ten requests for a queue of two: %v", err)
	}
}

func TestMemoryLimit(t *testing.T) {
	data := testmodel.Llama(testmodel.Config{ContextLength: 4096})
	for _, limit := range []int64{1, 1000, 100_000, 1_000_000} {
		m, err := runtime.LoadBytes(t.Context(), data, runtime.WithMemoryLimit(limit))
		if m != nil || runtime.CodeOf(err) != runtime.CodeResourceExhausted {
			t.Errorf("limit %d: %v, %v", limit, m, err)
		}
	}
	m := tiny(t, testmodel.Config{}, runtime.WithMemoryLimit(10_000_000))
	if s := m.Stats(); s.BudgetUsed == 0 || s.BudgetUsed > s.BudgetLimit {
		t.Errorf("stats %+v", s)
	}
	_, err := m.Start(t.Context(), runtime.Request{Tokens: make([]int32, 100_000)})
	var long *runtime.ContextLengthError
	if !errors.As(err, &long) || long.Prompt != 100_000 || long.Limit != 512 {
		t.Errorf("a long prompt: %v", err)
	}
}

func TestBudgetIsGivenBack(t *testing.T) {
	m := tiny(t, testmodel.Config{}, runtime.WithMemoryLimit(50_000_000))
	before := m.Stats().BudgetUsed
	for range 5 {
		if _, err := runtime.Generate(t.Context(), m, runtime.Request{Prompt: "hello", MaxTokens: 5}); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Score(t.Context(), []int32{1, 2, 3}, runtime.ScoreOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Start(t.Context(), runtime.Request{Prompt: "hello", Tokens: []int32{1}}); err == nil {
			t.Fatal("two inputs were taken")
		}
	}
	waitFor(t, "the budget to be as before", func() bool { return m.Stats().BudgetUsed == before })
}

func TestOptions(t *testing.T) {
	_, err := runtime.LoadBytes(t.Context(), nil, runtime.WithThreads(0), runtime.WithContextLength(-1), runtime.WithMaxSequences(1<<20),
		runtime.WithQueue(0), runtime.WithMemoryLimit(0), runtime.WithID(""), runtime.WithActivations(9), runtime.WithModelWeight(0), runtime.WithKVCacheType(tensor.Q4_0))
	if runtime.CodeOf(err) != runtime.CodeInvalidRequest {
		t.Errorf("%v", err)
	}
	for _, what := range []string{"threads", "context length", "max sequences", "queue", "memory limit", "id", "activations", "model's weight", "no type Q4_0"} {
		if !contains(err, what) {
			t.Errorf("%q says nothing of %s", err, what)
		}
	}
}

// TestPagesThatCannotBeQ8: with heads that have no whole scales, and beside float32
// activations, pages of Q8_0 are refused by name, and nothing else is.
func TestPagesThatCannotBeQ8(t *testing.T) {
	pages := runtime.WithKVCacheType(runtime.KVCacheQ8_0)
	for embedding, ok := range map[int]bool{64: false, 96: false, 128: true, 256: true} { // of 4 heads
		m, err := runtime.LoadBytes(t.Context(), testmodel.Llama(testmodel.Config{Embedding: embedding}), pages)
		if ok {
			if err != nil {
				t.Errorf("heads of %d: %v", embedding/4, err)
			} else if err := m.Close(); err != nil {
				t.Error(err)
			}
			continue
		}
		var own *runtime.Error
		if !errors.As(err, &own) || own.Code != runtime.CodeInvalidRequest || own.Field != "kv_cache_type" || !contains(err, "Q8_0") {
			t.Errorf("heads of %d: %v", embedding/4, err)
		}
	}
	f32 := runtime.WithActivations(runtime.ActivationsF32)
	for _, opts := range [][]runtime.Option{{f32, pages}, {pages, f32}} {
		_, err := runtime.LoadBytes(t.Context(), testmodel.Llama(testmodel.Config{Embedding: 128}), opts...)
		if runtime.CodeOf(err) != runtime.CodeInvalidRequest || !contains(err, "Q8_0") {
			t.Errorf("with float32 activations: %v", err)
		}
	}
	tiny(t, testmodel.Config{Embedding: 128}, f32, runtime.WithKVCacheType(runtime.KVCacheF16))
}

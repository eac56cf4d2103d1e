//go:build !race

package runtime_test

import (
	"testing"
	"time"

	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/runtime"
	"github.com/dunlin-go/dunlin/tensor"
)

// TestDecodeAllocatesNothing counts the allocations of the whole process while
// tokens are decoded in the steady state: by the engine, the executor, the
// sampler and the stream. (The race detector allocates.)
func TestDecodeAllocatesNothing(t *testing.T) {
	seed := uint64(7)
	requests := map[string]runtime.Request{
		"greedy":      {},
		"temperature": {Temperature: 0.8, Seed: &seed},
		"top-k":       {Temperature: 0.8, TopK: 40, Seed: &seed},
		"top-p":       {Temperature: 0.8, TopP: 0.9, Seed: &seed},
		// Text is held back, and joined later, where it could be the beginning.
		"stop": {Stop: []string{"####"}},
	}
	t.Run("tiny", func(t *testing.T) {
		m := tiny(t, testmodel.Config{Weights: tensor.Q4_1, HeadType: tensor.Q8_0, Seed: 3, ContextLength: 2048})
		for name, req := range requests {
			t.Run(name, func(t *testing.T) { decodeAllocs(t, m, req, 300, 0) })
		}
	})
	t.Run("heartbeat", func(t *testing.T) { // which is far away, but the timer is wound up for each event
		m := tiny(
			t, testmodel.Config{Weights: tensor.Q4_1, HeadType: tensor.Q8_0, Seed: 3, ContextLength: 2048}, runtime.WithHeartbeat(50*time.Millisecond),
		)
		decodeAllocs(t, m, runtime.Request{}, 300, 30) // a reader that waits for two things is more to the Go runtime, too
	})
	t.Run("observed", func(t *testing.T) {
		steps := 0
		m := tiny(
			t, testmodel.Config{Weights: tensor.Q4_1, HeadType: tensor.Q8_0, Seed: 3, ContextLength: 2048},
			runtime.WithObserver(runtime.Observer{Step: func(runtime.StepEnded) { steps++ }}),
		)
		decodeAllocs(t, m, runtime.Request{}, 300, 30) // one more goroutine waits, now on one thread, now on another
		if m.Close(); steps < 300 {
			t.Errorf("told of %d steps", steps)
		}
	})
	t.Run("pages of Q8_0", func(t *testing.T) {
		cfg := testmodel.Config{Weights: tensor.Q4_1, HeadType: tensor.Q8_0, Seed: 3, ContextLength: 2048, Embedding: 128}
		decodeAllocs(t, tiny(t, cfg, runtime.WithKVCacheType(runtime.KVCacheQ8_0)), requests["greedy"], 300, 0)
	})
	t.Run("real", func(t *testing.T) {
		m := realModel(t, runtime.WithContextLength(512))
		for name, req := range requests {
			t.Run(name, func(t *testing.T) { decodeAllocs(t, m, req, 60, 0) })
		}
	})
}

func decodeAllocs(t *testing.T, m *runtime.Model, req runtime.Request, tokens, allowed int) {
	// The Go runtime allocates now and then itself, for a goroutine that waits, a
	// timer or a thread: not in each of three attempts.
	const attempts = 3
	req.Prompt, req.IgnoreEOS, req.MaxTokens = "Once upon a time", true, 2*attempts*tokens+40
	s, err := m.Start(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	next := func() {
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 { // what grows to its size once
		next()
	}
	// AllocsPerRun leaves fractions out, so one run is many tokens.
	var n float64
	for range attempts {
		n = testing.AllocsPerRun(1, func() {
			for range tokens {
				next()
			}
		})
		if n <= float64(allowed) {
			return
		}
	}
	t.Errorf("%v allocations in %d tokens", n, tokens)
}

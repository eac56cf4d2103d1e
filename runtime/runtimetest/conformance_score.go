package runtimetest

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dunlin-go/dunlin/runtime"
)

// scorer gives the capability and something to score.
func scorer(t *testing.T, g runtime.Generator) (runtime.Scorer, []int32) {
	t.Helper()
	s, ok := runtime.As[runtime.Scorer](g)
	if !ok {
		t.Skip("the generator has no Scorer")
	}
	k, ok := runtime.As[runtime.Tokenizer](g)
	if !ok {
		t.Skip("the generator has no Tokenizer")
	}
	ids, err := k.Tokenize(limited(t), prompt, runtime.TokenizeOptions{AddSpecial: true})
	if err != nil {
		t.Fatal(err)
	}
	return s, ids
}

// testScore holds what Each is given to what Score returns.
func testScore(t *testing.T, g runtime.Generator) {
	s, ids := scorer(t, g)
	for _, from := range []int{0, 1, len(ids) - 1} {
		var mu sync.Mutex
		likeliest, calls := make([]int32, len(ids)-from), 0
		score, err := s.Score(limited(t), ids, runtime.ScoreOptions{From: from, Top: 3, Each: func(at int, logits []float32) {
			mu.Lock()
			defer mu.Unlock()
			calls++
			likeliest[at-from] = int32(slices.Index(logits, slices.Max(logits)))
			if at == len(ids)-1 && len(logits) != g.Info().Vocabulary {
				t.Errorf("%d logits of %d tokens", len(logits), g.Info().Vocabulary)
			}
		}})
		if err != nil {
			t.Fatalf("from %d: %v", from, err)
		}
		if calls != len(ids)-from || !slices.Equal(likeliest, score.Argmax) {
			t.Errorf("from %d of %d: %d calls with %v, the score has %v", from, len(ids), calls, likeliest, score.Argmax)
		}
		if len(score.Logprobs) != len(ids)-from-1 || len(score.Top) != 3 || score.Top[0].ID != likeliest[len(likeliest)-1] {
			t.Errorf("from %d of %d: %+v", from, len(ids), score)
		}
	}
}

// testScorePanic: what the caller's function does ends only the caller's score.
func testScorePanic(t *testing.T, g runtime.Generator) {
	s, ids := scorer(t, g)
	_, err := s.Score(limited(t), ids, runtime.ScoreOptions{Each: func(int, []float32) { panic("a bug of the caller's") }})
	if runtime.CodeOf(err) != runtime.CodeInternal {
		t.Errorf("got %v (%v), want %v", err, runtime.CodeOf(err), runtime.CodeInternal)
	}
	works(t, g)
}

// testScoreCancel: logits are lent until Score returns and no longer, also where it
// returns early.
func testScoreCancel(t *testing.T, g runtime.Generator) {
	s, ids := scorer(t, g)
	for len(ids) < g.Info().ContextLength/2 {
		ids = append(ids, ids...)
	}
	ctx, cancel := context.WithCancel(limited(t))
	defer cancel()
	var once sync.Once
	var returned atomic.Bool
	_, err := s.Score(ctx, ids, runtime.ScoreOptions{Each: func(int, []float32) {
		once.Do(cancel)
		if returned.Load() {
			t.Error("a call after the return")
		}
	}})
	returned.Store(true)
	if err != nil && runtime.CodeOf(err) != runtime.CodeCanceled {
		t.Errorf("got %v", err)
	}
	works(t, g)
}

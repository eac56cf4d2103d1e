package runtime_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/runtime"
	"github.com/dunlin-go/dunlin/tensor"
)

// someTokens are n tokens without a pattern.
func someTokens(n int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(testmodel.FirstByte + i*i*7%250)
	}
	return ids
}

// TestScoreFrom holds the scores from a position on to the end of all scores,
// bit for bit, with one row of logits in a step and with many, alone and beside
// requests that decode.
func TestScoreFrom(t *testing.T) {
	cfg := testmodel.Config{Weights: tensor.Q4_1, HeadType: tensor.Q8_0, Seed: 7}
	tokens := someTokens(100)
	want, err := tiny(t, cfg).Score(t.Context(), tokens, runtime.ScoreOptions{Top: 5})
	if err != nil {
		t.Fatal(err)
	}
	if len(want.Logprobs) != 99 || len(want.Argmax) != 100 || len(want.Top) != 5 {
		t.Fatalf("%d log-probabilities, %d likeliest tokens, %d logits", len(want.Logprobs), len(want.Argmax), len(want.Top))
	}
	check := func(t *testing.T, m *runtime.Model, from int) {
		got, err := m.Score(t.Context(), tokens, runtime.ScoreOptions{Top: 5, From: from})
		if err != nil {
			t.Errorf("from %d: %v", from, err)
			return
		}
		if !slices.Equal(got.Logprobs, want.Logprobs[from:]) || !slices.Equal(got.Argmax, want.Argmax[from:]) || !slices.Equal(got.Top, want.Top) {
			t.Errorf("from %d: %d log-probabilities, %d likeliest tokens: not the end of all", from, len(got.Logprobs), len(got.Argmax))
		}
	}
	froms := []int{0, 1, 31, 32, 33, 50, 98, 99}
	for _, sequences := range []int{1, 3, 32} {
		m := tiny(t, cfg, runtime.WithMaxSequences(sequences))
		for _, from := range froms {
			check(t, m, from)
		}
	}
	m := tiny(t, cfg, runtime.WithMaxSequences(4))
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if _, err := runtime.Generate(t.Context(), m, runtime.Request{Prompt: "hello", MaxTokens: 200, IgnoreEOS: true}); err != nil {
				t.Error(err)
			}
		})
	}
	for _, from := range froms {
		wg.Go(func() { check(t, m, from) })
	}
	wg.Wait()
}

// TestScoreFromSavesSteps has one row of logits in a step, so that each scored
// token takes a step and the tokens before them take few.
func TestScoreFromSavesSteps(t *testing.T) {
	m := tiny(t, testmodel.Config{}, runtime.WithMaxSequences(1))
	for _, tc := range []struct{ from, least, most int }{{0, 100, 100}, {90, 10, 40}, {99, 1, 30}} {
		before := m.Stats().Steps
		if _, err := m.Score(t.Context(), someTokens(100), runtime.ScoreOptions{From: tc.from}); err != nil {
			t.Fatal(err)
		}
		if steps := int(m.Stats().Steps - before); steps < tc.least || steps > tc.most {
			t.Errorf("from %d: %d steps, want %d to %d", tc.from, steps, tc.least, tc.most)
		}
	}
}

func TestHostileScoreFrom(t *testing.T) {
	m := tiny(t, testmodel.Config{})
	for _, from := range []int{-1, math.MinInt, 3, math.MaxInt} {
		_, err := m.Score(t.Context(), []int32{1, 2, 3}, runtime.ScoreOptions{From: from})
		if runtime.CodeOf(err) != runtime.CodeInvalidRequest || !contains(err, "from is") {
			t.Errorf("from %d: %v", from, err)
		}
	}
}

// TestScorePadding: a row of the embedding without a token has no logit. It can be
// context but is nothing to score, and the request that wants that ends nobody
// else's.
func TestScorePadding(t *testing.T) {
	m := tiny(t, testmodel.Config{Padding: 4})
	padding := int32(m.Info().Vocabulary - 1)
	other, err := m.Start(t.Context(), runtime.Request{Prompt: "hello", IgnoreEOS: true, MaxTokens: 30})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		tokens []int32
		from   int
		bad    int // which of them, 0 for none
	}{
		{[]int32{3, padding, 5}, 0, 1},
		{[]int32{3, 4, padding - 3}, 1, 2},
		{[]int32{3, 4, padding - 4}, 1, 0},
		{[]int32{padding, 4, 5}, 0, 0},
		{[]int32{3, padding, 5}, 1, 0},
		{[]int32{3, padding}, 1, 0},
	} {
		got, err := m.Score(t.Context(), tc.tokens, runtime.ScoreOptions{From: tc.from, Top: 1000})
		switch own := (*runtime.Error)(nil); {
		case tc.bad == 0 && (err != nil || len(got.Top) != int(padding)-3):
			t.Errorf("%v from %d: %v, %v", tc.tokens, tc.from, got, err)
		case tc.bad == 0:
		case !errors.As(err, &own) || own.Code != runtime.CodeInvalidRequest || own.Field != "tokens" || !contains(err, fmt.Sprintf("token %d is", tc.bad)):
			t.Errorf("%v from %d: %v", tc.tokens, tc.from, err)
		}
	}
	for _, err := range other.All() {
		if err != nil {
			t.Errorf("the other request: %v", err)
		}
	}
}

package runtime

import (
	"context"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/tensor"
)

// keepWindows lets layers with a window keep what is behind it.
func keepWindows(o *options) error {
	o.keepWindows = true
	return nil
}

// hybrid is a model of which some layers see a window.
func hybrid(layers, pattern, window, context int) []byte {
	return testmodel.Gemma3(testmodel.Config{
		Seed: 5, Layers: layers, ContextLength: context, Weights: tensor.Q4_1, HeadType: tensor.Q8_0,
		Keys: map[string]any{"gemma3.attention.sliding_window": uint32(window), "gemma3.attention.sliding_window_pattern": uint32(pattern)},
	})
}

// sameAnswer reports whether two answers have the same tokens and log-probabilities to
// the bit.
func sameAnswer(a, b *Result) bool {
	return reflect.DeepEqual([]any{a.Text, a.Tokens, a.Logprobs, a.Top, a.Finish}, []any{b.Text, b.Tokens, b.Logprobs, b.Top, b.Finish})
}

// TestSameBitsWithoutWhatIsBehindWindows sends crowds of requests that begin alike to a
// model that keeps the pages behind its windows, to one that gives them back, and to one
// that has so few that requests are preempted and prefixes evicted: nobody can tell.
func TestSameBitsWithoutWhatIsBehindWindows(t *testing.T) {
	for _, window := range []int{1, 11, 64, 70} {
		data := hybrid(6, 3, window, 512)
		kept, given := checkedOf(t, data, keepWindows), checkedOf(t, data)
		page := given.engine.cache.PageBytes() + 400
		tight := checkedOf(t, data, WithKVCacheBytes(36*page), WithMaxSequences(8))
		if n := tight.Info().ContextLength; n != 512 { // 48 pages of all layers
			t.Fatalf("a window of %d: 36 pages are for %d tokens", window, n)
		}
		if n := kept.engine.cache.PageBytes(); n != 3*given.engine.cache.PageBytes() {
			t.Fatalf("a page of all layers has %d bytes", n)
		}
		rng := rand.New(rand.NewPCG(uint64(window), 7))
		common := make([]int32, 400)
		for i := range common {
			common[i] = 3 + rng.Int32N(250)
		}
		rounds := 4
		if testing.Short() {
			rounds = 2
		}
		cached := 0
		for range rounds {
			var reqs [12]Request
			for i := range reqs {
				length, answer := 1+rng.IntN(400), 1+rng.IntN(110)
				priority := rng.IntN(2)
				if i%4 == 0 { // runs soon, beside others like it, and grows until some have to go
					length, answer, priority = 1+rng.IntN(32), 400, 2
				}
				prompt := slices.Clone(common[:length])
				for i := rng.IntN(length + 1); i < length; i++ {
					prompt[i] = 3 + rng.Int32N(250)
				}
				seed := rng.Uint64()
				reqs[i] = Request{
					Tokens: prompt, MaxTokens: answer, IgnoreEOS: true, Logprobs: true, TopLogprobs: 3,
					Temperature: 0.7, Seed: &seed, Priority: priority, CacheSalt: string("ab"[rng.IntN(2)]),
				}
			}
			var all [3][len(reqs)]*Result
			for i, m := range []*Model{kept, given, tight} { // one after the other, so that each has the whole crowd
				var wg sync.WaitGroup
				for j, req := range reqs {
					wg.Go(func() {
						res, err := Generate(context.Background(), m, req)
						if err != nil {
							t.Error(err)
						}
						all[i][j] = res
					})
				}
				wg.Wait()
			}
			if t.Failed() {
				return
			}
			for j, req := range reqs {
				if !sameAnswer(all[0][j], all[1][j]) || !sameAnswer(all[0][j], all[2][j]) {
					t.Errorf("a window of %d, %d tokens: not the same", window, len(req.Tokens))
				}
				cached += all[2][j].Usage.CachedTokens
			}
		}
		if n := tight.Stats().Preemptions; n == 0 || cached == 0 {
			t.Errorf("a window of %d: %d preemptions, %d tokens were cached", window, n, cached)
		}
	}
}

// heldAtEnd is how many pages, in bytes, a request of so many tokens holds when it
// ends, and the most that it held between steps.
func heldAtEnd(t *testing.T, m *Model, prompt, answer int) (bytes, most int64) {
	t.Helper()
	e := m.engine
	check := e.check
	var mu sync.Mutex
	step := int64(0) // the last one that was looked at
	e.check = func() {
		if check != nil {
			check()
		}
		mu.Lock()
		defer mu.Unlock()
		step = e.counts.steps.Load()
		bytes = int64(e.cache.Used()) * e.cache.PageBytes()
		most = max(most, bytes)
	}
	tokens := make([]int32, prompt)
	for i := range tokens {
		tokens[i] = int32(3 + i%200)
	}
	if _, err := Generate(context.Background(), m, Request{Tokens: tokens, MaxTokens: answer, IgnoreEOS: true}); err != nil {
		t.Fatal(err)
	}
	WaitFor(t, "the last step to be looked at", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return step == m.Stats().Steps
	})
	return bytes, most
}

// TestLongRequestHoldsItsWindows counts the pages of a request of 8,000 tokens: those
// of one layer for all of them, of five for the window.
func TestLongRequestHoldsItsWindows(t *testing.T) {
	tokens := 8000
	if testing.Short() {
		tokens = 2016
	}
	data := hybrid(6, 6, 512, 8192)
	blocks := int64(tokens / 32)
	for _, tc := range []struct {
		name  string
		opts  []Option
		pages int64 // of one layer, at the end: the last token isn't computed
		most  int64
	}{
		{"kept", []Option{keepWindows}, 6 * blocks, 6 * blocks},
		{"given back", nil, blocks + 5*16, blocks + 5*17},
	} {
		m := checkedOf(t, data, append(tc.opts, WithMaxSequences(1))...)
		held, most := heldAtEnd(t, m, tokens-50, 51)
		if page := int64(2 * 2 * 32 * 32 * 2); held != tc.pages*page || most > tc.most*page {
			t.Errorf("%s: %d pages at the end, %d at most, want %d and %d", tc.name, held/page, most/page, tc.pages, tc.most)
		}
		if n := int64(m.Stats().KVPages); tc.name == "kept" && n != 8192/32 || tc.name != "kept" && n > 8192/32+5*(18+64) {
			t.Errorf("%s: the cache has %d pages", tc.name, n)
		}
	}
}

// TestGemmaGivesPagesBack does both with the real model.
func TestGemmaGivesPagesBack(t *testing.T) {
	path := os.Getenv("DUNLIN_TEST_GEMMA")
	if path == "" || testing.Short() {
		t.Skip("DUNLIN_TEST_GEMMA is not set to the path of the model, or -short")
	}
	var answers []*Result
	var held []int64
	for _, opts := range [][]Option{{keepWindows}, nil} {
		m, err := Load(t.Context(), path, append(opts, WithContextLength(2048), WithMaxSequences(2))...)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		bytes, _ := heldAtEnd(t, m, 1500, 20)
		held = append(held, bytes)
		tokens := make([]int32, 1300)
		for i := range tokens {
			tokens[i] = int32(3 + i%200)
		}
		for range 2 { // the first part is there already; then all of it is
			res, err := Generate(t.Context(), m, Request{Tokens: append(tokens, 1000, 2000, 3000), MaxTokens: 40, IgnoreEOS: true, Logprobs: true, TopLogprobs: 5})
			if err != nil {
				t.Fatal(err)
			}
			if res.Usage.CachedTokens < len(tokens) {
				t.Errorf("%d tokens were cached", res.Usage.CachedTokens)
			}
			answers = append(answers, res)
		}
	}
	for _, a := range answers[1:] {
		if !sameAnswer(answers[0], a) {
			t.Error("not the same answers")
		}
	}
	// 48 blocks of 18 layers; of 3, and 17 of 15.
	if layer := int64(2 * 2 * 32 * 256); held[0] != 48*18*layer || held[1] > (48*3+17*15)*layer {
		t.Errorf("%d bytes are held, %d with what is behind the windows", held[1], held[0])
	}
	t.Logf("%d bytes are held, %d with what is behind the windows", held[1], held[0])
}

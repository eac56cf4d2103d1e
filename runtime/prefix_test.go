package runtime_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/runtime"
	"github.com/dunlin-go/dunlin/tensor"
)

// outcome is what of an answer must not depend on anything else that runs.
func outcome(res *runtime.Result) any {
	return []any{res.Text, res.Tokens, res.Logprobs, res.Top, res.Finish, res.Usage.PromptTokens, res.Usage.CompletionTokens}
}

func generate(t testing.TB, m *runtime.Model, req runtime.Request) *runtime.Result {
	t.Helper()
	res, err := runtime.Generate(t.Context(), m, req)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// ids is n tokens; those from the position differs on depend on the seed.
func ids(n, differs int, seed int32) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = int32(3 + i*7%200)
		if i >= differs {
			out[i] = (out[i]*31 + seed*17) % 250
		}
	}
	return out
}

// TestSameBitsFromCachedPages asks for prompts that begin like earlier ones up
// to each kind of place: the tokens and all log-probabilities are those of a
// model that has computed nothing before.
func TestSameBitsFromCachedPages(t *testing.T) {
	for _, cfg := range []struct {
		name   string
		build  func(testmodel.Config) []byte
		option runtime.Option
	}{
		{"llama", testmodel.Llama, runtime.WithKVCacheType(runtime.KVCacheF16)},
		{"gemma3", testmodel.Gemma3, runtime.WithKVCacheType(runtime.KVCacheF16)},
		{"llama, pages of Q8_0", testmodel.Llama, runtime.WithKVCacheType(runtime.KVCacheQ8_0)},
		{"gemma3, pages of Q8_0", testmodel.Gemma3, runtime.WithKVCacheType(runtime.KVCacheQ8_0)},
		{"f32", testmodel.Llama, runtime.WithActivations(runtime.ActivationsF32)},
	} {
		t.Run(cfg.name, func(t *testing.T) {
			data := cfg.build(testmodel.Config{Weights: tensor.Q4_1, HeadType: tensor.Q8_0, Seed: 3, Layers: 6, Embedding: 128})
			load := func() *runtime.Model {
				m, err := runtime.LoadBytes(t.Context(), data, cfg.option)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { m.Close() })
				return m
			}
			warm := load()
			generate(t, warm, runtime.Request{Tokens: ids(200, 200, 0), MaxTokens: 80, IgnoreEOS: true})
			for i, tc := range []struct{ length, differs, cached int }{
				{200, 200, 199},          // all of it, and still the last token is computed
				{192, 192, 191},          // up to the end of a page
				{193, 193, 192},          // and one more
				{20, 20, 19},             // less than a page
				{1, 1, 0},                // nothing to begin with
				{150, 0, 0}, {150, 1, 1}, // nothing in common, hardly anything
				{150, 31, 31}, {150, 32, 32}, {150, 33, 33}, // around the end of a page
				{150, 149, 149}, {400, 130, 130},
			} {
				req := runtime.Request{Tokens: ids(tc.length, tc.differs, int32(i)), MaxTokens: 40, IgnoreEOS: true, Logprobs: true, TopLogprobs: 20}
				cold := generate(t, load(), req)
				hit := generate(t, warm, req)
				if cold.Usage.CachedTokens != 0 || hit.Usage.CachedTokens != tc.cached {
					t.Errorf("%+v: %d and %d tokens were cached", tc, cold.Usage.CachedTokens, hit.Usage.CachedTokens)
				}
				if !reflect.DeepEqual(outcome(cold), outcome(hit)) {
					t.Errorf("%+v: from the cache %v, computed %v", tc, outcome(hit), outcome(cold))
				}
			}
			// An answer is part of the next prompt of a conversation.
			first := generate(t, warm, runtime.Request{Tokens: ids(40, 0, 77), MaxTokens: 60, IgnoreEOS: true})
			req := runtime.Request{Tokens: slices.Concat(ids(40, 0, 77), first.Tokens, ids(9, 0, 5)), MaxTokens: 20, IgnoreEOS: true, Logprobs: true}
			cold, hit := generate(t, load(), req), generate(t, warm, req)
			if hit.Usage.CachedTokens < 96 || !reflect.DeepEqual(outcome(cold), outcome(hit)) {
				t.Errorf("a second turn had %d tokens cached", hit.Usage.CachedTokens)
			}
		})
	}
}

// TestScoreFromCachedPages: what is before From may come from the cache, the
// log-probabilities are the same to the bit.
func TestScoreFromCachedPages(t *testing.T) {
	cfg := testmodel.Config{Weights: tensor.Q4_1, Seed: 4}
	warm := tiny(t, cfg)
	tokens := ids(300, 300, 0)
	for _, from := range []int{0, 299, 100, 64, 63, 0} {
		opt := runtime.ScoreOptions{From: from, Top: 5}
		want, err := tiny(t, cfg).Score(t.Context(), tokens, opt)
		if err != nil {
			t.Fatal(err)
		}
		before := warm.Stats()
		got, err := warm.Score(t.Context(), tokens, opt)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("from %d on: not the same from the cache", from)
		}
		if n := warm.Stats().CachedTokens - before.CachedTokens; before.Steps > 0 && int(n) != min(from, 288) { // full pages are kept
			t.Errorf("from %d on: %d tokens were cached", from, n)
		}
	}
}

// TestSaltsKeepPromptsApart: other salts, and other tenants where prefixes are
// private, learn nothing.
func TestSaltsKeepPromptsApart(t *testing.T) {
	for _, private := range []bool{false, true} {
		var opts []runtime.Option
		if private {
			opts = append(opts, runtime.WithPrivatePrefixes())
		}
		m := tiny(t, testmodel.Config{}, opts...)
		req := runtime.Request{Tokens: ids(100, 100, 0), MaxTokens: 1, Tenant: "a", CacheSalt: "1"}
		generate(t, m, req)
		for _, tc := range []struct {
			tenant, salt string
			shared       bool
		}{
			{"a", "1", true},
			{"b", "1", !private},
			{"a", "2", false},
			{"a", "", false},
			{"", "a1", false},
			{"a1", "", !private},
		} {
			req.Tenant, req.CacheSalt = tc.tenant, tc.salt
			if got := generate(t, m, req).Usage.CachedTokens; (got > 0) != tc.shared {
				t.Errorf("private: %v, tenant %q, salt %q: %d tokens were cached", private, tc.tenant, tc.salt, got)
			}
		}
	}
}

// TestSameBitsWhenPagesRunOut runs many answers on few pages, beside others that
// are given up: they are preempted and computed anew, and nobody can tell.
func TestSameBitsWhenPagesRunOut(t *testing.T) {
	for _, pages := range []runtime.KVCacheType{runtime.KVCacheF16, runtime.KVCacheQ8_0} {
		t.Run(pages.String(), func(t *testing.T) { sameBitsWhenPagesRunOut(t, pages) })
	}
}

func sameBitsWhenPagesRunOut(t *testing.T, pages runtime.KVCacheType) {
	cfg := testmodel.Config{Weights: tensor.Q4_1, HeadType: tensor.Q8_0, Seed: 3, Embedding: 128}
	free := tiny(t, cfg, runtime.WithKVCacheType(pages))
	pageBytes := int64(2 * 2 * 32 * 2 * pages.RowBytes(32)) // of the test model
	tight := tiny(t, cfg, runtime.WithKVCacheType(pages), runtime.WithKVCacheBytes(8*(pageBytes+1000)), runtime.WithMaxSequences(6))
	if s := tight.Stats(); s.KVPages < 8 || s.KVPages > 10 || tight.Info().ContextLength != s.KVPages*32 {
		t.Fatalf("%d pages, a context of %d", s.KVPages, tight.Info().ContextLength)
	}
	var wg sync.WaitGroup
	for i := range int32(24) {
		wg.Go(func() {
			req := runtime.Request{
				Tokens: ids(20+int(i)*5, int(i), i), MaxTokens: 90, IgnoreEOS: true, Logprobs: true, TopLogprobs: 3,
				Priority: int(i % 3), Tenant: fmt.Sprint(i % 2), Temperature: 0.5, Seed: new(uint64),
			}
			want, err := runtime.Generate(t.Context(), free, req)
			if err != nil {
				t.Error(err)
				return
			}
			// A neighbour that begins alike and is given up somewhere.
			neighbour, err := tight.Start(t.Context(), req)
			if err != nil {
				t.Error(err)
				return
			}
			wg.Go(func() {
				for range i {
					if _, err := neighbour.Recv(); err != nil {
						t.Error(err)
					}
				}
				neighbour.Close()
			})
			got, err := runtime.Generate(t.Context(), tight, req)
			if err != nil {
				t.Error(err)
			} else if !reflect.DeepEqual(outcome(got), outcome(want)) {
				t.Errorf("request %d: not the same on few pages", i)
			}
		})
	}
	wg.Wait()
	if n := tight.Stats().Preemptions; n == 0 {
		t.Error("nobody was preempted")
	}
	_, err := runtime.Generate(t.Context(), tight, runtime.Request{Tokens: ids(400, 0, 1)})
	var long *runtime.ContextLengthError
	if !errors.As(err, &long) || long.Prompt != 400 || long.Limit != tight.Info().ContextLength {
		t.Errorf("what can never fit: %v", err)
	}
}

// TestOverloadedTellsWhenToRetry fills the queue.
func TestOverloadedTellsWhenToRetry(t *testing.T) {
	m := tiny(t, testmodel.Config{}, runtime.WithMaxSequences(1), runtime.WithQueue(2))
	for range 3 { // now it is known how long a request takes
		generate(t, m, runtime.Request{Prompt: "hello", MaxTokens: 2})
	}
	var err error
	for range 10 {
		var s *runtime.Stream
		if s, err = m.Start(t.Context(), runtime.Request{Prompt: "hello", IgnoreEOS: true}); err != nil {
			break
		}
		defer s.Close()
	}
	var over *runtime.OverloadedError
	if !errors.As(err, &over) || !errors.Is(err, runtime.ErrOverloaded) || runtime.CodeOf(err) != runtime.CodeOverloaded {
		t.Fatalf("%v", err)
	}
	if over.Waiting < 2 || over.RetryAfter <= 0 || over.RetryAfter > time.Minute {
		t.Errorf("%+v", over)
	}
	oneLine(t, err)
}

// TestPriorityPasses: behind a long answer waits a crowd; who has a higher
// priority is served before all of it.
func TestPriorityPasses(t *testing.T) {
	m := tiny(t, testmodel.Config{ContextLength: 2048}, runtime.WithMaxSequences(1))
	long, err := m.Start(t.Context(), runtime.Request{Prompt: "hello", IgnoreEOS: true})
	if err != nil {
		t.Fatal(err)
	}
	defer long.Close()
	if _, err := long.Recv(); err != nil {
		t.Fatal(err)
	}
	// The long one is never read on: it is stalled in its place, which it has to
	// give up.
	res := generate(t, m, runtime.Request{Prompt: "me first", MaxTokens: 3, IgnoreEOS: true, Priority: 1})
	if len(res.Tokens) != 3 || m.Stats().Preemptions == 0 {
		t.Errorf("%d tokens, %d preemptions", len(res.Tokens), m.Stats().Preemptions)
	}
	n := 0
	for _, err := range long.All() {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n > 300 {
			break
		}
	}
}

// TestReadWhileDisplaced: an answer loses its place while its reader is behind;
// the reader catches up before it has one again, and still gets all of it.
func TestReadWhileDisplaced(t *testing.T) {
	m := tiny(t, testmodel.Config{ContextLength: 2048}, runtime.WithMaxSequences(1))
	start := func(priority int) *runtime.Stream {
		s, err := m.Start(t.Context(), runtime.Request{Prompt: "hello", IgnoreEOS: true, MaxTokens: 200, Priority: priority})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	low := start(0)
	waitFor(t, "the reader to be behind", func() bool { return m.Stats().CompletionTokens >= 48 })
	high := start(1)
	if _, err := high.Recv(); err != nil { // now it has the place
		t.Fatal(err)
	}
	var events [64]runtime.Event
	read := 0
	for {
		n, err := low.Drain(events[:])
		if err != nil {
			t.Fatal(err)
		}
		if read += n; n == 0 {
			break
		}
	}
	waitFor(t, "the other reader to be behind", func() bool { return m.Stats().CompletionTokens >= 96 })
	for _, err := range high.All() {
		if err != nil {
			t.Fatal(err)
		}
	}
	for ev, err := range low.All() {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Kind == runtime.EventFinish && ev.Usage.CompletionTokens != 200 {
			t.Errorf("%+v", ev.Usage)
		}
		read++
	}
	if read != 201 { // and the finish
		t.Errorf("%d events", read)
	}
}

func TestSchedulingFieldsAreBounded(t *testing.T) {
	m := tiny(t, testmodel.Config{})
	long := strings.Repeat("x", 65)
	for field, req := range map[string]runtime.Request{"tenant": {Prompt: "a", Tenant: long}, "cache_salt": {Prompt: "a", CacheSalt: long}} {
		_, err := m.Start(t.Context(), req)
		var own *runtime.Error
		if !errors.As(err, &own) || own.Code != runtime.CodeInvalidRequest || own.Field != field {
			t.Errorf("%s: %v", field, err)
		}
		if _, err := m.Score(t.Context(), []int32{1}, runtime.ScoreOptions{Tenant: req.Tenant, CacheSalt: req.CacheSalt}); runtime.CodeOf(err) != runtime.CodeInvalidRequest {
			t.Errorf("score, %s: %v", field, err)
		}
	}
	_, err := runtime.LoadBytes(t.Context(), nil, runtime.WithKVCacheBytes(0), runtime.WithKVCacheShare(1), runtime.WithPrefixIdle(0), runtime.WithTenantWeight("a", 0))
	for _, what := range []string{"KV cache has 0", "share of the KV cache", "prefix idle", "weight of tenant"} {
		if !contains(err, what) {
			t.Errorf("%q says nothing of %s", err, what)
		}
	}
}

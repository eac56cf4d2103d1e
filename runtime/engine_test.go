package runtime

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dunlin-go/dunlin/internal/kvcache"
	"github.com/dunlin-go/dunlin/internal/sched"
	"github.com/dunlin-go/dunlin/internal/testmodel"
)

// checked loads a tiny model whose page table is looked at after each step.
func checked(t *testing.T, opts ...Option) *Model {
	t.Helper()
	m, err := LoadBytes(context.Background(), testmodel.Llama(testmodel.Config{}), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	e := m.engine
	e.check = func() { // the loop sleeps: the first request brings it the news
		if err := e.sched.Check(); err != nil {
			t.Error(err)
		}
	}
	return m
}

// TestEveryCallEnds lets thousands of goroutines call a model with a tiny arena:
// they cancel, run into deadlines, read slowly, vanish. Every call ends in an
// answer or a typed error, no page is lost, and nothing stays behind.
func TestEveryCallEnds(t *testing.T) {
	callers := 10_000
	if testing.Short() {
		callers = 1_000
	}
	m := checked(t, WithKVCacheBytes(10*9000), WithMaxSequences(12), WithQueue(200), WithStallLimit(20*time.Millisecond), WithTenantWeight("a", 2))
	idle := m.Stats().BudgetUsed
	var mu sync.Mutex
	ends := map[string]int{}
	note := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		ends[what]++
	}
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 6))
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			switch rng.IntN(4) {
			case 0:
				ctx, cancel = context.WithTimeout(ctx, time.Duration(rng.IntN(30))*time.Millisecond)
				defer cancel()
			case 1:
				timer := time.AfterFunc(time.Duration(rng.IntN(20))*time.Millisecond, cancel)
				defer timer.Stop()
			}
			req := Request{
				Tokens: make([]int32, 1+rng.IntN(120)), MaxTokens: 1 + rng.IntN(50), IgnoreEOS: true,
				Tenant: string("abc"[rng.IntN(3)]), Priority: rng.IntN(2), CacheSalt: string("xy"[rng.IntN(2)]),
			}
			for j, at := 0, rng.IntN(len(req.Tokens)); j < len(req.Tokens); j++ {
				if j >= at {
					req.Tokens[j] = rng.Int32N(3)
				}
			}
			s, err := m.Start(ctx, req)
			for over := (*OverloadedError)(nil); errors.As(err, &over); s, err = m.Start(ctx, req) {
				note("refused")
				<-time.After(min(over.RetryAfter, time.Second) * time.Duration(1+rng.IntN(20)) / 20)
			}
			if err != nil {
				note("start: " + typed(t, err))
				return
			}
			defer s.Close()
			for n := 0; ; n++ {
				ev, err := s.Recv()
				switch {
				case err != nil:
					note("ended: " + typed(t, err))
					return
				case ev.Kind == EventFinish && ev.Usage.CompletionTokens != req.MaxTokens:
					t.Errorf("%d tokens, not %d", ev.Usage.CompletionTokens, req.MaxTokens)
				case ev.Kind == EventFinish:
					note("answered")
					return
				case rng.IntN(200) == 0:
					note("vanished")
					return
				case rng.IntN(100) == 0:
					<-time.After(time.Duration(rng.IntN(5)) * time.Millisecond) // reads slowly
				}
			}
		})
	}
	wg.Wait()
	t.Log(ends, m.Stats())
	for what, least := range map[string]int{"answered": callers / 5, "vanished": 1} {
		if ends[what] < least {
			t.Errorf("only %d were %s", ends[what], what)
		}
	}
	WaitFor(t, "all to be given back", func() bool {
		s := m.Stats()
		return s.Running == 0 && s.Waiting == 0 && s.KVPagesUsed == 0 && s.BudgetUsed == idle
	})
	if s := m.Stats(); s.Preemptions == 0 || s.CachedTokens == 0 {
		t.Errorf("%+v", s)
	}
}

// typed is the code of an error, which must have one other than internal.
func typed(t *testing.T, err error) string {
	var own *Error
	if !errors.As(err, &own) || own.Code == CodeInternal {
		t.Errorf("%v", err)
		return "?"
	}
	return own.Code.String()
}

// WaitFor polls for something that another goroutine brings about.
func WaitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 20000 {
		if ok() {
			return
		}
		<-tick.C
	}
	t.Fatalf("waited in vain for %s", what)
}

// TestSlowReaderKeepsNoPages: a stream that isn't read gives its pages to
// others who need them, and goes on when it is.
func TestSlowReaderKeepsNoPages(t *testing.T) {
	m := checked(t, WithKVCacheBytes(10*9000), WithMaxSequences(2))
	capacity := m.Info().ContextLength
	prompt := slices.Repeat([]int32{7}, capacity/2)
	slow, err := m.Start(t.Context(), Request{Tokens: prompt, IgnoreEOS: true, MaxTokens: capacity/2 - 10})
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	WaitFor(t, "the slow reader to be held", func() bool { return m.Stats().CompletionTokens > 40 })
	res, err := Generate(t.Context(), m, Request{Tokens: slices.Repeat([]int32{9}, capacity-20), IgnoreEOS: true, MaxTokens: 20})
	if err != nil || len(res.Tokens) != 20 {
		t.Fatalf("%v, %v", res, err)
	}
	n := 0
	for ev, err := range slow.All() {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Kind == EventToken {
			n++
		}
	}
	if want := capacity/2 - 10; n != want || m.Stats().Preemptions == 0 {
		t.Errorf("%d tokens, not %d; %d preemptions", n, want, m.Stats().Preemptions)
	}
}

// TestIdleGivesBack waits, on a clock of the test's own, until a model that has
// nothing to do has given back its memory, in two stages.
func TestIdleGivesBack(t *testing.T) {
	shape := kvcache.Shape{Layers: 1, Heads: 1, HeadDim: 64, Type: KVCacheF16}
	synctest.Test(t, func(t *testing.T) {
		e := testEngine(t, shape, 10)
		s, _ := e.cache.Start("", nil, 100)
		s.Grow(100)
		s.Publish(make([]int32, 100))
		s.Release()
		time.AfterFunc(time.Hour, e.signal)
		begin := time.Now()
		for _, want := range []struct {
			at              time.Duration
			committed, kept int
		}{
			{trimAfter, 3, 3},
			{trimAfter + time.Minute, 0, 0},
			{time.Hour, 0, 0}, // until there is something to do
		} {
			e.sleep()
			if at := time.Since(begin); at != want.at || e.cache.Committed() != want.committed || e.cache.Kept() != want.kept {
				t.Errorf("after %v %d pages are committed and %d kept, want %+v", at, e.cache.Committed(), e.cache.Kept(), want)
			}
		}
	})
}

// testEngine is what of an engine needs no model.
func testEngine(t *testing.T, shape kvcache.Shape, pages int) *engine {
	o, err := newOptions([]Option{WithPrefixIdle(time.Minute), WithMemoryLimit(1 << 30)})
	if err != nil {
		t.Fatal(err)
	}
	cache, err := kvcache.New(shape, pages, o.budget)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cache.Close() })
	return &engine{
		cache: cache, sched: sched.New(cache, 4, nil), live: map[*sequence]struct{}{}, prefixIdle: o.prefixIdle, stallLimit: o.stallLimit,
		wake: make(chan struct{}, 1),
	}
}

// TestFaultOfTheLoop: a panic outside of a step ends all that are there, and
// the model goes on.
func TestFaultOfTheLoop(t *testing.T) {
	m := checked(t, WithMaxSequences(2))
	e := m.engine
	e.check = func() {
		e.check = nil
		panic("boom")
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	failed := 0
	for i := range 6 {
		wg.Go(func() {
			_, err := Generate(t.Context(), m, Request{Prompt: fmt.Sprint("hello ", i), MaxTokens: 3, IgnoreEOS: true})
			if err != nil && CodeOf(err) != CodeInternal {
				t.Error(err)
			}
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed++
			}
		})
	}
	wg.Wait()
	if failed == 0 {
		t.Error("nobody saw it")
	}
	if _, err := Generate(t.Context(), m, Request{Prompt: "hello", MaxTokens: 3}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	WaitFor(t, "the pages", func() bool { return m.Stats().KVPagesUsed == 0 })
}

func TestTurnover(t *testing.T) {
	var v turnover
	if h := v.hint(9); h != unknownRetry {
		t.Errorf("without a request %v", h)
	}
	now := time.Unix(0, 0)
	for range 100 {
		now = now.Add(2 * time.Second)
		v.add(2, true, now)
		v.add(0, true, now)
	}
	if h := v.hint(1); h < 900*time.Millisecond || h > 1100*time.Millisecond {
		t.Errorf("two in two seconds, the hint is %v", h)
	}
	if h := v.hint(10); h < 9*time.Second || h > 11*time.Second {
		t.Errorf("two in two seconds, the hint for ten is %v", h)
	}
	// A pause between two bursts isn't how long requests take.
	before := v.hint(10)
	v.add(1, false, now.Add(2*time.Second))
	now = now.Add(time.Hour)
	v.add(1, true, now)
	if h := v.hint(10); h > before+before/5 {
		t.Errorf("after a pause the hint for ten is %v, %v before", h, before)
	}
	if h := v.hint(1 << 30); h != maxRetry {
		t.Errorf("the hint is %v, at most %v it should be", h, maxRetry)
	}
	for range 100 {
		now = now.Add(time.Microsecond)
		v.add(1, true, now)
	}
	if h := v.hint(1); h != minRetry {
		t.Errorf("the hint is %v, at least %v it should be", h, minRetry)
	}
}

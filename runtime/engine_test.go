package runtime

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/internal/exec"
	"github.com/dunlin-go/dunlin/internal/kvcache"
	"github.com/dunlin-go/dunlin/internal/sched"
	"github.com/dunlin-go/dunlin/internal/testmodel"
)

// checked loads a tiny model whose page table is looked at after each step.
func checked(t *testing.T, opts ...Option) *Model {
	t.Helper()
	return checkedOf(t, testmodel.Llama(testmodel.Config{}), opts...)
}

// checkedOf is checked for the bytes of a model.
func checkedOf(t *testing.T, data []byte, opts ...Option) *Model {
	t.Helper()
	m, err := LoadBytes(context.Background(), data, opts...)
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
	t.Run("llama", func(t *testing.T) { everyCallEnds(t, testmodel.Llama(testmodel.Config{}), 10*9000) })
	t.Run("windows", func(t *testing.T) { everyCallEnds(t, hybrid(3, 3, 20, 512), 20*9000) })
}

func everyCallEnds(t *testing.T, data []byte, arena int64) {
	callers := 10_000
	if testing.Short() {
		callers = 1_000
	}
	l := newLedger(t)
	m := checkedOf(
		t, data, WithKVCacheBytes(arena), WithMaxSequences(12), WithQueue(200), WithStallLimit(20*time.Millisecond), WithTenantWeight("a", 2),
		WithObserver(l.observer()),
	)
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
	m.Close()
	s := m.Stats()
	l.check(s)
	for o, least := range map[Outcome]int{
		OutcomeLength: ends["answered"], OutcomeOverloaded: ends["refused"], OutcomeCanceled: 1, OutcomeDeadline: 1, OutcomeClosed: 1,
	} {
		if s.Ended[o] < int64(least) {
			t.Errorf("%d ended as %v, want %d at least", s.Ended[o], o, least)
		}
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
	// It is held at 48 events, of which the prompt's progress has 32 at most.
	WaitFor(t, "the slow reader to be held", func() bool { return m.Stats().CompletionTokens >= 48-32 })
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
// nothing to do has given back its memory, in two stages, whatever wakes it.
func TestIdleGivesBack(t *testing.T) {
	shape := kvcache.Shape{Layers: 1, Heads: 1, HeadDim: 64, Type: KVCacheF16}
	synctest.Test(t, func(t *testing.T) {
		e := testEngine(t, shape, 10)
		s, _ := e.cache.Start("", nil, 100)
		s.Grow(100)
		s.Publish(make([]int32, 100))
		s.Release()
		wakes := []time.Duration{time.Second, 30 * time.Second, 59 * time.Second, time.Hour}
		for _, d := range wakes {
			time.AfterFunc(d, e.signal)
		}
		begin := time.Now()
		for _, want := range []struct {
			at              time.Duration
			committed, kept int
		}{
			{wakes[0], 4, 3},
			{trimAfter, 3, 3},
			{wakes[1], 3, 3},
			{wakes[2], 3, 3},
			{time.Minute, 0, 0},
			{wakes[3], 0, 0}, // until there is something to do
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
		wake: make(chan struct{}, 1), streamBuffer: o.streamBuffer, water: waterOf(o.streamBuffer, o.highWater),
	}
}

// askingContext is a caller's own, whose methods look at the model.
type askingContext struct {
	context.Context
	m *Model
}

func (c askingContext) Done() <-chan struct{} {
	c.m.Stats()
	_ = c.m.Ready(context.Background())
	return c.Context.Done()
}

// TestContextMayAskTheModel: methods of a context are the caller's code, which the
// engine doesn't call with its lock.
func TestContextMayAskTheModel(t *testing.T) {
	m := checked(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error)
	go func() {
		_, err := Generate(askingContext{ctx, m}, m, Request{Prompt: "hello", MaxTokens: 2, IgnoreEOS: true})
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the call waits for itself")
	}
}

// TestPromptIsPriced: what is kept of a prompt is what its ids take.
func TestPromptIsPriced(t *testing.T) {
	m := checked(t)
	lease := m.budget.Lease()
	defer lease.Close()
	before := m.budget.Used()
	ids, err := m.prompt(t.Context(), &Request{Prompt: strings.Repeat("hello the ", 30)}, lease)
	if err != nil {
		t.Fatal(err)
	}
	if used, want := m.budget.Used()-before, int64(4*cap(ids)); used != want {
		t.Errorf("%d bytes are charged for %d", used, want)
	}
	for code, req := range map[Code]*Request{
		CodeContextLength:  {Prompt: strings.Repeat("hello", 10_000)},
		CodeInvalidRequest: {},
	} {
		var own *Error
		if _, err := m.prompt(t.Context(), req, lease); !errors.As(err, &own) || own.Code != code || own.Field == "" {
			t.Errorf("%+v, want %v and a field", own, code)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var own *Error
	if _, err := m.prompt(ended, &Request{Prompt: "hello"}, lease); !errors.As(err, &own) || own.Code != CodeCanceled || own.Field != "" {
		t.Errorf("a context that has ended: %+v", own)
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

// TestFaultOfAScore: a panic over one score's logits ends that one only, though they
// are looked at inside of a step, on any of its threads.
func TestFaultOfAScore(t *testing.T) {
	m := checkedOf(t, testmodel.Llama(testmodel.Config{Padding: 1}))
	other, err := m.Start(t.Context(), Request{Prompt: "hello", MaxTokens: 30, IgnoreEOS: true})
	if err != nil {
		t.Fatal(err)
	}
	// Score would refuse it: it has a token that there is no logit of.
	s := &sequence{score: &scoreRun{result: Score{Argmax: make([]int32, 3), Logprobs: make([]float64, 2)}}, prompt: []int32{3, testmodel.Vocabulary - 1, 5}, lease: m.budget.Lease()}
	bad, err := m.engine.submit(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	_, err = bad.Recv()
	var fault *exec.PanicError
	if CodeOf(err) != CodeInternal || !errors.As(err, &fault) || !strings.Contains(string(fault.Stack), "eachTask") {
		t.Errorf("the score: %v", err)
	}
	for _, err := range other.All() {
		if err != nil {
			t.Errorf("the other request: %v", err)
		}
	}
}

// TestBrokenScheduler: where the scheduler's own state is damaged, so that not
// even dropping what it has works, all calls end, the loop too, and the model
// refuses what comes.
func TestBrokenScheduler(t *testing.T) {
	m := checked(t, WithMaxSequences(2), WithQueue(1000))
	e := m.engine
	e.check = func() {
		if running := e.sched.Running(); len(running) > 0 {
			running[0] = &sched.Sequence{}
		}
	}
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			_, err := Generate(t.Context(), m, Request{Prompt: "hello", MaxTokens: 3, IgnoreEOS: true})
			if err == nil || CodeOf(err) != CodeInternal {
				t.Errorf("it ended with %v", err)
			}
		})
	}
	wg.Wait()
	WaitFor(t, "the loop to end", func() bool {
		select {
		case <-e.done:
			return true
		default:
			return false
		}
	})
	if err := m.Ready(t.Context()); err == nil || CodeOf(err) != CodeInternal {
		t.Errorf("and the model is ready: %v", err)
	}
	if s := m.Stats(); s.Running != 0 || s.Waiting != 0 || s.Queued+s.Ended[OutcomeInternal] < 100 {
		t.Errorf("%+v", s)
	}
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

// TestQueueIsBoundedAtEachTurn submits requests to a loop that turns when the test says
// so. A burst takes the free places and the queue; places that are free for lack of
// pages take nobody.
func TestQueueIsBoundedAtEachTurn(t *testing.T) {
	const places, pages, queue = 4, 8, 2
	for _, tt := range []struct {
		name   string
		prompt int
		run    int // of such requests
	}{{"places", 2, places}, {"pages", 7 * kvcache.PageTokens, 1}} {
		t.Run(tt.name, func(t *testing.T) {
			e := testEngine(t, kvcache.Shape{Layers: 1, Heads: 1, HeadDim: 64, Type: KVCacheF16}, pages)
			e.free, e.maxSequences, e.maxQueue, e.contextLength, e.streamBuffer = places, places, queue, pages*kvcache.PageTokens, 4
			b := budget.New(1 << 20)
			submit := func() error {
				_, err := e.submit(t.Context(), &sequence{prompt: make([]int32, tt.prompt), lease: b.Lease()})
				return err
			}
			for i := range tt.run + queue {
				if i%2 == 1 || tt.name == "pages" {
					e.gather()
				}
				if err := submit(); err != nil {
					t.Errorf("request %d: %v", i, err)
				}
			}
			for range 2 {
				if err := submit(); !errors.Is(err, ErrOverloaded) {
					t.Errorf("beyond %d that can run and a queue of %d: %v", tt.run, queue, err)
				}
				e.gather()
			}
			if e.waiting != queue || len(e.sched.Running()) != tt.run {
				t.Errorf("%d wait, %d run", e.waiting, len(e.sched.Running()))
			}
			e.failAll(errModelClosed)
		})
	}
}

// TestCloseWhileOthersCompute closes a model whose step waits for another one's.
func TestCloseWhileOthersCompute(t *testing.T) {
	other := exec.Default().NewClient()
	defer other.Close()
	begun, free := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		other.Step(context.Background(), 1, func(*exec.Step) error { close(begun); <-free; return nil })
	})
	<-begun
	m := checked(t)
	s, err := m.Start(t.Context(), Request{Prompt: "hello", IgnoreEOS: true})
	if err != nil {
		t.Fatal(err)
	}
	WaitFor(t, "the step to wait", func() bool {
		m.engine.mu.Lock()
		defer m.engine.mu.Unlock()
		return len(m.engine.inFlight) > 0
	})
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Recv(); CodeOf(err) != CodeClosed {
		t.Errorf("the stream ended with %v", err)
	}
	close(free)
	wg.Wait()
}

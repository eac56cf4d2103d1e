package runtime

import (
	"context"
	goruntime "runtime"
	"testing"
	"testing/synctest"
	"time"
)

// ledger holds an observer to the order of what it is told. It may be read when
// the model was closed.
type ledger struct {
	t         *testing.T
	requests  map[uint64]*entry
	ended     [NumOutcomes]int64
	preempted int64
	steps     int64
	computed  int // tokens
}

type entry struct {
	stage string // what was told last, but for preemptions
	at    time.Time
	RequestQueued
}

func newLedger(t *testing.T) *ledger { return &ledger{t: t, requests: map[uint64]*entry{}} }

// next demands that a request stood at one of some stages, and moves it on.
func (l *ledger) next(id uint64, at time.Time, stage string, after ...string) *entry {
	e := l.requests[id]
	if e == nil {
		l.t.Errorf("%s of request %d, which wasn't queued", stage, id)
		e = &entry{at: at}
		l.requests[id] = e
	}
	ok := false
	for _, a := range after {
		ok = ok || a == e.stage
	}
	if !ok {
		l.t.Errorf("%s of request %d after %s", stage, id, e.stage)
	}
	if at.Before(e.at) {
		l.t.Errorf("%s of request %d is %v before %s", stage, id, e.at.Sub(at), e.stage)
	}
	e.stage, e.at = stage, at
	return e
}

func (l *ledger) observer() Observer {
	return Observer{
		Queued: func(ev RequestQueued) {
			if l.requests[ev.ID] != nil || ev.Context == nil || ev.PromptTokens < 1 {
				l.t.Errorf("queued twice, or without what it says: %+v", ev)
			}
			l.requests[ev.ID] = &entry{stage: "queued", at: ev.At, RequestQueued: ev}
		},
		Admitted: func(ev RequestAdmitted) {
			e := l.next(ev.ID, ev.At, "admitted", "queued")
			if ev.CachedTokens < 0 || ev.CachedTokens >= e.PromptTokens {
				l.t.Errorf("%d of %d tokens are cached", ev.CachedTokens, e.PromptTokens)
			}
		},
		FirstToken: func(ev RequestFirstToken) { l.next(ev.ID, ev.At, "first token", "admitted") },
		Preempted: func(ev RequestPreempted) {
			stage := ""
			if e := l.requests[ev.ID]; e != nil {
				stage = e.stage
			}
			l.next(ev.ID, ev.At, stage, "admitted", "first token")
			l.preempted++
		},
		Ended: func(ev RequestEnded) {
			e := l.next(ev.ID, ev.At, "ended", "queued", "admitted", "first token")
			l.ended[ev.Outcome]++
			good := ev.Outcome <= OutcomeScored
			if good != (ev.Err == nil) || ev.Usage.PromptTokens != e.PromptTokens || ev.Usage.CompletionTokens > e.MaxTokens {
				l.t.Errorf("ended with %+v, queued with %+v", ev, e.RequestQueued)
			}
			if ev.Outcome == OutcomeLength && (ev.Usage.CompletionTokens != e.MaxTokens || ev.Timing.TimeToFirstToken <= 0) {
				l.t.Errorf("%+v of at most %d tokens", ev, e.MaxTokens)
			}
		},
		Step: func(ev StepEnded) {
			if ev.Decoding+ev.Prefilling < 1 || ev.PrefillTokens < ev.Prefilling || ev.Duration <= 0 || ev.Began.IsZero() {
				l.t.Errorf("%+v", ev)
			}
			if ev.Err == nil {
				if l.steps++; ev.Number != l.steps {
					l.t.Errorf("step %d is the %dth", ev.Number, l.steps)
				}
				l.computed += ev.Decoding + ev.PrefillTokens
			}
		},
	}
}

// check compares with the figures of a model that was closed.
func (l *ledger) check(s Stats) {
	l.t.Helper()
	for id, e := range l.requests {
		if e.stage != "ended" {
			l.t.Errorf("request %d never ended, it was %s last", id, e.stage)
		}
	}
	if int64(len(l.requests)) != s.Queued || l.preempted != s.Preemptions || l.steps != s.Steps || s.ObserversDropped != 0 {
		l.t.Errorf("told of %d requests, %d preemptions, %d steps: %+v", len(l.requests), l.preempted, l.steps, s)
	}
	for o, n := range l.ended {
		refused := Outcome(o) > OutcomeScored && Outcome(o) != OutcomeClosed // may be, and is counted then, not told
		if n > s.Ended[o] || n < s.Ended[o] && !refused {
			l.t.Errorf("told of %d that ended as %v, counted %d", n, Outcome(o), s.Ended[o])
		}
	}
}

// TestObserver follows a few requests through, one after the other.
func TestObserver(t *testing.T) {
	l := newLedger(t)
	m := checked(t, WithObserver(l.observer()), WithMaxSequences(2))
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, "span")
	prompt := make([]int32, 100)
	for range 2 { // the second one finds its prompt
		if _, err := Generate(ctx, m, Request{Tokens: prompt, MaxTokens: 5, IgnoreEOS: true, Tenant: "a", Priority: 3}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.Score(ctx, prompt[:9], ScoreOptions{}); err != nil {
		t.Fatal(err)
	}
	s, err := m.Start(ctx, Request{Tokens: prompt, IgnoreEOS: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := m.Start(ctx, Request{}); err == nil {
		t.Fatal("no error")
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	st := m.Stats()
	l.check(st)
	want := [NumOutcomes]int64{OutcomeLength: 2, OutcomeScored: 1, OutcomeClosed: 1, OutcomeInvalid: 1}
	if st.Ended != want {
		t.Errorf("ended: %v", st.Ended)
	}
	if e := l.requests[1]; e.Tenant != "a" || e.Priority != 3 || e.PromptTokens != 100 || e.MaxTokens != 5 || e.Context.Value(key{}) != "span" {
		t.Errorf("%+v", e)
	}
	if n := int(st.PromptTokens + st.CompletionTokens); l.computed < n-4 || l.computed > n {
		t.Errorf("steps of %d tokens, %d are counted", l.computed, n) // of an answer's tokens the last one isn't computed
	}
	if st.TimeToFirstToken.Count() < 2 || st.QueueTime.Count() < 3 || st.TimeBetweenTokens.Count() < 8 || st.CachedTokens < 96 || st.LookedUpTokens < 2*99 {
		t.Errorf("%+v", st)
	}
}

// TestBadObservers: one panics, one ends its goroutine, one never comes back; the
// engine serves on, and others are told everything.
func TestBadObservers(t *testing.T) {
	stuck := make(chan struct{})
	defer close(stuck)
	calls := 0
	l := newLedger(t)
	m := checked(
		t, WithObserver(Observer{Step: func(StepEnded) { calls++; panic("boom") }}),
		WithObserver(Observer{Queued: func(RequestQueued) { goruntime.Goexit() }}),
		WithObserver(Observer{Queued: func(RequestQueued) { <-stuck }}),
		WithObserver(l.observer()),
	)
	for range 2 {
		if _, err := Generate(t.Context(), m, Request{Prompt: "hello", MaxTokens: observerQueue, IgnoreEOS: true}); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	st := m.Stats()
	if st.ObserversDropped != 3 || calls != 1 {
		t.Errorf("%d were dropped, the one that panics was called %d times", st.ObserversDropped, calls)
	}
	st.ObserversDropped = 0
	l.check(st)
}

// TestStuckObserver waits, on a clock of the test's own, for one that is behind.
func TestStuckObserver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		var c meters
		l := listen(Observer{Step: func(StepEnded) { <-stuck }}, &c.observersDropped)
		begin := time.Now()
		for range observerQueue + 1 { // one of them is being told
			l.tell(observation{})
			synctest.Wait()
		}
		if took := time.Since(begin); took != 0 || c.observersDropped.Load() != 0 {
			t.Errorf("waited %v with room in the queue", took)
		}
		for range 100 {
			l.tell(observation{})
		}
		if took := time.Since(begin); took != observerPatience || c.observersDropped.Load() != 1 {
			t.Errorf("waited %v", took)
		}
		close(stuck)
		l.end()
		if took := time.Since(begin); took != observerPatience || c.observersDropped.Load() != 1 {
			t.Errorf("waited %v", took)
		}
	})
}

// TestSlowObserver: one that takes longer than the steps is waited for now and then,
// not for ever.
func TestSlowObserver(t *testing.T) {
	for _, tt := range []struct {
		name       string
		call, step time.Duration
		dropped    int64
	}{
		{"slower than steps", 100 * time.Millisecond, time.Millisecond, 1},
		{"a little slower", 12 * time.Millisecond, 11 * time.Millisecond, 0},
		{"as quick as can be expected", time.Millisecond, 10 * time.Millisecond, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			var c meters
			l := listen(Observer{Step: func(StepEnded) { time.Sleep(tt.call) }}, &c.observersDropped)
			begin := time.Now()
			for range 2000 {
				time.Sleep(tt.step)
				l.tell(observation{})
			}
			if n := c.observersDropped.Load(); n != tt.dropped {
				t.Errorf("%s: %d were dropped", tt.name, n)
			}
			if late := time.Since(begin) - 2000*tt.step; late > 2000*tt.step/10+2*observerPatience {
				t.Errorf("%s: it kept the engine for %v", tt.name, late)
			}
			l.gone.Store(true)
			l.end()
		})
	}
}

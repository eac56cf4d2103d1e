package exec

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

// endless runs Do after Do, and calls begun after the third.
func endless(s *Step, begun func()) {
	for i := 0; ; i++ {
		s.Do(nothing{}, 1000, 1)
		if i == 2 {
			begun()
		}
	}
}

type nothing struct{}

func (nothing) Do(int, int, int) {}

func TestStop(t *testing.T) {
	e := newExecutor(t, 3)
	for _, threads := range []int{1, 3} {
		t.Run("between chunks", func(t *testing.T) {
			var chunks atomic.Int64
			err := e.Step(t.Context(), threads, func(s *Step) error {
				s.Do(taskFunc(func(int, int, int) { chunks.Add(1); s.Stop() }), 10_000, 1)
				t.Error("Do returned")
				return nil
			})
			if err != ErrStopped {
				t.Errorf("Step = %v, want %v", err, ErrStopped)
			}
			if got := chunks.Load(); got > int64(threads) {
				t.Errorf("%d chunks after Stop on %d threads", got, threads)
			}
		})
		t.Run("from outside", func(t *testing.T) {
			err := e.Step(t.Context(), threads, func(s *Step) error {
				stopper := s.Stopper()
				endless(s, func() { go stopper.Stop() })
				return nil
			})
			if err != ErrStopped {
				t.Errorf("Step = %v, want %v", err, ErrStopped)
			}
		})
		t.Run("by the context", func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			cause := errors.New("client went away")
			err := e.Step(ctx, threads, func(s *Step) error {
				endless(s, func() { go cancel(cause) })
				return nil
			})
			if !errors.Is(err, ErrStopped) || !errors.Is(err, cause) {
				t.Errorf("Step = %v, want %v and %v", err, ErrStopped, cause)
			}
		})
		t.Run("outside of Do", func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			err := e.Step(ctx, threads, func(s *Step) error {
				if s.Stopped() {
					t.Error("stopped before the cancellation")
				}
				cancel()
				if !s.Stopped() {
					t.Error("not stopped after the cancellation")
				}
				return nil
			})
			if !errors.Is(err, ErrStopped) || !errors.Is(err, context.Canceled) {
				t.Errorf("Step = %v, want %v", err, ErrStopped)
			}
		})
	}
	t.Run("the function's error stands", func(t *testing.T) {
		want := errors.New("mine")
		err := e.Step(t.Context(), 1, func(s *Step) error { s.Stop(); return want })
		if err != want {
			t.Errorf("Step = %v, want %v", err, want)
		}
	})
	t.Run("late", func(t *testing.T) {
		var late Stopper
		late.Stop()
		step(t, e, 2, func(s *Step) { late = s.Stopper() })
		step(t, e, 2, func(s *Step) {
			late.Stop()
			s.Do(newTogether(2), 2, 1)
		})
	})
}

// TestCancelWhileJoining ends the context when the caller has nothing left to do
// and sleeps until a worker comes out of its chunk; that worker sees the stop.
func TestCancelWhileJoining(t *testing.T) {
	e := newExecutor(t, 2)
	ctx, cancel := context.WithCancel(t.Context())
	err := e.Step(ctx, 2, func(s *Step) error {
		begun := make(chan struct{})
		s.Do(taskFunc(func(worker, _, _ int) {
			if worker == 0 {
				<-begun
				return
			}
			close(begun)
			for e.joiner.state.Load() != parked {
				runtime.Gosched()
			}
			cancel()
			for e.stopped.Load() < s.id {
				runtime.Gosched()
			}
		}), 2, 1)
		return nil
	})
	if !errors.Is(err, ErrStopped) {
		t.Errorf("Step = %v, want %v", err, ErrStopped)
	}
	usable(t, e, 2)
}

// hold begins a step that keeps the turn until the returned function is called,
// which returns when the step has ended.
func hold(e *Executor) (free func()) {
	begun, end, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		e.Step(context.Background(), 1, func(*Step) error { close(begun); <-end; return nil })
	}()
	<-begun
	return func() { close(end); <-ended }
}

func TestCancelWhileWaiting(t *testing.T) {
	e := newExecutor(t, 1)
	cause := errors.New("too long")
	ran := func(*Step) error { t.Error("the function ran"); return nil }

	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if err := e.Step(ctx, 1, ran); err != cause {
		t.Errorf("Step = %v, want %v", err, cause)
	}

	// Of five that wait, those at the front, in the middle and at the end give up.
	free := hold(e)
	var order []int
	var wg sync.WaitGroup
	cancels := make([]context.CancelCauseFunc, 5)
	for i := range cancels {
		var ctx context.Context
		ctx, cancels[i] = context.WithCancelCause(t.Context())
		defer cancels[i](nil)
		wg.Go(func() {
			err := e.Step(ctx, 1, func(*Step) error { order = append(order, i); return nil })
			if quit := i%2 == 0; quit && err != cause || !quit && err != nil {
				t.Errorf("waiter %d: Step = %v", i, err)
			}
		})
		for e.turn.waiting() != i+1 {
			runtime.Gosched()
		}
	}
	for k, i := range []int{2, 0, 4} {
		cancels[i](cause)
		for e.turn.waiting() != 4-k {
			runtime.Gosched()
		}
	}
	free()
	wg.Wait()
	if want := []int{1, 3}; !slices.Equal(order, want) {
		t.Errorf("ran in the order %v, want %v", order, want)
	}
}

// TestCancelRace grants the turn to a waiter whose context has just ended: it must
// hand it on.
func TestCancelRace(t *testing.T) {
	for range 200 {
		var q turn
		c := &Client{weight: 1}
		if taken, err := q.try(c); !taken || err != nil {
			t.Fatalf("try = %v, %v", taken, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- q.wait(ctx, c) }()
		for q.waiting() == 0 {
			runtime.Gosched()
		}
		cancel() // the waiter is on its way to leave the queue
		q.pass()
		if err := <-ended; err == nil {
			q.pass() // it was faster, or chose the turn
		}
		if taken, _ := q.try(c); !taken {
			t.Fatal("the turn is lost")
		}
	}
}

// TestFairness checks first come, first served, and that an engine which asks
// again at once goes to the end.
func TestFairness(t *testing.T) {
	e := newExecutor(t, 1)
	free := hold(e)
	var order []int
	var wg sync.WaitGroup
	const engines, rounds = 5, 3
	queue := func(n int) {
		for e.turn.waiting() < n {
			runtime.Gosched()
		}
	}
	for i := range engines {
		wg.Go(func() {
			for r := range rounds {
				e.Step(context.Background(), 1, func(*Step) error {
					order = append(order, i)
					// Give the turn on only when all others that still come are in
					// line.
					if r < rounds-1 {
						queue(engines - 1)
					}
					return nil
				})
			}
		})
		queue(i + 1)
	}
	free()
	wg.Wait()
	for i, got := range order {
		if got != i%engines {
			t.Fatalf("ran in the order %v", order)
		}
	}
	if len(order) != engines*rounds {
		t.Errorf("%d steps ran, want %d", len(order), engines*rounds)
	}
}

func TestClose(t *testing.T) {
	before := goleak.IgnoreCurrent()
	e := New(4)
	usable(t, e, 4)
	free := hold(e)
	ran := false
	var wg sync.WaitGroup
	wg.Go(func() { // asked before Close, so it is served
		if err := e.Step(context.Background(), 4, func(s *Step) error {
			s.Do(newTogether(4), 4, 1)
			ran = true
			return nil
		}); err != nil {
			t.Errorf("Step = %v", err)
		}
	})
	for e.turn.waiting() < 1 {
		runtime.Gosched()
	}
	wg.Go(e.Close)
	for e.turn.waiting() < 2 {
		runtime.Gosched()
	}
	if err := e.Step(t.Context(), 1, func(*Step) error { return nil }); err != ErrClosed {
		t.Errorf("Step = %v, want %v", err, ErrClosed)
	}
	free()
	wg.Wait()
	if !ran || live(e) != 0 {
		t.Errorf("the step that waited ran: %v; %d workers live", ran, live(e))
	}
	e.Close()
	e.Retain()
	e.Release()
	goleak.VerifyNone(t, before)
}

func TestRelease(t *testing.T) {
	before := goleak.IgnoreCurrent()
	e := New(4)
	for range 3 {
		e.Retain()
		e.Retain()
		usable(t, e, 4)
		e.Release()
		if live(e) != 3 {
			t.Errorf("%d workers live after the first Release, want 3", live(e))
		}
		e.Release()
		if live(e) != 0 {
			t.Errorf("%d workers live after the last Release", live(e))
		}
		goleak.VerifyNone(t, before)
	}
}

// TestReleaseAndRetain has a new user come while the last one waits for its turn.
func TestReleaseAndRetain(t *testing.T) {
	e := newExecutor(t, 2)
	e.Retain()
	usable(t, e, 2)
	free := hold(e)
	released := make(chan struct{})
	go func() { e.Release(); close(released) }()
	for e.turn.waiting() == 0 {
		runtime.Gosched()
	}
	e.Retain()
	free()
	<-released
	if live(e) != 1 {
		t.Error("the new user's workers were ended")
	}
	e.Release()
}

// TestIdle watches the life of the workers on a bubble's clock: they sleep as soon
// as there is nothing to do (Wait returns when all goroutines are blocked; a
// spinning one isn't), end some seconds later, and begin again.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := New(4)
		if live(e) != 0 {
			t.Error("an unused executor has goroutines")
		}
		step(t, e, 1, func(s *Step) { s.Do(newTogether(1), 1, 1) })
		if live(e) != 0 {
			t.Error("an executor of steps with one thread has goroutines")
		}
		for range 2 {
			usable(t, e, 4)
			synctest.Wait()
			for i, w := range e.slots[1:] {
				if w.state.Load() != parked {
					t.Errorf("worker %d is in state %d, want %d (parked)", i+1, w.state.Load(), parked)
				}
			}
			time.Sleep(idleEnd - 1)
			if synctest.Wait(); live(e) != 3 || e.sleepers.Load() != 3 {
				t.Errorf("%d workers live, %d asleep; want 3", live(e), e.sleepers.Load())
			}
			time.Sleep(time.Nanosecond)
			if synctest.Wait(); live(e) != 0 || e.sleepers.Load() != 0 {
				t.Errorf("%d workers live, %d asleep after %v", live(e), e.sleepers.Load(), idleEnd)
			}
		}
		usable(t, e, 4)
		synctest.Wait()
		e.Close()
	})
}

// TestBubbles uses the same executor in one bubble after another, as the tests of
// a program with a model in each would.
func TestBubbles(t *testing.T) {
	e := newExecutor(t, 2)
	for range 2 {
		synctest.Test(t, func(t *testing.T) {
			e.Retain()
			defer e.Release()
			var wg sync.WaitGroup
			free := hold(e)
			wg.Go(func() { usable(t, e, 2) })
			synctest.Wait()
			free()
			wg.Wait()
		})
	}
}

// TestSleepingWorkersAreWoken lets the workers fall asleep inside a step.
func TestSleepingWorkersAreWoken(t *testing.T) {
	e := newExecutor(t, 4)
	step(t, e, 4, func(s *Step) {
		for range 3 {
			for e.sleepers.Load() != 3 {
				runtime.Gosched()
			}
			s.Do(newTogether(4), 4, 1)
		}
	})
}

// TestWorkersAreReady checks that a step wakes the workers before its first Do. One
// look may be too late, on a busy machine: they sleep again soon.
func TestWorkersAreReady(t *testing.T) {
	e := newExecutor(t, 2)
	usable(t, e, 2)
	for range 1000 {
		for e.slots[1].state.Load() != parked {
			runtime.Gosched()
		}
		ready := false
		step(t, e, 2, func(*Step) { ready = e.slots[1].state.Load() == awake })
		if ready {
			return
		}
	}
	t.Error("the worker slept at the beginning of 1000 steps")
}

func TestDefault(t *testing.T) {
	before := goleak.IgnoreCurrent()
	e := Default()
	if e != Default() {
		t.Error("there are two default executors")
	}
	e.Retain()
	threads := min(2, runtime.GOMAXPROCS(0))
	usable(t, e, threads)
	e.Release()
	goleak.VerifyNone(t, before)
}

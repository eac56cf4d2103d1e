package exec

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"unsafe"
)

// onThread is a task of one chunk for each thread, in which one thread does
// something and the others wait until it has begun to.
func onThread(threads, who int, do func()) (t Task, n int) {
	begun := make(chan struct{})
	return taskFunc(func(worker, _, _ int) {
		if worker == who {
			close(begun)
			do()
		}
		<-begun
	}), threads
}

// usable fails the test unless e runs a step on all of its threads.
func usable(t *testing.T, e *Executor, threads int) {
	t.Helper()
	step(t, e, threads, func(s *Step) { s.Do(newTogether(threads), threads, 1) })
}

func explode(v any) { panic(v) }

func TestPanics(t *testing.T) {
	e := newExecutor(t, 4)
	cause := errors.New("cause")
	for threads := 1; threads <= 4; threads++ {
		for who := range threads {
			after := false
			err := e.Step(t.Context(), threads, func(s *Step) error {
				task, n := onThread(threads, who, func() { explode(cause) })
				s.Do(task, n, 1)
				after = true
				return nil
			})
			var p *PanicError
			if !errors.As(err, &p) || p.Value != cause || !errors.Is(err, cause) {
				t.Fatalf("thread %d of %d: Step = %v, want a PanicError", who, threads, err)
			}
			if !bytes.Contains(p.Stack, []byte("exec.explode")) {
				t.Errorf("thread %d of %d: the stack doesn't show the function that panicked:\n%s", who, threads, p.Stack)
			}
			if after {
				t.Errorf("thread %d of %d: Do returned after a panic", who, threads)
			}
			usable(t, e, threads)
		}
	}
}

func TestPanicInFunction(t *testing.T) {
	e := newExecutor(t, 2)
	err := e.Step(t.Context(), 2, func(*Step) error { panic("here") })
	var p *PanicError
	if !errors.As(err, &p) || p.Value != "here" || p.Unwrap() != nil {
		t.Errorf("Step = %v, want a PanicError", err)
	}
	usable(t, e, 2)
}

func TestPanicOnEveryThread(t *testing.T) {
	e := newExecutor(t, 4)
	all := newTogether(4)
	err := e.Step(t.Context(), 4, func(s *Step) error {
		s.Do(taskFunc(func(w, lo, hi int) { all.Do(w, lo, hi); panic(w) }), 4, 1)
		return nil
	})
	var p *PanicError
	if !errors.As(err, &p) {
		t.Errorf("Step = %v, want a PanicError", err)
	}
	usable(t, e, 4)
}

// TestPanicStopsOthers has a worker panic while the caller has hundreds of chunks
// before it, and is in the first of them at most.
func TestPanicStopsOthers(t *testing.T) {
	e := newExecutor(t, 2)
	var chunks atomic.Int64
	err := e.Step(t.Context(), 2, func(s *Step) error {
		begun := make(chan struct{})
		s.Do(taskFunc(func(worker, _, _ int) {
			if worker == 1 {
				close(begun)
				panic("worker")
			}
			<-begun
			for s.e.stopped.Load() < s.id {
				runtime.Gosched()
			}
			chunks.Add(1)
		}), 1000, 1)
		return nil
	})
	if err == nil || chunks.Load() > 1 {
		t.Errorf("Step = %v after %d chunks, want an error after 1 at most", err, chunks.Load())
	}
}

// TestSwallowedPanic checks that a function which recovers from Do's panic can
// neither go on nor hide the failure.
func TestSwallowedPanic(t *testing.T) {
	e := newExecutor(t, 2)
	ran := false
	err := e.Step(t.Context(), 2, func(s *Step) error {
		try := func(task taskFunc) {
			defer func() { recover() }()
			s.Do(task, 100, 1)
		}
		try(func(int, int, int) { panic("swallowed") })
		try(func(int, int, int) { ran = true })
		return nil
	})
	var p *PanicError
	if !errors.As(err, &p) || p.Value != "swallowed" || ran {
		t.Errorf("Step = %v, went on %v", err, ran)
	}
}

func TestGoexit(t *testing.T) {
	e := newExecutor(t, 2)
	t.Run("worker", func(t *testing.T) {
		err := e.Step(t.Context(), 2, func(s *Step) error {
			task, n := onThread(2, 1, runtime.Goexit)
			s.Do(task, n, 1)
			return nil
		})
		if !errors.Is(err, errGoexit) {
			t.Errorf("Step = %v, want %v", err, errGoexit)
		}
		for e.slots[1].state.Load() != gone {
			runtime.Gosched()
		}
		usable(t, e, 2)
	})
	for _, where := range []string{"task", "function"} {
		t.Run(where, func(t *testing.T) {
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				e.Step(context.Background(), 2, func(s *Step) error {
					if where == "task" {
						task, n := onThread(2, 0, runtime.Goexit)
						s.Do(task, n, 1)
					}
					runtime.Goexit()
					return nil
				})
				t.Error("Step returned to a goroutine that had ended")
			}()
			<-ended
			usable(t, e, 2)
		})
	}
}

func TestProgrammerErrors(t *testing.T) {
	e := newExecutor(t, 2)
	nothing := func(*Step) error { return nil }
	inTask := func(who int, do func(s *Step)) func(*Step) error {
		return func(s *Step) error {
			task, n := onThread(2, who, func() { do(s) })
			s.Do(task, n, 1)
			return nil
		}
	}
	nestedStep := func(*Step) { e.Step(context.Background(), 1, nothing) }
	nestedDo := func(s *Step) { s.Do(taskFunc(func(int, int, int) {}), 1, 1) }
	tests := []struct {
		name string
		f    func(*Step) error
	}{
		{"Step in a step", func(s *Step) error { nestedStep(s); return nil }},
		{"Step in the caller's task", inTask(0, nestedStep)},
		{"Step in a worker's task", inTask(1, nestedStep)},
		{"Do in the caller's task", inTask(0, nestedDo)},
		{"Do in a worker's task", inTask(1, nestedDo)},
		{"Release in a step", func(*Step) error { e.Retain(); e.Release(); return nil }},
		{"Close in a step", func(*Step) error { e.Close(); return nil }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p *PanicError
			if err := e.Step(t.Context(), 2, tt.f); !errors.As(err, &p) {
				t.Errorf("Step = %v, want a PanicError", err)
			}
			usable(t, e, 2)
		})
	}
	t.Run("Do after the step", func(t *testing.T) {
		defer func() {
			if recover() == nil {
				t.Error("Do did not panic")
			}
		}()
		var kept *Step
		step(t, e, 1, func(s *Step) { kept = s })
		nestedDo(kept)
	})
	t.Run("too many Release", func(t *testing.T) {
		defer func() {
			if recover() == nil {
				t.Error("Release did not panic")
			}
		}()
		New(1).Release()
	})
}

// TestBusyEngineIsNotNested has an engine that has panics on faults on by itself
// wait for another one's step: that looks nested at the first glance only.
func TestBusyEngineIsNotNested(t *testing.T) {
	e := newExecutor(t, 2)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	begun, free := make(chan struct{}), make(chan struct{})
	go e.Step(context.Background(), 1, func(*Step) error { close(begun); <-free; return nil })
	<-begun
	go func() {
		for e.turn.waiting() == 0 {
			runtime.Gosched()
		}
		close(free)
	}()
	step(t, e, 1, func(*Step) {})
}

// TestPanicOnFaultIsRestored checks both settings of the calling goroutine.
func TestPanicOnFaultIsRestored(t *testing.T) {
	e := newExecutor(t, 1)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(false))
	for _, on := range []bool{false, true} {
		debug.SetPanicOnFault(on)
		e.Step(t.Context(), 1, func(*Step) error { panic("here") })
		if got := debug.SetPanicOnFault(on); got != on {
			t.Errorf("after the step panic on fault is %v, want %v", got, on)
		}
	}
}

// TestNilPointer checks that a nil pointer is a bug and not a fault of a mapping.
func TestNilPointer(t *testing.T) {
	e := newExecutor(t, 1)
	var nothing *int
	err := e.Step(t.Context(), 1, func(*Step) error { *nothing = 1; return nil })
	var p *PanicError
	var r runtime.Error
	if !errors.As(err, &p) || !errors.As(err, &r) {
		t.Errorf("Step = %v, want a PanicError of a runtime.Error", err)
	}
}

func TestSlotsDoNotShareLines(t *testing.T) {
	var w slot
	if d := unsafe.Offsetof(w.parker) - unsafe.Offsetof(w.index); d != cacheLine {
		t.Errorf("what the caller polls is %d bytes from what it reads, want %d", d, cacheLine)
	}
	if s := unsafe.Sizeof(w); s != 2*cacheLine {
		t.Errorf("a slot has %d bytes, want %d", s, 2*cacheLine)
	}
}

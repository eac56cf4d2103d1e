package exec

import (
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"
)

const (
	// spins is how often a thread looks before it sleeps: 10 to 100 microseconds,
	// by the length of the CPU's pause. It is a count and no time because
	// reading the clock costs as much as a pause, and because a synctest bubble's
	// clock stands still while anything runs.
	spins = 2048
	// yieldEvery is how often a spinning thread lets other goroutines run. Not
	// more often: where CPUs are idle each runtime.Gosched wakes a thread of the
	// scheduler.
	yieldEvery = 256
	// idleEnd is how long a worker sleeps before its goroutine ends.
	idleEnd = 5 * time.Second
)

// States of a parker.
const (
	gone   uint32 = iota // nobody is there to wake
	awake                // looks by itself
	parked               // wants a token
)

// parker lets one goroutine sleep until another one that has changed something
// wakes it. The sleeper says that it will sleep and then looks once more; the waker
// makes the change and then looks for sleepers. Go's atomics are sequentially
// consistent, so one of the two sees the other. Who moves the state away from
// parked decides: the waker then owes exactly one token, the sleeper has taken its
// word back.
type parker struct {
	state atomic.Uint32
	token chan struct{} // holds one
}

// announce says that the caller is about to wait for the token.
func (p *parker) announce() { p.state.Store(parked) }

// withdraw takes that back, or receives the token that is already on its way.
func (p *parker) withdraw() {
	if !p.state.CompareAndSwap(parked, awake) {
		<-p.token
	}
}

// wake wakes the sleeper if there is one.
func (p *parker) wake() {
	if p.state.Load() == parked && p.state.CompareAndSwap(parked, awake) {
		p.token <- struct{}{}
	}
}

// cacheLine is the distance that keeps two values from sharing what CPUs move: a
// line of 64 bytes and its neighbour, or one of 128.
const cacheLine = 128

// slot is what one thread shares with the others. Slot 0 is the caller's, of which
// only the cursor is used.
type slot struct {
	index int

	// ticket is 2·seq when the thread is done with job seq, or was shut out of
	// it, and 2·seq+1 while it is in the job.
	ticket atomic.Uint64
	cursor atomic.Uint64 // what is taken of the thread's share; see claim
	_      [cacheLine - 24]byte

	parker       // apart from the above: the caller only reads it
	idler  Idler // of the last job; the worker's own
	_      [cacheLine - 32]byte
}

// enter makes the worker part of job seq unless the caller has shut it.
func (w *slot) enter(seq uint64) bool {
	old := w.ticket.Load()
	return old < seq<<1 && w.ticket.CompareAndSwap(old, seq<<1|1)
}

// shut keeps the worker out of job seq unless it is in.
func (w *slot) shut(seq uint64) {
	for old := w.ticket.Load(); old < seq<<1; old = w.ticket.Load() {
		if w.ticket.CompareAndSwap(old, seq<<1) {
			return
		}
	}
}

// spinWhile looks until a isn't old any more, or for some microseconds.
func spinWhile(a *atomic.Uint64, old uint64) uint64 {
	for i := 1; i <= spins; i++ {
		if v := a.Load(); v != old {
			return v
		}
		if i%yieldEvery == 0 {
			runtime.Gosched()
		} else {
			pause()
		}
	}
	return a.Load()
}

// idle lets the last job's task use the time until the word changes.
func (e *Executor) idle(w *slot, seen uint64) {
	for w.idler != nil && e.word.Load() == seen {
		if !w.idler.Idle(w.index) {
			w.idler = nil
		}
	}
}

// start begins a worker's goroutine, which waits for the next word.
func (e *Executor) start(w *slot) {
	if e.joiner.token == nil {
		e.joiner.token = make(chan struct{}, 1)
	}
	w.token = make(chan struct{}, 1)
	w.state.Store(awake)
	e.workers.Add(1)
	go e.serve(w, e.word.Load())
}

// serve is a worker: it takes part in each job that has a share for it, until it
// is told to end, has been idle for long, or a task ends its goroutine.
func (e *Executor) serve(w *slot, seen uint64) {
	debug.SetPanicOnFault(true)
	idle := time.NewTimer(idleEnd)
	defer func() {
		idle.Stop()
		w.idler = nil
		w.state.Store(gone)
		e.workers.Done()
	}()
	for {
		word := e.await(w, seen, idle)
		if word == seen {
			return
		}
		seen = word
		seq, parts := word>>indexBits, int(word&indexMask)
		if parts == quit {
			return
		}
		if w.index < parts && w.enter(seq) {
			e.attend(w, seq)
		}
	}
}

// await waits for the word to change: spinning, then asleep. It returns the old
// word when the worker has slept long enough to end.
func (e *Executor) await(w *slot, seen uint64, idle *time.Timer) uint64 {
	e.idle(w, seen)
	for {
		word := spinWhile(&e.word, seen)
		if word != seen {
			return word
		}
		e.sleepers.Add(1) // before announce, so that it is never too low
		w.announce()
		if word := e.word.Load(); word != seen {
			w.withdraw()
			e.sleepers.Add(-1)
			return word
		}
		idle.Reset(idleEnd)
		end := false
		select {
		case <-w.token:
		case <-idle.C:
			// A waker that was faster owes a token, and has work.
			if end = w.state.CompareAndSwap(parked, awake); !end {
				<-w.token
			}
		}
		idle.Stop()
		e.sleepers.Add(-1)
		if end {
			return seen
		}
	}
}

// attend does the worker's part of the job it has entered, and leaves it. Panics
// of tasks end here.
func (e *Executor) attend(w *slot, seq uint64) {
	returned := false
	defer func() {
		if v := recover(); v != nil {
			e.step.fail(caught(v))
		} else if !returned {
			e.step.fail(caught(errGoexit))
		}
		w.ticket.Store(seq << 1)
		e.joiner.wake()
	}()
	e.walk(w.index, nil)
	w.idler, _ = e.job.task.(Idler)
	returned = true
}

// join shuts the job and waits for the workers that are in it.
func (e *Executor) join(done <-chan struct{}) {
	j := &e.job
	workers := e.slots[1:j.parts]
	for _, w := range workers {
		w.shut(j.seq)
	}
	in := j.seq<<1 | 1
	for _, w := range workers {
		if spinWhile(&w.ticket, in) != in {
			continue
		}
		for {
			e.joiner.announce()
			if w.ticket.Load() != in {
				e.joiner.withdraw()
				break
			}
			select {
			case <-e.joiner.token:
			case <-done:
				e.stop(j.step)
				done = nil
				e.joiner.withdraw()
			}
		}
	}
}

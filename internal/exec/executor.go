package exec

import (
	"context"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	quit       = indexMask // in the place of a word's parts: workers end
	maxThreads = 1 << 12
)

// Executor runs steps, one at a time, each on several threads. Its methods are safe
// for concurrent use.
//
// # Turns
//
// Several engines share one set of workers, so they take turns, a step at a time,
// each a [Client] whose share of the time is as its weight; see turn. Running two
// engines' operations at once would take longer than one after the other: they would
// fight for the cache and the memory bus, and a barrier of one would wait for a thread
// that is busy for the other.
//
// # The protocol
//
// A Do is a job with a sequence number, seq. Thread 0, the caller, is the only
// one that writes jobs. With threads 1 to parts-1 it shares:
//
//   - word: seq and parts of the newest job. Workers spin on it.
//   - ticket, one for each worker: is it in a job, and what was the last job
//     it can't enter any more.
//   - cursor, one for each thread: how much of its share is taken, with the seq
//     that this is about.
//
// The caller writes the job's fields, then word, and goes to work on its own share.
// A worker that sees the new word enters the job by moving its ticket from whatever
// it was to in(seq), then reads the fields, works, and stores done(seq). Each
// thread claims the chunks of its own share by compare-and-swap on its own cursor,
// which nobody else touches as a rule, then goes through the others' cursors and
// takes what is left. When the caller finds nothing left, it shuts the job: tickets
// that aren't at in(seq) it moves to done(seq) itself, for the others it waits. So
// the caller never waits for a worker that isn't there, because it sleeps or
// because the system gave its CPU away, but only for chunks that somebody is in the
// middle of.
//
// # Memory order
//
// All shared words are Go atomics, which are sequentially consistent and
// synchronise like locks. Job fields: written before word is stored, read after
// it was loaded; written again only after every ticket was seen at done(seq) or
// moved there. A worker that read an old word fails to enter, as tickets only grow:
// the caller moved its ticket past that job before it made the next one.
// Results of tasks: written before the ticket goes to done(seq), which the
// caller has seen when Do returns; the next job's word carries them on to all.
// No word wraps: 48 bits of seq last 40 years at a job every 5 microseconds.
//
// # Sleeping, and why nothing hangs
//
// Whoever spins yields to the Go scheduler now and then and sleeps on a channel
// after some microseconds, so it makes no difference to correctness how many CPUs
// there are: with GOMAXPROCS=1 the worker runs when the caller sleeps. Going to
// sleep is announced before the last look and waking comes after the change
// ([parker]), so one side always sees the other; a lost wake-up of a worker would
// cost speed, never progress, since the caller can finish every share alone. The
// caller in turn waits only for workers inside a task. The lock of the queue for
// turns and the one around a step's failure are leaves: nothing is taken under
// them.
//
// # Goroutines
//
// Workers are started and told to end by the holder of the turn alone. They end by
// themselves after some seconds of sleep, with the last Release, and in Close; the
// latter two wait for them. A task that ends its goroutine by runtime.Goexit fails
// the step, and the next step starts the worker anew.
//
// # Rejected
//
//   - A goroutine for each share, or a channel send for each job: microseconds and a
//     scheduler lock 150 times a token, against some hundred nanoseconds.
//   - Chunks from one common counter: each thread's reading jumps, which undoes the
//     prefetch, and every claim moves a contended cache line.
//   - Purely static shares: one CPU taken away by the system stalls every
//     barrier for a scheduling period.
//   - One counter of arrivals as the barrier: the caller would have to wait for threads
//     that never woke up, and all threads write the same line.
//   - An executor for each model: with M models M·GOMAXPROCS spinning threads.
//   - LockOSThread and CPU affinity: the process isn't ours.
type Executor struct {
	max  int
	turn turn
	refs atomic.Int64

	// For the holder of the turn.
	step    Step
	seq     uint64
	slots   []*slot // grows, never shrinks
	workers sync.WaitGroup

	_    [cacheLine]byte
	word atomic.Uint64 // seq<<indexBits | parts, or quit
	_    [cacheLine - 8]byte
	job  job
	_    [cacheLine]byte

	// Written seldom, looked at often.
	stopped  atomic.Uint64 // steps up to this id shall end
	sleepers atomic.Int64  // workers that are parked, or about to be
	joiner   parker        // the caller, waiting for workers in Do
	_        [cacheLine]byte
}

// Default returns the process's executor.
var Default = sync.OnceValue(func() *Executor { return New(0) })

// New returns an executor whose steps have at most threads threads, or as many as
// GOMAXPROCS allows if that is 0 or less. It has no goroutines yet.
func New(threads int) *Executor {
	if threads <= 0 || threads > maxThreads {
		threads = maxThreads
	}
	e := &Executor{max: threads}
	e.step.e = e
	e.turn.anyone.weight = 1
	return e
}

// Retain counts one more user, such as a loaded model, that has steps now and then.
func (e *Executor) Retain() { e.refs.Add(1) }

// Release counts a user less; the last one waits for its turn and then until all
// workers have ended. The executor stays usable.
func (e *Executor) Release() {
	n := e.refs.Add(-1)
	if n < 0 {
		panic("exec: more released than retained")
	}
	if n > 0 {
		return
	}
	on := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(on)
	if e.enter(context.Background(), &e.turn.anyone, on) != nil {
		return // closed: no workers
	}
	defer e.turn.pass()
	if e.refs.Load() == 0 {
		e.retire()
	}
}

// Close refuses further steps, waits for those that were asked for already, and
// then until all workers have ended. It is for executors made by New: closing the
// default one leaves the process without.
func (e *Executor) Close() {
	if insideStep(3) { // from runtime.Callers to Close
		panic("exec: Close inside a step")
	}
	if !e.turn.close() {
		return
	}
	e.retire()
	e.turn.pass()
}

// Step waits for its turn and runs f with as many threads as were asked for, at
// most GOMAXPROCS and the executor's limit; 0 or less asks for all there are. f
// runs on the calling goroutine, which is thread 0.
//
// Step returns a [FaultError] or [PanicError] if f or a task panicked, whatever
// else happened; then f's error; then ErrStopped if the step was stopped before f
// returned, or noticed in Do or Stopped that ctx ended. If ctx ends while Step
// waits for the turn, it returns the context's cause and f isn't run.
//
// Those that call it directly count as one client together, of weight 1.
func (e *Executor) Step(ctx context.Context, threads int, f func(*Step) error) error {
	return e.run(ctx, &e.turn.anyone, threads, f)
}

// run is Step in c's turn.
func (e *Executor) run(ctx context.Context, c *Client, threads int, f func(*Step) error) (err error) {
	on := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(on)
	if err := e.enter(ctx, c, on); err != nil {
		return err
	}
	s := e.begin(ctx, threads)
	defer func() {
		if v := recover(); v != nil && v != unwind {
			s.fail(caught(v))
		}
		err = s.end(ctx, err)
		e.turn.pass()
	}()
	return f(s)
}

// enter takes the turn for c. A goroutine that is inside a step has panics on faults
// on, so only where that was so before is it worth a look at the stack.
func (e *Executor) enter(ctx context.Context, c *Client, faultsOn bool) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	taken, err := e.turn.try(c)
	if taken || err != nil {
		return err
	}
	if faultsOn && insideStep(4) { // from runtime.Callers to Step
		panic("exec: Step or Release inside a step")
	}
	return e.turn.wait(ctx, c)
}

// insideStep reports whether the goroutine, without its innermost frames to skip,
// is in a step's function or in a task.
func insideStep(skip int) bool {
	var pcs [64]uintptr
	runtime.Callers(1, pcs[:1])
	self, _ := runtime.CallersFrames(pcs[:1]).Next()
	methods := strings.TrimSuffix(self.Function, "insideStep") + "(*Executor)."
	for ; ; skip += len(pcs) {
		n := runtime.Callers(skip, pcs[:])
		frames := runtime.CallersFrames(pcs[:n])
		for more := n > 0; more; {
			var f runtime.Frame
			f, more = frames.Next()
			if f.Function == methods+"run" || f.Function == methods+"serve" {
				return true
			}
		}
		if n < len(pcs) {
			return false
		}
	}
}

// begin prepares the turn holder's step and wakes the workers for it.
func (e *Executor) begin(ctx context.Context, threads int) *Step {
	limit := min(runtime.GOMAXPROCS(0), e.max)
	if threads <= 0 || threads > limit {
		threads = limit
	}
	for len(e.slots) < threads {
		e.slots = append(e.slots, &slot{index: len(e.slots)})
	}
	for _, w := range e.slots[1:threads] {
		if w.state.Load() == gone {
			e.start(w)
		} else {
			w.wake()
		}
	}
	s := &e.step
	s.id++
	s.threads, s.phase, s.done = threads, ready, ctx.Done()
	return s
}

// stop asks step id, and with it those before, to end.
func (e *Executor) stop(id uint64) {
	for old := e.stopped.Load(); old < id; old = e.stopped.Load() {
		if e.stopped.CompareAndSwap(old, id) {
			return
		}
	}
}

// retire ends all workers and waits for them; the caller has the turn. What
// they and the waiters slept on goes too, so that an executor can serve one
// synctest bubble after another.
func (e *Executor) retire() {
	e.seq++
	e.word.Store(e.seq<<indexBits | quit)
	for _, w := range e.slots {
		w.wake()
	}
	e.workers.Wait()
	e.joiner.token = nil
	e.turn.forget()
}

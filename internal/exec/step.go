package exec

import (
	"context"
	"fmt"
	"sync"
)

// Where a step is.
const (
	over    = iota // not running
	ready          // in f
	working        // in Do
)

// Step is an engine's turn on an [Executor]. It is valid until the function it
// was given to returns, and its methods are for the goroutine of that function,
// except where they say otherwise.
type Step struct {
	e       *Executor
	id      uint64 // counts steps from 1
	threads int
	phase   uint8
	walked  bool            // thread 0 came to the end of the job
	done    <-chan struct{} // of the step's context

	mu      sync.Mutex
	failure error // of the first thread that panicked
}

// unwinding is what Do panics with to end a step.
type unwinding struct{}

func (*unwinding) String() string { return "exec: the step ends" }

var unwind any = new(unwinding)

// Threads is the number of threads that the step has, itself among them.
func (s *Step) Threads() int { return s.threads }

// Do runs t over the items [0, n) on the step's threads and returns when all of
// them are done; what the tasks wrote can then be read. Every thread begins with a
// share of its own, neighbouring items whose bounds are multiples of grain, and
// walks it in order in chunks of one or several grains; who is finished takes over
// what is left of the others' shares. n <= grain runs on the calling goroutine
// alone.
//
// When a task panics or the step is stopped, each thread ends with its present
// chunk, and Do unwinds to [Executor.Step] by a panic instead of returning.
// That can't be averted: every later Do of the step panics as well.
func (s *Step) Do(t Task, n, grain int) {
	if s.phase != ready {
		panic("exec: Do inside a task or after its step")
	}
	e, j := s.e, &s.e.job
	j.task, j.n, j.grain, j.step = t, max(n, 0), max(grain, 1), s.id
	j.split(s.threads)
	e.seq++
	j.seq = e.seq
	s.phase, s.walked = working, false
	defer s.finish()
	if j.parts > 1 {
		e.word.Store(j.seq<<indexBits | uint64(j.parts))
		if e.sleepers.Load() > 0 {
			for _, w := range e.slots[1:j.parts] {
				w.wake()
			}
		}
	}
	e.walk(0, s.done)
	s.walked = true
}

// Share is what thread i of a Do over n items begins with: the items [lo, hi),
// none for a thread that has no share.
func (s *Step) Share(i, n, grain int) (lo, hi int) {
	j := job{n: n, grain: max(grain, 1)}
	j.split(s.threads)
	if i >= j.parts {
		return 0, 0
	}
	lo, hi = j.share(i)
	return lo * j.grain, min(hi*j.grain, n)
}

// finish ends a Do, however thread 0 came out of it: no worker may be in the job
// when Do's frame goes.
func (s *Step) finish() {
	v := recover()
	if v != nil {
		s.fail(caught(v))
	} else if !s.walked { // runtime.Goexit
		s.Stop()
	}
	s.e.join(s.done)
	s.phase = ready
	if s.e.stopped.Load() >= s.id && (v != nil || s.walked) {
		panic(unwind)
	}
}

// fail records why the step can't be completed and stops it. Any thread of the step
// may call it; the first one is heard.
func (s *Step) fail(err error) {
	s.mu.Lock()
	if s.failure == nil {
		s.failure = err
	}
	s.mu.Unlock()
	s.Stop()
}

// end is what the step comes to when f returned err or was unwound.
func (s *Step) end(ctx context.Context, err error) error {
	s.mu.Lock()
	failure := s.failure
	s.failure = nil
	s.mu.Unlock()
	stopped := s.e.stopped.Load() >= s.id
	s.phase, s.done, s.e.job.task = over, nil, nil
	switch {
	case failure != nil:
		return failure
	case err != nil || !stopped:
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", ErrStopped, context.Cause(ctx))
	}
	return ErrStopped
}

// Stop asks the step to end. Any goroutine may call it, but only while the step
// runs; who may come late uses a [Stopper].
func (s *Step) Stop() { s.e.stop(s.id) }

// Stopped reports whether the step was asked to end: by Stop, by the end of its
// context, or by a panic. Any goroutine may call it while the step runs.
// A function that does much outside of Do looks here and returns.
func (s *Step) Stopped() bool {
	select {
	case <-s.done:
		s.Stop()
	default:
	}
	return s.e.stopped.Load() >= s.id
}

// Stopper returns the means for others to stop this step and no later one.
func (s *Step) Stopper() Stopper { return Stopper{s.e, s.id} }

// Stopper stops one step. The zero Stopper stops nothing.
type Stopper struct {
	e  *Executor
	id uint64
}

// Stop asks the step to end; when it has ended already, nothing happens.
func (s Stopper) Stop() {
	if s.e != nil {
		s.e.stop(s.id)
	}
}

package runtime

import (
	"time"

	"github.com/dunlin-go/dunlin/internal/sched"
)

// fail makes the model refuse everything from here on.
func (e *engine) fail(err error) {
	err = &Error{Code: CodeModelChanged, Err: err}
	e.mu.Lock()
	e.broken = err
	e.mu.Unlock()
	e.failAll(err)
}

// failStep ends the sequences of the step that was run.
func (e *engine) failStep(err error) {
	for _, s := range e.step {
		s.writer.Finish(err)
	}
}

// failAll ends every sequence there is. Where the scheduler can't even drop what
// it has, nothing can run any more: the loop ends and the model refuses everything.
func (e *engine) failAll(err error) {
	e.mu.Lock()
	for _, s := range append(e.arrivals, e.arrived...) { // which may not be with the scheduler yet
		if s != nil {
			e.live[s] = struct{}{}
		}
	}
	e.arrivals, e.arrived, e.inFlight, e.waiting, e.free = nil, nil, nil, 0, e.maxSequences
	e.mu.Unlock()
	for s := range e.live {
		e.tellQueued(s)
		s.writer.Finish(err)
	}
	all := func(*sched.Sequence) bool { return true }
	if err := guarded(CodeInternal, func() error { e.sched.Drop(all); return nil }); err != nil {
		e.lost = true
		e.mu.Lock()
		e.broken = err
		e.mu.Unlock()
	}
	now := time.Now()
	for s := range e.live {
		e.retire(s, now)
	}
}

package runtime

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// water is when a reader holds its own sequence up: from high unread events on,
// until no more than low are left. Between the two lies enough that a sequence
// doesn't come and go with each event that is read, and the loop isn't woken for
// each; and low is enough to read on while the sequence is on its way back into
// a step.
type water struct{ high, low int }

// waterOf is the marks for a buffer of so many events. Below high there is always
// room for what a token can bring: itself and the finish.
func waterOf(buffer int, share float64) water {
	high := min(max(int(math.Ceil(float64(buffer)*share)), 1), buffer-1)
	return water{high: high, low: high / 2}
}

// look notes whose readers are behind.
func (e *engine) look(now time.Time) {
	for _, r := range e.sched.Running() {
		s := owner(r)
		held, read := s.writer.held(e.water, s.Stalled)
		switch {
		case !held:
			s.stalled = time.Time{}
		case !s.Stalled:
			s.stalled = now
		case read.After(s.stalled):
			s.stalled = read
		}
		s.Stalled = held
		s.heldUp = s.heldUp || held
	}
}

// errStalled is what a stream ends with that nobody reads.
var errStalled = errors.New("nobody read the stream")

// contend notes since when requests wait.
func (e *engine) contend(now time.Time) {
	switch {
	case e.sched.Waiting() == 0:
		e.waited = time.Time{}
	case e.waited.IsZero():
		e.waited = now
	}
}

// unread is how long a stream's reader has been behind while other requests waited
// for its place.
func (e *engine) unread(s *sequence, now time.Time) time.Duration {
	if !s.Stalled || e.waited.IsZero() {
		return 0
	}
	since := s.stalled
	if e.waited.After(since) {
		since = e.waited
	}
	return now.Sub(since)
}

// endStalled ends streams that nobody has read for stallLimit while other requests
// waited for their place: as many as wait at most, those first that are unread for
// longest.
func (e *engine) endStalled(now time.Time) {
	for range e.sched.Waiting() {
		var longest *sequence
		for _, r := range e.sched.Running() {
			s := owner(r)
			if e.unread(s, now) >= e.stallLimit && !s.writer.Ended() && (longest == nil || s.stalled.Before(longest.stalled)) {
				longest = s
			}
		}
		if longest == nil {
			return
		}
		longest.writer.Finish(&Error{Code: CodeClosed, Err: fmt.Errorf("%w for %v while other requests waited", errStalled, e.stallLimit)})
		e.signal() // it is still to be dropped
	}
}

// untilStalled is how long it takes until a stream has been unread for too long,
// false where there is none for that.
func (e *engine) untilStalled(now time.Time) (left time.Duration, ok bool) {
	if e.waited.IsZero() {
		return 0, false
	}
	for _, r := range e.sched.Running() {
		if s := owner(r); s.Stalled {
			if d := e.stallLimit - e.unread(s, now); !ok || d < left {
				left, ok = d, true
			}
		}
	}
	return left, ok
}

package runtime

import (
	"errors"
	"fmt"
	"time"
)

// ErrOverloaded is what every [OverloadedError] matches with errors.Is.
var ErrOverloaded = errors.New("overloaded")

// OverloadedError says that the queue is full. An [*Error] with
// [CodeOverloaded] wraps it.
type OverloadedError struct {
	Waiting int // requests in the queue
	// RetryAfter is about how long those that wait now will take, from how often
	// requests have ended lately. Callers who try again earlier mostly meet each
	// other.
	RetryAfter time.Duration
}

// Error gives both numbers.
func (e *OverloadedError) Error() string {
	return fmt.Sprintf("%d requests are waiting already, try again in %v", e.Waiting, e.RetryAfter)
}

// Is makes errors.Is(err, ErrOverloaded) true.
func (e *OverloadedError) Is(target error) bool { return target == ErrOverloaded }

// turnover learns how often a place becomes free.
type turnover struct {
	last time.Time
	gap  time.Duration // between two ends, fading mean
}

// Bounds of the hint.
const (
	minRetry     = 100 * time.Millisecond
	maxRetry     = 30 * time.Second
	unknownRetry = time.Second
)

// add notes that so many of those that ran have ended, and whether there are
// others: a pause says nothing about how long they take.
func (t *turnover) add(ended int, others bool, now time.Time) {
	if ended == 0 {
		return
	}
	if !t.last.IsZero() {
		gap := min(now.Sub(t.last), maxRetry) / time.Duration(ended)
		if t.gap == 0 {
			t.gap = gap
		}
		t.gap += (gap - t.gap) / 8
	}
	if t.last = now; !others {
		t.last = time.Time{}
	}
}

// hint is when to try again where so many wait.
func (t *turnover) hint(waiting int) time.Duration {
	if t.gap == 0 {
		return unknownRetry
	}
	all := t.gap * time.Duration(min(waiting, maxQueue)) // no more than 2^20 times 30 s
	return min(max(all, minRetry), maxRetry).Round(time.Millisecond)
}

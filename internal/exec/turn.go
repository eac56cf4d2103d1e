package exec

import (
	"context"
	"sync"
)

// turn is a mutex that is handed over strictly in the order of asking and that
// can be waited for under a context. Whoever gives it up passes it to the first
// waiter: nobody barges in between, so an engine that begins its next step at once
// goes behind all others that wait.
type turn struct {
	mu          sync.Mutex
	held, shut  bool
	first, last *waiter
	free        *waiter // of earlier waits, so that waiting allocates nothing
}

type waiter struct {
	next    *waiter
	granted chan struct{} // holds one
}

// try takes the turn if nobody has it.
func (t *turn) try() (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shut {
		return false, ErrClosed
	}
	if t.held {
		return false, nil
	}
	t.held = true
	return true, nil
}

// wait takes the turn when all who asked before have had it.
func (t *turn) wait(ctx context.Context) error {
	t.mu.Lock()
	if t.shut {
		t.mu.Unlock()
		return ErrClosed
	}
	if !t.held {
		t.held = true
		t.mu.Unlock()
		return nil
	}
	w := t.join()
	t.mu.Unlock()

	var err error
	select {
	case <-w.granted:
	case <-ctx.Done():
		if !t.leave(w) { // granted meanwhile: hand it on
			<-w.granted
			t.pass()
		}
		err = context.Cause(ctx)
	}

	t.mu.Lock()
	w.next, t.free = t.free, w
	t.mu.Unlock()
	return err
}

// join puts a waiter at the end of the queue; mu is held.
func (t *turn) join() *waiter {
	w := t.free
	if w != nil {
		t.free, w.next = w.next, nil
	} else {
		w = &waiter{granted: make(chan struct{}, 1)}
	}
	if t.last == nil {
		t.first = w
	} else {
		t.last.next = w
	}
	t.last = w
	return w
}

// leave takes w out of the queue, or reports that it isn't there anymore.
func (t *turn) leave(w *waiter) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	var before *waiter
	for q := t.first; q != nil; before, q = q, q.next {
		if q != w {
			continue
		}
		if before == nil {
			t.first = q.next
		} else {
			before.next = q.next
		}
		if t.last == q {
			t.last = before
		}
		return true
	}
	return false
}

// pass gives the turn to the first waiter.
func (t *turn) pass() {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.first
	if w == nil {
		t.held = false
		return
	}
	t.first = w.next
	if t.first == nil {
		t.last = nil
	}
	w.granted <- struct{}{}
}

// close refuses everybody who asks from now on; those in the queue keep
// their place, and so does the caller, who waits for the turn behind them. It
// reports whether the caller is the one who closed.
func (t *turn) close() bool {
	t.mu.Lock()
	if t.shut {
		t.mu.Unlock()
		return false
	}
	t.shut = true
	if !t.held {
		t.held = true
		t.mu.Unlock()
		return true
	}
	w := t.join()
	t.mu.Unlock()
	<-w.granted
	return true
}

// forget drops what is kept for later waits.
func (t *turn) forget() {
	t.mu.Lock()
	t.free = nil
	t.mu.Unlock()
}

// waiting is the length of the queue, for tests.
func (t *turn) waiting() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for w := t.first; w != nil; w = w.next {
		n++
	}
	return n
}

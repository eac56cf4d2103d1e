package exec

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"
)

const (
	// patience is how long the turn is kept for a client that is between two steps.
	patience = time.Millisecond
	// minCharge is what the shortest step counts, so that virtual time always grows.
	minCharge = time.Microsecond
)

// turn is a mutex that clients share fairly by the time they hold it, and that
// can be waited for under a context. It is start-time fair queueing (Goyal, Vin
// and Cheng, "Start-time Fair Queuing", 1996) with costs that are known only
// afterwards, and with the anticipation of disk schedulers (Iyer and Druschel,
// "Anticipatory Scheduling", 2001).
//
// # Virtual time
//
// Each client has a virtual time, which grows by the time it held the turn over
// its weight. The turn goes to the waiter whose client has the least, of
// equals to the first one. A client is present from when it asks until it says that
// it is idle. When it comes, its virtual time is set to the least of those present
// if it is below that, so nobody saves up a right; the lead that a long step gave
// it, it keeps.
//
// # Anticipation
//
// An engine hands out its tokens between two steps. If the turn went to others
// meanwhile, any two would simply alternate. So a client that is present, doesn't
// ask and has less virtual time than all that do is waited for, patience
// at most, while nothing runs. Who is late for that comes anew when it asks, and isn't
// waited for again before it has been quicker than that once.
//
// # Why nobody starves
//
// Let c wait with virtual time x. While it does, x doesn't change, and whoever
// goes before it has x at most and afterwards minCharge/weight more than before.
// Virtual times never fall, so a client that was at y when c asked, or when it came,
// goes before c at most 1 + weight·(x-y)/minCharge times, and holds the turn for
// weight·(x-y) and one step's length at most. Clients are finitely many, as
// loaded models are. Waiting for those that are between steps ends after patience
// at most, and always with somebody's turn.
//
// Nothing is lost: whatever changes who is next (a turn that ends, a client that
// asks, gives up, becomes idle or late) ends in next, under mu.
//
// # Alone
//
// While one client is present nothing is compared and the clock isn't read: a
// step counts from when somebody else came.
type turn struct {
	mu          sync.Mutex
	held, shut  bool
	holder      *Client
	began       time.Time // since when the holder's step counts, zero while it is alone
	first, last *waiter   // in the order of asking
	free        *waiter   // of earlier waits, so that waiting allocates nothing
	present     []*Client
	anyone      Client  // for those that are no client: one step at a time, never waited for
	latest      float64 // the greatest virtual time that a step has ended with

	timer *time.Timer // ends the wait for those that are between steps
	until time.Time   // when it does; zero while nobody is waited for
}

type waiter struct {
	next    *waiter
	c       *Client
	granted chan struct{} // holds one
}

// try takes the turn for c if nobody has it and no other client is present.
func (t *turn) try(c *Client) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shut {
		return false, ErrClosed
	}
	if t.held || len(t.present) > 1 || len(t.present) == 1 && t.present[0] != c {
		return false, nil
	}
	t.arrive(c)
	t.take(c)
	return true, nil
}

// wait takes the turn for c when it is c's.
func (t *turn) wait(ctx context.Context, c *Client) error {
	t.mu.Lock()
	if t.shut {
		t.mu.Unlock()
		return ErrClosed
	}
	t.arrive(c)
	w := t.join(c)
	t.next()
	t.mu.Unlock()

	var err error
	select {
	case <-w.granted:
	case <-ctx.Done():
		if !t.abandon(w) { // granted meanwhile: hand it on
			<-w.granted
			t.pass()
		}
		err = context.Cause(ctx)
	}

	t.mu.Lock()
	w.next, w.c, t.free = t.free, nil, w
	t.mu.Unlock()
	return err
}

// arrive makes c present and counts it as asking; mu is held, as for all below that
// don't say otherwise.
func (t *turn) arrive(c *Client) {
	if !c.present || c.late {
		c.virtual = max(c.virtual, t.now())
	}
	if !c.present {
		c.present = true
		t.present = append(t.present, c)
	}
	c.late = false
	if c.asking++; len(t.present) == 1 {
		return
	}
	now := time.Now()
	if c.timed {
		c.slow = now.Sub(c.left) > patience
	}
	if t.held && t.began.IsZero() {
		t.began = now
	}
}

// now is the virtual time at which clients come.
func (t *turn) now() float64 {
	least := math.Inf(1)
	for _, c := range t.present {
		if !c.late {
			least = min(least, c.virtual)
		}
	}
	if math.IsInf(least, 1) {
		return t.latest
	}
	return least
}

// leave makes c absent.
func (t *turn) leave(c *Client) {
	if c.present {
		i := slices.Index(t.present, c)
		t.present = slices.Delete(t.present, i, i+1)
		c.present = false
	}
}

// take gives the turn to c, which asks for it.
func (t *turn) take(c *Client) {
	t.held, t.holder = true, c
	if len(t.present) > 1 {
		t.began = time.Now()
	}
}

// due is the waiter that goes before the others.
func (t *turn) due() *waiter {
	w := t.first
	for q := w.next; q != nil; q = q.next {
		if q.c.virtual < w.c.virtual {
			w = q
		}
	}
	return w
}

// awaits reports whether c, which is present, is waited for before w has its turn.
func (w *waiter) awaits(c *Client) bool {
	return c.asking == 0 && !c.late && c.virtual < w.c.virtual
}

// next gives the turn, if nobody has it, to the waiter that is due, or sees to it
// that those are waited for that go before it.
func (t *turn) next() {
	if t.held {
		return
	}
	if t.first == nil {
		t.hush()
		return
	}
	w := t.due()
	if !t.shut && slices.ContainsFunc(t.present, w.awaits) {
		if t.until.IsZero() {
			t.until = time.Now().Add(patience)
			if t.timer == nil {
				t.timer = time.AfterFunc(patience, t.late)
			} else {
				t.timer.Reset(patience)
			}
		}
		return
	}
	t.hush()
	t.remove(w)
	t.take(w.c)
	w.granted <- struct{}{}
}

// hush takes back that somebody is waited for.
func (t *turn) hush() {
	if !t.until.IsZero() {
		t.until = time.Time{}
		t.timer.Stop()
	}
}

// late is what the timer calls, without mu: those that were waited for are late.
func (t *turn) late() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.until.IsZero() || time.Now().Before(t.until) {
		return // it was stopped too late, or means an earlier wait
	}
	t.until = time.Time{}
	w := t.due() // there is one: when the last gives up, the wait ends
	for _, c := range t.present {
		c.late = c.late || w.awaits(c)
	}
	t.next()
}

// join puts a waiter at the end of the queue.
func (t *turn) join(c *Client) *waiter {
	w := t.free
	if w != nil {
		t.free, w.next = w.next, nil
	} else {
		w = &waiter{granted: make(chan struct{}, 1)}
	}
	w.c = c
	if t.last == nil {
		t.first = w
	} else {
		t.last.next = w
	}
	t.last = w
	return w
}

// remove takes w out of the queue, or reports that it isn't there anymore.
func (t *turn) remove(w *waiter) bool {
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

// abandon takes w out of the queue for good, without mu; false if it has been
// granted the turn.
func (t *turn) abandon(w *waiter) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.remove(w) {
		return false
	}
	t.done(w.c)
	w.c.late = w.c.asking == 0 // who knows when it comes again
	t.next()
	return true
}

// pass ends the holder's turn and gives it on, without mu.
func (t *turn) pass() {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.holder
	if t.began.IsZero() {
		c.timed = false
	} else {
		c.left, c.timed = time.Now(), true
		c.virtual += max(c.left.Sub(t.began), minCharge).Seconds() / c.weight
		t.latest = max(t.latest, c.virtual)
		t.began = time.Time{}
	}
	t.held = false
	t.done(c)
	if t.first != nil {
		t.next()
	}
}

// done counts c as asking once less.
func (t *turn) done(c *Client) {
	if c.asking--; c.asking == 0 {
		c.late = c.slow
		if c == &t.anyone {
			t.leave(c)
		}
	}
}

// idle is for a client that won't ask for a while, without mu.
func (t *turn) idle(c *Client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.asking > 0 {
		return
	}
	c.slow, c.late, c.timed = false, false, false
	t.leave(c)
	t.next()
}

// close refuses everybody who asks from now on, without mu; those in the queue keep
// their place, and so does the caller, who waits for the turn behind them. It
// reports whether the caller is the one who closed.
func (t *turn) close() bool {
	t.mu.Lock()
	if t.shut {
		t.mu.Unlock()
		return false
	}
	t.shut = true
	w := t.join(&Client{virtual: math.Inf(1), weight: 1, asking: 1})
	t.next()
	t.mu.Unlock()
	<-w.granted
	return true
}

// forget drops what is kept for later waits, without mu.
func (t *turn) forget() {
	t.mu.Lock()
	t.free, t.timer = nil, nil
	t.mu.Unlock()
}

// waiting is the length of the queue, for tests, without mu.
func (t *turn) waiting() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for w := t.first; w != nil; w = w.next {
		n++
	}
	return n
}

package budget

import (
	"errors"
	"fmt"
	"math"
	"sync"
)

// ErrExceeded is what every [ExceededError] matches with errors.Is.
var ErrExceeded = errors.New("memory budget exceeded")

// Purpose says what reserved bytes are for.
type Purpose uint8

// The purposes that the ledger tells apart.
const (
	Metadata   Purpose = iota // names and key-value pairs of a model file
	Vocabulary                // tokens, merges and the indexes over them
	KVCache                   // pages of keys and values
	Scratch                   // a model's working memory for one step
	Request                   // prompts, buffers and outputs of requests
	HTTP                      // bodies of HTTP requests, and answers that are gathered for them

	NumPurposes = iota // how many there are
)

var purposeNames = [NumPurposes]string{"metadata", "vocabulary", "KV cache", "scratch", "request", "HTTP"}

// String is the purpose as error texts and statistics name it.
func (p Purpose) String() string {
	if int(p) < NumPurposes {
		return purposeNames[p]
	}
	return fmt.Sprintf("purpose %d", uint8(p))
}

// ExceededError reports a reservation that did not fit. It matches
// [ErrExceeded].
type ExceededError struct {
	Purpose     Purpose
	Asked, Left int64 // bytes
	Limit       int64 // the one that was hit, in bytes
	Own         bool  // it is a model's own limit, not the process's
}

// Error names the purpose, both numbers and the limit that was hit.
func (e *ExceededError) Error() string {
	whose := "process's"
	if e.Own {
		whose = "model's own"
	}
	return fmt.Sprintf("%v: %s needs %d bytes, %d of the %s limit of %d are left", ErrExceeded, e.Purpose, e.Asked, e.Left, whose, e.Limit)
}

// Is makes errors.Is(err, ErrExceeded) true.
func (e *ExceededError) Is(target error) bool { return target == ErrExceeded }

// Unlimited is the limit of a child that has only its parent's.
const Unlimited = math.MaxInt64

// Budget is a limit in bytes and what has been reserved under it. It may have
// children: smaller budgets whose reservations count in it too. It is safe for
// concurrent use.
//
// One lock serves a budget and all of its children, so that a reservation is
// either in both or in none, and no other one is refused for one that isn't made
// in the end. It is taken a few times a request.
type Budget struct {
	parent *Budget
	mu     *sync.Mutex // the root's; of all that follows, and of what leases hold
	usage  Usage
}

// Usage is what a budget has and has given at one moment.
type Usage struct {
	Limit int64              // bytes that may be reserved; math.MaxInt64 for a model without a limit of its own
	Used  int64              // bytes that are reserved; above the limit if that was lowered since
	By    [NumPurposes]int64 // Used by [Purpose]
}

// New returns a budget of limit bytes; a limit of zero or less refuses every
// reservation of more than nothing.
func New(limit int64) *Budget {
	return &Budget{mu: new(sync.Mutex), usage: Usage{Limit: max(limit, 0)}}
}

// Child returns a budget of limit bytes under b. What it gives it takes from b.
func (b *Budget) Child(limit int64) *Budget {
	return &Budget{parent: b, mu: b.mu, usage: Usage{Limit: max(limit, 0)}}
}

// SetLimit changes the limit and returns the one before; a negative limit only
// reads it. A limit below what is reserved takes nothing away: it refuses more
// until enough was given back.
func (b *Budget) SetLimit(limit int64) (previous int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	previous = b.usage.Limit
	if limit >= 0 {
		b.usage.Limit = limit
	}
	return previous
}

// Usage is the limit and what is reserved now.
func (b *Budget) Usage() Usage {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.usage
}

// Limit is the number of bytes that may be reserved in all.
func (b *Budget) Limit() int64 { return b.Usage().Limit }

// Used is the number of bytes reserved now.
func (b *Budget) Used() int64 { return b.Usage().Used }

// UsedFor is the number of bytes reserved now for one purpose.
func (b *Budget) UsedFor(p Purpose) int64 { return b.Usage().By[p] }

// Left is the number of bytes that could be reserved now.
func (b *Budget) Left() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, left := b.tightest()
	return left
}

// tightest is the one of the budget and those above it that has the least left,
// which is never below zero.
func (b *Budget) tightest() (least *Budget, left int64) {
	left = math.MaxInt64
	for ; b != nil; b = b.parent {
		if n := max(b.usage.Limit-b.usage.Used, 0); n <= left {
			least, left = b, n
		}
	}
	return least, left
}

// Reserve takes n bytes from the budget or returns an [ExceededError]. A
// negative n, the mark of an overflow in the caller's arithmetic, is refused
// as if it were the largest number there is.
func (b *Budget) Reserve(p Purpose, n int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.reserve(p, n)
}

func (b *Budget) reserve(p Purpose, n int64) error {
	if n < 0 {
		n = math.MaxInt64
	}
	if tightest, left := b.tightest(); n > left {
		return &ExceededError{Purpose: p, Asked: n, Left: left, Limit: tightest.usage.Limit, Own: tightest.parent != nil}
	}
	b.add(p, n)
	return nil
}

// Release gives back n bytes that were reserved for p.
func (b *Budget) Release(p Purpose, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.release(p, n)
}

func (b *Budget) release(p Purpose, n int64) {
	if n < 0 || n > b.usage.By[p] {
		panic("budget: more released than reserved")
	}
	b.add(p, -n)
}

func (b *Budget) add(p Purpose, n int64) {
	for ; b != nil; b = b.parent {
		b.usage.Used += n
		b.usage.By[p] += n
	}
}

// Lease starts an empty group of reservations with one owner.
func (b *Budget) Lease() *Lease { return &Lease{budget: b} }

// Lease is a group of reservations that end together. It is safe for
// concurrent use.
type Lease struct {
	budget *Budget
	held   [NumPurposes]int64 // under the budget's lock
}

// Reserve takes n more bytes, or returns an [ExceededError] and leaves the
// lease as it was.
func (l *Lease) Reserve(p Purpose, n int64) error {
	l.budget.mu.Lock()
	defer l.budget.mu.Unlock()
	if err := l.budget.reserve(p, n); err != nil {
		return err
	}
	l.held[p] += n
	return nil
}

// ReserveItems takes room for count items of size bytes each; a product that
// overflows is refused like one that doesn't fit.
func (l *Lease) ReserveItems(p Purpose, count, size uint64) error {
	if size != 0 && count > math.MaxInt64/size {
		return l.Reserve(p, math.MaxInt64)
	}
	return l.Reserve(p, int64(count*size))
}

// Cover takes as much as is missing for the lease to hold n bytes for p, for
// something that grows.
func (l *Lease) Cover(p Purpose, n int64) error {
	l.budget.mu.Lock()
	defer l.budget.mu.Unlock()
	if n = max(n-l.held[p], 0); n == 0 {
		return nil
	}
	if err := l.budget.reserve(p, n); err != nil {
		return err
	}
	l.held[p] += n
	return nil
}

// Held is the number of bytes the lease holds.
func (l *Lease) Held() int64 {
	l.budget.mu.Lock()
	defer l.budget.mu.Unlock()
	var n int64
	for _, h := range l.held {
		n += h
	}
	return n
}

// Close gives everything back. It may be called more than once.
func (l *Lease) Close() {
	l.budget.mu.Lock()
	defer l.budget.mu.Unlock()
	for p, n := range l.held {
		l.budget.release(Purpose(p), n)
	}
	l.held = [NumPurposes]int64{}
}

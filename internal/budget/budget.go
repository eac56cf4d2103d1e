package budget

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
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
	purposes
)

var purposeNames = [purposes]string{"metadata", "vocabulary", "KV cache", "scratch", "request"}

// String is the purpose as error texts and statistics name it.
func (p Purpose) String() string {
	if p < purposes {
		return purposeNames[p]
	}
	return fmt.Sprintf("purpose %d", uint8(p))
}

// ExceededError reports a reservation that did not fit. It matches
// [ErrExceeded].
type ExceededError struct {
	Purpose     Purpose
	Asked, Left int64 // bytes
}

// Error names the purpose and both numbers.
func (e *ExceededError) Error() string {
	return fmt.Sprintf("%v: %s needs %d bytes, %d are left", ErrExceeded, e.Purpose, e.Asked, e.Left)
}

// Is makes errors.Is(err, ErrExceeded) true.
func (e *ExceededError) Is(target error) bool { return target == ErrExceeded }

// Budget is a limit in bytes and what has been reserved under it. It is safe
// for concurrent use.
type Budget struct {
	limit int64
	used  atomic.Int64
	by    [purposes]atomic.Int64
}

// New returns a budget of limit bytes; a limit of zero or less refuses every
// reservation of more than nothing.
func New(limit int64) *Budget { return &Budget{limit: max(limit, 0)} }

// Limit is the number of bytes that may be reserved in all.
func (b *Budget) Limit() int64 { return b.limit }

// Used is the number of bytes reserved now.
func (b *Budget) Used() int64 { return b.used.Load() }

// UsedFor is the number of bytes reserved now for one purpose.
func (b *Budget) UsedFor(p Purpose) int64 { return b.by[p].Load() }

// Reserve takes n bytes from the budget or returns an [ExceededError]. A
// negative n, the mark of an overflow in the caller's arithmetic, is refused
// as if it were the largest number there is.
func (b *Budget) Reserve(p Purpose, n int64) error {
	if n < 0 {
		n = math.MaxInt64
	}
	for {
		used := b.used.Load()
		if n > b.limit-used {
			return &ExceededError{Purpose: p, Asked: n, Left: b.limit - used}
		}
		if b.used.CompareAndSwap(used, used+n) {
			b.by[p].Add(n)
			return nil
		}
	}
}

// Release gives back n bytes that were reserved for p.
func (b *Budget) Release(p Purpose, n int64) {
	b.by[p].Add(-n)
	if b.used.Add(-n) < 0 {
		panic("budget: more released than reserved")
	}
}

// Lease starts an empty group of reservations with one owner.
func (b *Budget) Lease() *Lease { return &Lease{budget: b} }

// Lease is a group of reservations that end together. It is safe for
// concurrent use.
type Lease struct {
	budget *Budget
	mu     sync.Mutex
	held   [purposes]int64
}

// Reserve takes n more bytes, or returns an [ExceededError] and leaves the
// lease as it was.
func (l *Lease) Reserve(p Purpose, n int64) error {
	if err := l.budget.Reserve(p, n); err != nil {
		return err
	}
	l.mu.Lock()
	l.held[p] += n
	l.mu.Unlock()
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

// Held is the number of bytes the lease holds.
func (l *Lease) Held() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var n int64
	for _, h := range l.held {
		n += h
	}
	return n
}

// Close gives everything back. It may be called more than once.
func (l *Lease) Close() {
	l.mu.Lock()
	held := l.held
	l.held = [purposes]int64{}
	l.mu.Unlock()
	for p, n := range held {
		if n != 0 {
			l.budget.Release(Purpose(p), n)
		}
	}
}

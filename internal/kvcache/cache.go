package kvcache

import (
	"errors"
	"fmt"
	"math"
	"unsafe"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/tensor"
)

// PageTokens is the number of tokens on a page.
const PageTokens = tensor.PageTokens

// ErrNoPages is returned when a lease can't be had now, but could when other
// sequences have ended.
var ErrNoPages = errors.New("the KV cache has no free pages")

// Shape is the geometry of a model's cache.
type Shape struct {
	Layers, Heads, HeadDim int  // Heads counts key heads
	F32                    bool // keys and values as float32, for reference results
}

// PageBytes is the size of a page, math.MaxInt64 if it can't be counted.
func (s Shape) PageBytes() int64 {
	n := int64(2 * 2 * PageTokens)
	if s.F32 {
		n *= 2
	}
	for _, f := range []int{s.Layers, s.Heads, s.HeadDim} {
		if f <= 0 || n > math.MaxInt64/int64(f) {
			return math.MaxInt64
		}
		n *= int64(f)
	}
	return n
}

// PagesFor is the number of pages that tokens need.
func PagesFor(tokens int) int { return (tokens + PageTokens - 1) / PageTokens }

// Cache is an arena of pages and the list of those that are free.
type Cache struct {
	kv       tensor.KV
	arena    []byte
	free     []int32
	promised int // pages that leases may still take
	pages    int
	lease    *budget.Lease
	price    int64
}

// New makes a cache of pages of the shape. Every page is priced in the budget
// up front, though memory is committed only when a page is first used.
func New(shape Shape, pages int, b *budget.Budget) (*Cache, error) {
	price := shape.PageBytes()
	if pages < 1 || pages > math.MaxInt32 || price > math.MaxInt/int64(pages) {
		return nil, fmt.Errorf("kvcache: %d pages of %d bytes can't be addressed", pages, price)
	}
	lease := b.Lease()
	if err := lease.Reserve(budget.KVCache, price*int64(pages)); err != nil {
		return nil, err
	}
	arena, err := reserve(int(price) * pages)
	if err != nil {
		lease.Close()
		return nil, fmt.Errorf("kvcache: reserve %d bytes: %w", price*int64(pages), err)
	}
	c := &Cache{arena: arena, pages: pages, lease: lease, price: price, free: make([]int32, pages)}
	for i := range c.free {
		c.free[i] = int32(pages - 1 - i) // so that low pages are used first
	}
	c.kv = tensor.KV{Layers: shape.Layers, Heads: shape.Heads, HeadDim: shape.HeadDim}
	// The arena is page-aligned memory that stays until Close takes these
	// views away with it.
	if shape.F32 {
		c.kv.F32 = unsafe.Slice((*float32)(unsafe.Pointer(&arena[0])), len(arena)/4)
	} else {
		c.kv.F16 = unsafe.Slice((*uint16)(unsafe.Pointer(&arena[0])), len(arena)/2)
	}
	return c, nil
}

// KV is the cache as the operations see it.
func (c *Cache) KV() *tensor.KV { return &c.kv }

// Pages is the number of pages in all.
func (c *Cache) Pages() int { return c.pages }

// Used is the number of pages that sequences hold.
func (c *Cache) Used() int { return c.pages - len(c.free) }

// PageBytes is the size of a page.
func (c *Cache) PageBytes() int64 { return c.price }

// Close gives the arena back to the operating system. It must come after the
// last step.
func (c *Cache) Close() error {
	if c.arena == nil {
		return nil
	}
	arena := c.arena
	c.arena, c.free, c.kv.F16, c.kv.F32 = nil, nil, nil, nil
	c.lease.Close()
	return release(arena)
}

// Lease is one sequence's share of a cache: a promise of pages, and those of
// them that were taken.
type Lease struct {
	cache    *Cache
	Table    tensor.PageTable // the pages taken, in the order of the sequence's tokens
	promised int
}

// Lease promises pages for up to tokens. It returns [ErrNoPages] where they are
// promised to others.
func (c *Cache) Lease(tokens int) (*Lease, error) {
	n := PagesFor(tokens)
	if n > len(c.free)-c.promised {
		return nil, ErrNoPages
	}
	c.promised += n
	return &Lease{cache: c, Table: make(tensor.PageTable, 0, n), promised: n}, nil
}

// Grow takes pages until the table holds tokens, which must not be more than
// the lease was made for.
func (l *Lease) Grow(tokens int) {
	for len(l.Table) < PagesFor(tokens) {
		if l.promised == 0 {
			panic("kvcache: a sequence outgrew its lease")
		}
		c := l.cache
		l.promised--
		c.promised--
		l.Table = append(l.Table, c.free[len(c.free)-1])
		c.free = c.free[:len(c.free)-1]
	}
}

// Release gives the pages and the promise back. It may be called more than
// once.
func (l *Lease) Release() {
	c := l.cache
	c.promised -= l.promised
	c.free = append(c.free, l.Table...)
	l.Table, l.promised = nil, 0
}

package kvcache

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"os"
	"unsafe"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/tensor"
)

// PageTokens is the number of tokens on a page.
const PageTokens = tensor.PageTokens

// Shape is the geometry of a model's cache.
type Shape struct {
	Layers, Heads, HeadDim int          // Heads counts key heads
	Type                   tensor.DType // of keys and values: F32, F16 or Q8_0

	// Windowed are the layers that attend to the last Window positions only; nil
	// where all attend to all.
	Windowed []bool
	Window   int
}

// Check reports a shape that keys and values can't have.
func (s Shape) Check() error {
	switch {
	case s.Type != tensor.F32 && s.Type != tensor.F16 && s.Type != tensor.Q8_0:
		return fmt.Errorf("kvcache: keys and values can't be %v", s.Type)
	case !s.Type.Fits(s.HeadDim):
		return fmt.Errorf("kvcache: heads of %d elements are not whole blocks of %v", s.HeadDim, s.Type)
	}
	return nil
}

// PageBytes is the size of a page, math.MaxInt64 if it can't be counted.
func (s Shape) PageBytes() int64 {
	if s.Check() != nil {
		return math.MaxInt64
	}
	n := int64(2 * s.Type.RowBytes(PageTokens)) // of an element's keys and values, scales included
	for _, f := range []int{s.groups().layers, s.Heads, s.HeadDim} {
		if f <= 0 || n > math.MaxInt64/int64(f) {
			return math.MaxInt64
		}
		n *= int64(f)
	}
	return n
}

// PagePrice is what a page takes of the budget: its keys and values, and what
// the cache remembers of it.
func (s Shape) PagePrice() int64 {
	n := s.PageBytes()
	if n > math.MaxInt64-recordBytes {
		return math.MaxInt64
	}
	return n + recordBytes
}

// recordBytes is the price of a page's record, its places in the free list and
// in the index, and a salt of up to maxSaltBytes.
const (
	recordBytes  = 384
	maxSaltBytes = 160
)

// Cache is an arena of pages and what is known of each.
//
// A block, 32 tokens of a sequence, has a page for each group of layers; see
// groups. Those of the groups that see all positions are taken, shared and given
// back together, and so are those of the groups that see a window: each is a chain
// of pages, known by its first one, which has its count of references. Most models
// have one group: a chain of one page, and no windows.
//
// A chain is in one of three states. It is free; or held by sequences, as many
// as its count of references says; or kept, by nobody but the tree of prefixes,
// until somebody asks for the same tokens or needs the memory.
//
// The tree has a node for each block that was computed in full: the first of its
// pages that see all positions. Its key is its parent, the 32 tokens on it and, at
// the root, a salt, compared in full, so that no collision of hashes can give a
// sequence the keys of other tokens. A child's keys and values were computed after
// exactly its ancestors' tokens, and sequences hold a node only together with all
// of its ancestors.
//
// A node has its block's windowed pages too, as long as they are there. A sequence
// holds those that its next token's window reaches and gives the others back as it
// goes on; it can begin behind a node only if the tree has as many before it. A node
// without them still leads to those behind it.
//
// Chains that only the tree holds form a list, least recently used first. A
// sequence gives its blocks back from the last to the first, each one's windowed
// pages before the others, so a node's children and its windowed pages always come
// before it there, and the head is always windowed or a leaf: evicting is taking
// the head, without a search.
//
// A page that is shared is never written: a sequence that agrees with a page
// only up to some token, or needs the last one computed anew, gets a copy.
// Where two sequences computed the same page at the same time, the second gives
// up its own for the tree's, which has the same bits; windowed pages that the tree
// has no more it gives to it.
//
// Rejected: nodes with runs of several pages (they have to be split and merged,
// and save little when a page is most of a megabyte); hashes of prefixes as
// keys (a collision is another tenant's text); a price paid when a page is
// first used (a sequence could then fail half way for what another model
// allocated); an arena for each kind of layer (one would be full while the other
// has room).
type Cache struct {
	kv      tensor.KV
	groups  groups
	arena   []byte
	records []record
	free    []int32 // used last first, so that memory already committed is used again
	buckets []int32 // heads of chains of records by hash, a power of two of them
	seed    uint64
	roots   int32 // the first of the nodes without a parent
	// The list of chains that only the tree holds.
	oldest, newest int32
	kept           int // pages of them

	touched int // pages whose memory may be committed
	lease   *budget.Lease
	bytes   int64 // of a page
}

// none stands for no page.
const none = int32(-1)

// record is what is known of a page. But for the first of a chain, refs is 1 and
// the rest but next and touched is of no meaning.
type record struct {
	refs    int32 // sequences that hold it, and one for the tree
	inTree  bool
	touched bool  // its memory may be committed
	next    int32 // of its chain

	windowed int32 // a node's windowed pages
	node     int32 // the other way round

	parent         int32
	child          int32 // the first of its children, the newest
	before, after  int32 // among its parent's children
	chain          int32 // the next one in its bucket
	older, younger int32 // among those that only the tree holds
	salt           string
	tokens         [PageTokens]int32
}

// New makes a cache of pages of the shape. Every page is priced in the budget
// up front, though memory is committed only when a page is first used.
func New(shape Shape, pages int, b *budget.Budget) (*Cache, error) {
	if err := shape.Check(); err != nil {
		return nil, err
	}
	size, price := shape.PageBytes(), shape.PagePrice()
	if pages < 1 || pages > math.MaxInt32/2 || price > math.MaxInt/int64(pages) {
		return nil, fmt.Errorf("kvcache: %d pages of %d bytes can't be addressed", pages, size)
	}
	lease := b.Lease()
	if err := lease.Reserve(budget.KVCache, price*int64(pages)); err != nil {
		return nil, err
	}
	arena, err := reserve(int(size) * pages)
	if err != nil {
		lease.Close()
		return nil, fmt.Errorf("kvcache: reserve %d bytes: %w", size*int64(pages), err)
	}
	c := &Cache{
		groups: shape.groups(), arena: arena, lease: lease, bytes: size, seed: rand.Uint64(), roots: none, oldest: none, newest: none,
		records: make([]record, pages), free: make([]int32, pages), buckets: make([]int32, 1<<bits.Len(uint(pages))),
	}
	for i := range c.free {
		c.free[i] = int32(pages - 1 - i) // so that low pages are used first
	}
	for i := range c.buckets {
		c.buckets[i] = none
	}
	c.kv = tensor.KV{Layers: c.groups.layers, Order: shape.order(), Heads: shape.Heads, HeadDim: shape.HeadDim}
	// The arena is page-aligned memory that stays until Close takes these
	// views away with it.
	switch shape.Type {
	case tensor.Q8_0:
		c.kv.Q8 = arena
	case tensor.F16:
		c.kv.F16 = unsafe.Slice((*uint16)(unsafe.Pointer(&arena[0])), len(arena)/2)
	default:
		c.kv.F32 = unsafe.Slice((*float32)(unsafe.Pointer(&arena[0])), len(arena)/4)
	}
	return c, nil
}

// KV is the cache as the operations see it.
func (c *Cache) KV() *tensor.KV { return &c.kv }

// Pages is the number of pages in all. It never changes.
func (c *Cache) Pages() int { return len(c.records) }

// PagesFor is the number of pages that a sequence of so many tokens needs at once.
func (c *Cache) PagesFor(tokens int) int { return c.groups.pagesFor(tokens) }

// Capacity is the number of tokens of the longest sequence that the cache has room
// for.
func (c *Cache) Capacity() int { return c.groups.capacity(len(c.records)) }

// TableLen is the number of entries of a page table for so many tokens.
func (c *Cache) TableLen(tokens int) int { return Blocks(tokens) * c.groups.block() }

// Used is the number of pages that sequences hold.
func (c *Cache) Used() int { return len(c.records) - len(c.free) - c.kept }

// Kept is the number of pages that only the tree of prefixes holds.
func (c *Cache) Kept() int { return c.kept }

// Available is the number of pages that sequences can take: free ones, and those
// that only the tree holds.
func (c *Cache) Available() int { return len(c.free) + c.kept }

// PageBytes is the size of a page.
func (c *Cache) PageBytes() int64 { return c.bytes }

// Committed is the number of pages whose memory may be committed.
func (c *Cache) Committed() int { return c.touched }

// Close gives the arena back to the operating system. It must come after the
// last step.
func (c *Cache) Close() error {
	if c.arena == nil {
		return nil
	}
	arena := c.arena
	c.arena, c.free, c.kv.F16, c.kv.F32, c.kv.Q8 = nil, nil, nil, nil, nil
	c.lease.Close()
	return release(arena)
}

// take gives a chain of n pages without content, of those that are free or else
// those that the tree has used least recently; none where sequences hold too many.
func (c *Cache) take(n int) int32 {
	if c.Available() < n {
		return none
	}
	first := none
	for range n {
		if len(c.free) == 0 {
			c.evict()
		}
		p := c.free[len(c.free)-1]
		c.free = c.free[:len(c.free)-1]
		r := &c.records[p]
		r.refs, r.next, r.windowed, r.node = 1, first, none, none
		if !r.touched {
			r.touched = true
			c.touched++
		}
		first = p
	}
	return first
}

// hold adds a reference of a sequence to a chain of the tree; none is nothing to do.
func (c *Cache) hold(p int32) {
	if p == none {
		return
	}
	r := &c.records[p]
	if r.refs == 1 {
		c.unlist(p)
	}
	r.refs++
}

// drop takes a sequence's reference away; none is nothing to do.
func (c *Cache) drop(p int32) {
	if p == none {
		return
	}
	r := &c.records[p]
	r.refs--
	switch {
	case r.refs == 0:
		c.giveUp(p)
	case r.refs == 1 && r.inTree:
		c.list(p)
	}
}

// giveUp makes the pages of a chain free.
func (c *Cache) giveUp(p int32) {
	for ; p != none; p = c.records[p].next {
		c.records[p].refs = 0
		c.free = append(c.free, p)
	}
}

// copyPages copies the content of a chain to another one.
func (c *Cache) copyPages(dst, src int32) {
	for dst != none {
		copy(c.data(dst), c.data(src))
		dst, src = c.records[dst].next, c.records[src].next
	}
}

// data is a page's memory.
func (c *Cache) data(p int32) []byte {
	return c.arena[int64(p)*c.bytes:][:c.bytes:c.bytes]
}

// Trim gives the memory of free pages back to the operating system. They stay
// usable: the next use commits memory anew.
func (c *Cache) Trim() error {
	// Pages needn't end where the system's do: whole runs of free ones lose less.
	var errs []error
	begin := none
	for p := range int32(len(c.records)) + 1 {
		if int(p) < len(c.records) && c.records[p].refs == 0 {
			if begin == none {
				begin = p
			}
			if r := &c.records[p]; r.touched {
				r.touched = false
				c.touched--
			}
			continue
		}
		if begin != none {
			errs = append(errs, c.discard(int64(begin)*c.bytes, int64(p)*c.bytes))
			begin = none
		}
	}
	return errors.Join(errs...)
}

// discard gives the arena between two offsets back to the operating system, as far
// as it is whole pages of the system's.
func (c *Cache) discard(from, to int64) error {
	size := int64(os.Getpagesize())
	from, to = (from+size-1)/size*size, to/size*size
	if from >= to {
		return nil
	}
	return discard(c.arena[from:to])
}

// Forget empties the tree of prefixes, but for what sequences hold.
func (c *Cache) Forget() {
	for c.evict() {
		continue
	}
}

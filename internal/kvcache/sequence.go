package kvcache

import (
	"slices"

	"github.com/dunlin-go/dunlin/tensor"
)

// Sequence is one sequence's pages.
type Sequence struct {
	cache  *Cache
	salt   string
	shared int // blocks from the first one on that are nodes of the tree
	first  int // blocks from the first one on whose windowed pages it doesn't hold any more

	// Table lists the pages in the order of the sequence's tokens; where windowed
	// ones were given back it has none, which no layer looks at. It changes with the
	// methods of Sequence, never during a step.
	Table tensor.PageTable
}

// Start makes a sequence that can grow to capacity tokens. It begins with what
// the cache knows of the prefix, tokens whose logits nobody needs: whole blocks,
// and a copy of the block that agrees with what is left of it the longest, where
// there are pages to copy to. It returns how many tokens that is. Sequences of
// different salts, which the caller keeps short, share nothing.
func (c *Cache) Start(salt string, prefix []int32, capacity int) (s *Sequence, cached int) {
	s = &Sequence{cache: c, salt: salt, Table: make(tensor.PageTable, 0, c.TableLen(capacity))}
	cached = s.Adopt(prefix)
	src, agree := c.nearest(s.last(), salt, prefix[cached:])
	if agree == 0 {
		return s, cached
	}
	windowed := c.records[src].windowed
	c.hold(src) // it is of use: others go before it
	c.hold(windowed)
	if i := s.blocks(); s.Grow(cached + agree) {
		c.copyPages(s.full(i), src)
		c.copyPages(s.windowed(i), windowed)
		cached += agree
		s.giveBack(cached)
	}
	c.drop(windowed)
	c.drop(src)
	return s, cached
}

// Adopt continues with blocks that others have computed since. The prefix begins
// with the sequence's first token; it returns up to where it is covered. Only a
// sequence all of whose blocks are shared can go on so.
func (s *Sequence) Adopt(prefix []int32) (cached int) {
	if s.blocks() != s.shared {
		return 0
	}
	c, begin := s.cache, min(len(prefix), s.shared*PageTokens)
	p, n := c.reach(s.last(), s.shared, s.shared-s.first, s.salt, prefix[begin:])
	size := n * c.groups.block()
	s.Table = slices.Grow(s.Table, size-len(s.Table))[:size]
	for i := n - 1; i >= s.shared; i-- {
		windowed := none
		if i >= c.groups.first(n*PageTokens) {
			windowed = c.records[p].windowed
		}
		c.hold(p)
		c.hold(windowed)
		s.set(i, p, windowed)
		p = c.records[p].parent
	}
	s.shared = n
	s.giveBack(n * PageTokens)
	return n * PageTokens
}

// blocks is the number of blocks in the table.
func (s *Sequence) blocks() int { return len(s.Table) / s.cache.groups.block() }

// full and windowed are the chains of block number i.
func (s *Sequence) full(i int) int32 { return s.Table[i*s.cache.groups.block()] }

func (s *Sequence) windowed(i int) int32 {
	g := s.cache.groups
	if g.windowed == 0 {
		return none
	}
	return s.Table[i*g.block()+g.full]
}

// set enters the chains of block number i.
func (s *Sequence) set(i int, full, windowed int32) {
	g := s.cache.groups
	entries := s.Table[i*g.block():][:g.block()]
	s.cache.enter(entries[:g.full], full)
	s.cache.enter(entries[g.full:], windowed)
}

// enter writes a chain's pages, or none for each.
func (c *Cache) enter(entries tensor.PageTable, p int32) {
	for i := range entries {
		entries[i] = p
		if p != none {
			p = c.records[p].next
		}
	}
}

// giveBack lets go of the windowed pages that no token after done of them sees.
func (s *Sequence) giveBack(done int) {
	for end := s.cache.groups.first(done); s.first < end; s.first++ {
		s.cache.drop(s.windowed(s.first))
		s.set(s.first, s.full(s.first), none)
	}
}

// last is the last shared node, the parent of the next one.
func (s *Sequence) last() int32 {
	if s.shared == 0 {
		return none
	}
	return s.full(s.shared - 1)
}

// Grow takes pages until the table holds tokens. Where there are not so many it
// takes what there is for whole blocks and returns false.
func (s *Sequence) Grow(tokens int) bool {
	g := s.cache.groups
	for i := s.blocks(); i < Blocks(tokens); i++ {
		if s.cache.Available() < g.block() {
			return false
		}
		for range g.block() {
			s.Table = append(s.Table, none)
		}
		s.set(i, s.cache.take(g.full), s.cache.take(g.windowed))
	}
	return true
}

// Room is the number of tokens that the table holds.
func (s *Sequence) Room() int { return s.blocks() * PageTokens }

// Pages is the number of pages that the sequence holds.
func (s *Sequence) Pages() int { return len(s.Table) - s.first*s.cache.groups.windowed }

// Publish puts the blocks that tokens fill, from the sequence's first one to the
// last whose keys and values are stored, into the tree, and gives back the windowed
// pages that no token after them sees.
func (s *Sequence) Publish(tokens []int32) {
	c := s.cache
	for ; (s.shared+1)*PageTokens <= len(tokens); s.shared++ {
		i := s.shared
		own, windowed := s.full(i), s.windowed(i)
		k := keyOf(s.last(), s.salt, tokens[i*PageTokens:][:PageTokens])
		p := c.find(&k)
		if p == none {
			c.insert(own, &k)
			p = own
		} else {
			c.hold(p) // somebody was faster
			c.drop(own)
		}
		if w := c.records[p].windowed; w != none {
			c.hold(w)
			c.drop(windowed)
			windowed = w
		} else if windowed != none {
			c.attach(p, windowed)
		}
		s.set(i, p, windowed)
	}
	s.giveBack(len(tokens))
}

// Release gives the pages back. Those that were published stay in the tree as
// long as nobody needs their memory. It may be called more than once.
func (s *Sequence) Release() {
	for i := s.blocks() - 1; i >= 0; i-- { // children before parents, windowed pages before their nodes
		s.cache.drop(s.windowed(i))
		s.cache.drop(s.full(i))
	}
	s.Table, s.shared, s.first = nil, 0, 0
}

// Follows reports whether what s computes next is what other computes next too: the
// same block after the same tokens. Of s, all blocks must be shared; other may stand in the
// middle of that block.
func (s *Sequence) Follows(other *Sequence, tokens, others []int32) bool {
	at := s.shared * PageTokens
	if s.blocks() != s.shared || s.shared != other.shared || s.salt != other.salt ||
		s.last() != other.last() || len(tokens) < at+PageTokens || len(others) < at+PageTokens {
		return false
	}
	return [PageTokens]int32(tokens[at:]) == [PageTokens]int32(others[at:])
}

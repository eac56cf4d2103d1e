package kvcache

import "github.com/dunlin-go/dunlin/tensor"

// Sequence is one sequence's pages.
type Sequence struct {
	cache  *Cache
	salt   string
	shared int // pages from the first on that are nodes of the tree

	// Table lists the pages in the order of the sequence's tokens. It changes
	// with the methods of Sequence, never during a step.
	Table tensor.PageTable
}

// Start makes a sequence that can grow to capacity tokens. It begins with what
// the cache knows of the prefix, tokens whose logits nobody needs: whole pages,
// and a copy of the page that agrees with what is left of it the longest, where
// there is a page to copy to. It returns how many tokens that is. Sequences of
// different salts, which the caller keeps short, share nothing.
func (c *Cache) Start(salt string, prefix []int32, capacity int) (s *Sequence, cached int) {
	s = &Sequence{cache: c, salt: salt, Table: make(tensor.PageTable, 0, PagesFor(capacity))}
	cached = s.Adopt(prefix)
	src, agree := c.nearest(s.last(), salt, prefix[cached:])
	if agree == 0 {
		return s, cached
	}
	c.hold(src) // it is of use: others go before it
	if dst := c.take(); dst != none {
		copy(c.data(dst), c.data(src))
		s.Table = append(s.Table, dst)
		cached += agree
	}
	c.drop(src)
	return s, cached
}

// Adopt continues with pages that others have computed since. The prefix begins
// with the sequence's first token; it returns up to where it is covered. Only a
// sequence all of whose pages are shared can go on so.
func (s *Sequence) Adopt(prefix []int32) (cached int) {
	if len(s.Table) != s.shared {
		return 0
	}
	for (s.shared+1)*PageTokens <= len(prefix) {
		k := keyOf(s.last(), s.salt, prefix[s.shared*PageTokens:][:PageTokens])
		p := s.cache.find(&k)
		if p == none {
			break
		}
		s.cache.hold(p)
		s.Table = append(s.Table, p)
		s.shared++
	}
	return s.shared * PageTokens
}

// last is the last shared page, the parent of the next one.
func (s *Sequence) last() int32 {
	if s.shared == 0 {
		return none
	}
	return s.Table[s.shared-1]
}

// Grow takes pages until the table holds tokens. Where there are not so many it
// takes what there is and returns false.
func (s *Sequence) Grow(tokens int) bool {
	for len(s.Table) < PagesFor(tokens) {
		p := s.cache.take()
		if p == none {
			return false
		}
		s.Table = append(s.Table, p)
	}
	return true
}

// Room is the number of tokens that the table holds.
func (s *Sequence) Room() int { return len(s.Table) * PageTokens }

// Publish puts the pages that tokens fill, from the sequence's first one to the
// last whose keys and values are stored, into the tree.
func (s *Sequence) Publish(tokens []int32) {
	c := s.cache
	for (s.shared+1)*PageTokens <= len(tokens) {
		own := s.Table[s.shared]
		k := keyOf(s.last(), s.salt, tokens[s.shared*PageTokens:][:PageTokens])
		if p := c.find(&k); p != none {
			c.hold(p) // somebody was faster
			s.Table[s.shared] = p
			c.drop(own)
		} else {
			c.insert(own, &k)
		}
		s.shared++
	}
}

// Release gives the pages back. Those that were published stay in the tree as
// long as nobody needs their memory. It may be called more than once.
func (s *Sequence) Release() {
	for i := len(s.Table) - 1; i >= 0; i-- { // children before parents
		s.cache.drop(s.Table[i])
	}
	s.Table, s.shared = nil, 0
}

// Follows reports whether what s computes next is what other computes next too: the
// same page after the same tokens. Of s, all pages must be shared; other may stand in the
// middle of that page.
func (s *Sequence) Follows(other *Sequence, tokens, others []int32) bool {
	at := s.shared * PageTokens
	if len(s.Table) != s.shared || s.shared != other.shared || s.salt != other.salt ||
		s.last() != other.last() || len(tokens) < at+PageTokens || len(others) < at+PageTokens {
		return false
	}
	return [PageTokens]int32(tokens[at:]) == [PageTokens]int32(others[at:])
}

package kvcache

import (
	"fmt"

	"github.com/dunlin-go/dunlin/tensor"
)

// Check reports the first thing that is wrong with the cache, for tests: every
// page is free or part of one chain, and a chain is held by exactly as many of the
// sequences, which must be all there are, as its count of references says; the
// tree, its index and the list of evictable chains agree.
func (c *Cache) Check(sequences []*Sequence) error {
	refs := make([]int32, len(c.records))
	chains := map[int32]int{} // pages by the first one
	for i, s := range sequences {
		if s.first > s.shared || s.shared > s.blocks() {
			return fmt.Errorf("sequence %d has %d blocks, %d are shared, of %d windowed pages were given back", i, s.blocks(), s.shared, s.first)
		}
		for j := range s.blocks() {
			if err := c.checkBlock(s, j, chains, refs); err != nil {
				return fmt.Errorf("sequence %d, block %d: %w", i, j, err)
			}
		}
	}
	free := make([]bool, len(c.records))
	for _, p := range c.free {
		if free[p] {
			return fmt.Errorf("page %d is free twice", p)
		}
		free[p] = true
	}
	nodes, touched := 0, 0
	for p := range c.records {
		r := &c.records[p]
		if r.touched {
			touched++
		}
		if r.inTree {
			refs[p]++
			chains[int32(p)] = c.pages(int32(p))
		}
		if r.inTree && r.node != none {
			if n := &c.records[r.node]; !n.inTree || n.node != none || n.windowed != int32(p) {
				return fmt.Errorf("page %d has the node %d, which is not its node", p, r.node)
			}
		} else if r.inTree {
			nodes++
			if w := r.windowed; w != none && (!c.records[w].inTree || c.records[w].node != int32(p)) {
				return fmt.Errorf("page %d has the windowed page %d, which is not its own", p, w)
			}
			k := key{r.parent, r.salt, r.tokens}
			if c.find(&k) != int32(p) {
				return fmt.Errorf("page %d is not found by its key", p)
			}
			if r.parent != none && !c.records[r.parent].inTree {
				return fmt.Errorf("page %d has the parent %d, which is not in the tree", p, r.parent)
			}
		}
	}
	if err := c.checkChains(chains, refs); err != nil {
		return err
	}
	for p := range c.records {
		r := &c.records[p]
		if r.refs != refs[p] || free[p] != (refs[p] == 0) || refs[p] > 0 && !r.touched {
			return fmt.Errorf("page %d has %d references, %d holders, free: %v, touched: %v", p, r.refs, refs[p], free[p], r.touched)
		}
	}
	if touched != c.touched {
		return fmt.Errorf("%d pages are touched, the count is %d", touched, c.touched)
	}
	return c.checkTree(nodes)
}

// checkBlock looks at block number j of a sequence, and counts its chains.
func (c *Cache) checkBlock(s *Sequence, j int, chains map[int32]int, refs []int32) error {
	g := c.groups
	full, windowed := s.full(j), s.windowed(j)
	if j < s.first != (windowed == none) && g.windowed > 0 {
		return fmt.Errorf("the windowed page is %d, %d were given back", windowed, s.first)
	}
	entries := s.Table[j*g.block():][:g.block()]
	for _, chain := range []struct {
		first int32
		pages tensor.PageTable
	}{{full, entries[:g.full]}, {windowed, entries[g.full:]}} {
		at := chain.first
		for _, p := range chain.pages {
			if p != at {
				return fmt.Errorf("page %d stands where %d should", p, at)
			}
			if p != none {
				at = c.records[p].next
			}
		}
		if chain.first != none {
			chains[chain.first] = len(chain.pages)
			refs[chain.first]++
		}
	}
	r := &c.records[full]
	if r.inTree != (j < s.shared) {
		return fmt.Errorf("page %d is in the tree: %v, but %d are shared", full, r.inTree, s.shared)
	}
	if j < s.shared && (j == 0 && r.parent != none || j > 0 && r.parent != s.full(j-1)) {
		return fmt.Errorf("page %d has the parent %d", full, r.parent)
	}
	if r.inTree && windowed != none && r.windowed != windowed {
		return fmt.Errorf("page %d is not the windowed one of %d, which has %d", windowed, full, r.windowed)
	}
	return nil
}

// checkChains counts a reference for each page of a chain but the first, which
// stand for themselves.
func (c *Cache) checkChains(chains map[int32]int, refs []int32) error {
	for first, n := range chains {
		for p := c.records[first].next; p != none; p = c.records[p].next {
			if n--; n <= 0 || refs[p] != 0 {
				return fmt.Errorf("page %d of the chain of %d is one too many, or another's too", p, first)
			}
			refs[p] = 1
		}
		if n != 1 {
			return fmt.Errorf("%d pages of the chain of %d are missing", n-1, first)
		}
	}
	return nil
}

// checkTree walks the lists that the records form.
func (c *Cache) checkTree(nodes int) error {
	position := make(map[int32]int, c.kept)
	kept := 0
	for p := c.oldest; p != none; p = c.records[p].younger {
		if r := &c.records[p]; r.refs != 1 || !r.inTree || len(position) > c.kept {
			return fmt.Errorf("page %d in the list has %d references", p, r.refs)
		}
		position[p] = len(position)
		kept += c.pages(p)
	}
	if kept != c.kept {
		return fmt.Errorf("%d pages are in the list, the count is %d", kept, c.kept)
	}
	seen, only := 0, 0
	for p := none; int(p) < len(c.records); p++ {
		if p != none && !c.records[p].inTree {
			continue
		}
		if p != none && c.records[p].refs == 1 {
			only += c.pages(p)
		}
		if p != none && c.records[p].node != none {
			continue // no node
		}
		if at, listed := position[p]; listed && c.records[p].windowed != none {
			if before, listed := position[c.records[p].windowed]; !listed || before > at {
				return fmt.Errorf("page %d would be evicted before its windowed ones", p)
			}
		}
		for q := c.children(p); q != none && seen <= nodes; q = c.records[q].after {
			seen++
			if c.records[q].parent != p {
				return fmt.Errorf("page %d is a child of %d, not of %d", q, c.records[q].parent, p)
			}
			if p == none {
				continue
			}
			if parent, listed := position[p]; listed {
				if child, listed := position[q]; !listed || child > parent {
					return fmt.Errorf("page %d would be evicted before its child %d", p, q)
				}
			}
		}
	}
	if seen != nodes || only != c.kept {
		return fmt.Errorf("%d of %d nodes hang in the tree, %d of %d evictable pages are listed", seen, nodes, c.kept, only)
	}
	return nil
}

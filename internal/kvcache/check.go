package kvcache

import "fmt"

// Check reports the first thing that is wrong with the cache, for tests: every
// page is free, or held by exactly as many of the sequences, which must be all
// there are, as its count of references says; the tree, its index and the list
// of evictable pages agree.
func (c *Cache) Check(sequences []*Sequence) error {
	refs := make([]int32, len(c.records))
	for i, s := range sequences {
		for j, p := range s.Table {
			refs[p]++
			if r := &c.records[p]; r.inTree != (j < s.shared) {
				return fmt.Errorf("page %d, number %d of sequence %d, is in the tree: %v, but %d are shared", p, j, i, r.inTree, s.shared)
			} else if j < s.shared && (j == 0 && r.parent != none || j > 0 && r.parent != s.Table[j-1]) {
				return fmt.Errorf("page %d, number %d of sequence %d, has the parent %d", p, j, i, r.parent)
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
			nodes++
			refs[p]++
			k := key{r.parent, r.salt, r.tokens}
			if c.find(&k) != int32(p) {
				return fmt.Errorf("page %d is not found by its key", p)
			}
			if r.parent != none && !c.records[r.parent].inTree {
				return fmt.Errorf("page %d has the parent %d, which is not in the tree", p, r.parent)
			}
		}
		if r.refs != refs[p] || free[p] != (refs[p] == 0) || refs[p] > 0 && !r.touched {
			return fmt.Errorf("page %d has %d references, %d holders, free: %v, touched: %v", p, r.refs, refs[p], free[p], r.touched)
		}
	}
	if touched != c.touched {
		return fmt.Errorf("%d pages are touched, the count is %d", touched, c.touched)
	}
	return c.checkTree(nodes)
}

// checkTree walks the lists that the records form.
func (c *Cache) checkTree(nodes int) error {
	position := make(map[int32]int, c.kept)
	for p := c.oldest; p != none; p = c.records[p].younger {
		if r := &c.records[p]; r.refs != 1 || !r.inTree || len(position) > c.kept {
			return fmt.Errorf("page %d in the list has %d references", p, r.refs)
		}
		position[p] = len(position)
	}
	if len(position) != c.kept {
		return fmt.Errorf("%d pages are in the list, the count is %d", len(position), c.kept)
	}
	seen, only := 0, 0
	for p := none; int(p) < len(c.records); p++ {
		if p != none && !c.records[p].inTree {
			continue
		}
		if p != none && c.records[p].refs == 1 {
			only++
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
		return fmt.Errorf("%d of %d nodes hang in the tree, %d of %d evictable ones are listed", seen, nodes, c.kept, only)
	}
	return nil
}

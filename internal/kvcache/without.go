package kvcache

// Without is what [Cache.Available] and [Cache.Lookup] would say if all of the
// sequences, each listed once, had given their pages back.
func (c *Cache) Without(seqs []*Sequence, salt string, tokens []int32) (available, held int) {
	available = c.Available()
	drop := func(p int32, pages int) {
		if p == none {
			return
		}
		r := &c.records[p]
		r.refs--
		if r.refs == 0 || r.refs == 1 && r.inTree {
			available += pages
		}
	}
	for _, s := range seqs {
		for i := range s.blocks() {
			drop(s.full(i), c.groups.full)
			drop(s.windowed(i), c.groups.windowed)
		}
	}
	_, held = c.Lookup(salt, tokens)
	hold := func(p int32) {
		if p != none {
			c.records[p].refs++
		}
	}
	for _, s := range seqs {
		for i := range s.blocks() {
			hold(s.full(i))
			hold(s.windowed(i))
		}
	}
	return available, held
}

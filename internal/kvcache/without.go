package kvcache

// Without is what [Cache.Available] and [Cache.Lookup] would say if all of the
// sequences, each listed once, had given their pages back.
func (c *Cache) Without(seqs []*Sequence, salt string, tokens []int32) (available, pages, idle int) {
	available = c.Available()
	for _, s := range seqs {
		for _, p := range s.Table {
			r := &c.records[p]
			r.refs--
			if r.refs == 0 || r.refs == 1 && r.inTree {
				available++
			}
		}
	}
	pages, idle = c.Lookup(salt, tokens)
	for _, s := range seqs {
		for _, p := range s.Table {
			c.records[p].refs++
		}
	}
	return available, pages, idle
}

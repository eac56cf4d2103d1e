package kvcache

import "math/bits"

// key finds a node among all.
type key struct {
	parent int32
	salt   string // of nodes without a parent, "" for others
	tokens [PageTokens]int32
}

// bucket is where a key's chain begins. Callers choose the tokens, so the hash
// has a secret seed, and folds products as wyhash does.
func (c *Cache) bucket(k *key) *int32 {
	h := fold(c.seed ^ uint64(uint32(k.parent)))
	for i := 0; i < PageTokens; i += 2 {
		h = fold(h ^ uint64(uint32(k.tokens[i])) ^ uint64(uint32(k.tokens[i+1]))<<32)
	}
	for i := range len(k.salt) {
		h = fold(h ^ uint64(k.salt[i]))
	}
	return &c.buckets[h&uint64(len(c.buckets)-1)]
}

func fold(x uint64) uint64 {
	hi, lo := bits.Mul64(x, 0x9e3779b97f4a7c15)
	return hi ^ lo
}

func keyOf(parent int32, salt string, tokens []int32) key {
	k := key{parent: parent, tokens: [PageTokens]int32(tokens)}
	if parent == none {
		k.salt = salt
	}
	return k
}

func (r *record) has(k *key) bool {
	return r.parent == k.parent && r.salt == k.salt && r.tokens == k.tokens
}

// find is the node of a key, or none.
func (c *Cache) find(k *key) int32 {
	p := *c.bucket(k)
	for p != none && !c.records[p].has(k) {
		p = c.records[p].chain
	}
	return p
}

// reach follows the tokens from a node on that ends a path of so many blocks, of
// which the last ones are whole: they have their windowed pages. It returns the last
// node that a sequence can begin behind, and the blocks up to there.
func (c *Cache) reach(from int32, blocks, whole int, salt string, tokens []int32) (last int32, n int) {
	last, n = from, blocks
	for at := from; len(tokens) >= PageTokens; tokens = tokens[PageTokens:] {
		k := keyOf(at, salt, tokens[:PageTokens])
		if at = c.find(&k); at == none {
			break
		}
		blocks++
		whole++
		if c.groups.windowed > 0 && c.records[at].windowed == none {
			whole = 0
		}
		if blocks-c.groups.first(blocks*PageTokens) <= whole {
			last, n = at, blocks
		}
	}
	return last, n
}

// Lookup is how many blocks of the tokens a sequence of the salt would begin with,
// and how many of their pages are held by sequences already.
func (c *Cache) Lookup(salt string, tokens []int32) (blocks, held int) {
	p, blocks := c.reach(none, 0, 0, salt, tokens)
	first := c.groups.first(blocks * PageTokens)
	for i := blocks - 1; i >= 0; i-- {
		r := &c.records[p]
		if r.refs > 1 {
			held += c.groups.full
		}
		if w := r.windowed; i >= first && w != none && c.records[w].refs > 1 {
			held += c.groups.windowed
		}
		p = r.parent
	}
	return blocks, held
}

// maxSiblings is how many of a node's children are looked at, the newest first,
// for one that begins like the tokens: there can be as many as pages.
const maxSiblings = 64

// nearest is the child of a node that agrees with the most of the tokens, and
// with how many. It has all of its pages.
func (c *Cache) nearest(parent int32, salt string, tokens []int32) (best int32, agree int) {
	best = none
	p := c.children(parent)
	for range maxSiblings {
		if p == none {
			break
		}
		r := &c.records[p]
		if whole := c.groups.windowed == 0 || r.windowed != none; whole && (parent != none || r.salt == salt) {
			n := 0
			for n < min(len(tokens), PageTokens) && r.tokens[n] == tokens[n] {
				n++
			}
			if n > agree {
				best, agree = p, n
			}
		}
		p = r.after
	}
	return best, agree
}

func (c *Cache) children(parent int32) int32 {
	if parent == none {
		return c.roots
	}
	return c.records[parent].child
}

func (c *Cache) setChildren(parent, first int32) {
	if parent == none {
		c.roots = first
	} else {
		c.records[parent].child = first
	}
}

// insert makes a block's first page a node. A sequence holds it and its parent.
func (c *Cache) insert(p int32, k *key) {
	r := &c.records[p]
	r.refs++
	r.inTree = true
	r.parent, r.salt, r.tokens = k.parent, k.salt, k.tokens
	b := c.bucket(k)
	r.chain, *b = *b, p
	first := c.children(k.parent)
	r.child, r.before, r.after = none, none, first
	if first != none {
		c.records[first].before = p
	}
	c.setChildren(k.parent, p)
}

// attach gives a node the windowed pages of its block.
func (c *Cache) attach(p, windowed int32) {
	r := &c.records[windowed]
	r.refs++
	r.inTree, r.node = true, p
	c.records[p].windowed = windowed
}

// evict frees what the tree has used least recently: a node's windowed pages, or
// a leaf that has none.
func (c *Cache) evict() bool {
	p := c.oldest
	if p == none {
		return false
	}
	c.unlist(p)
	r := &c.records[p]
	if r.node != none {
		c.records[r.node].windowed = none
	} else {
		c.remove(p)
	}
	r.inTree = false
	c.giveUp(p)
	return true
}

// remove takes a leaf out of the tree.
func (c *Cache) remove(p int32) {
	r := &c.records[p]
	k := key{r.parent, r.salt, r.tokens}
	b := c.bucket(&k)
	for *b != p {
		b = &c.records[*b].chain
	}
	*b = r.chain
	if r.before == none {
		c.setChildren(r.parent, r.after)
	} else {
		c.records[r.before].after = r.after
	}
	if r.after != none {
		c.records[r.after].before = r.before
	}
	r.salt = ""
}

// pages is how many pages a chain of the tree has.
func (c *Cache) pages(p int32) int {
	if c.records[p].node != none {
		return c.groups.windowed
	}
	return c.groups.full
}

// list puts a chain that only the tree holds at the end of the list.
func (c *Cache) list(p int32) {
	r := &c.records[p]
	r.older, r.younger = c.newest, none
	if c.newest == none {
		c.oldest = p
	} else {
		c.records[c.newest].younger = p
	}
	c.newest = p
	c.kept += c.pages(p)
}

func (c *Cache) unlist(p int32) {
	r := &c.records[p]
	if r.older == none {
		c.oldest = r.younger
	} else {
		c.records[r.older].younger = r.younger
	}
	if r.younger == none {
		c.newest = r.older
	} else {
		c.records[r.younger].older = r.older
	}
	c.kept -= c.pages(p)
}

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

// Lookup follows the tokens from the root of a salt: pages is how many in a row
// the tree has, idle how many of them no sequence holds.
func (c *Cache) Lookup(salt string, tokens []int32) (pages, idle int) {
	for at := none; len(tokens) >= PageTokens; tokens = tokens[PageTokens:] {
		k := keyOf(at, salt, tokens)
		if at = c.find(&k); at == none {
			break
		}
		pages++
		if c.records[at].refs == 1 {
			idle++
		}
	}
	return pages, idle
}

// maxSiblings is how many of a node's children are looked at, the newest first,
// for one that begins like the tokens: there can be as many as pages.
const maxSiblings = 64

// nearest is the child of a node that agrees with the most of the tokens, and
// with how many.
func (c *Cache) nearest(parent int32, salt string, tokens []int32) (best int32, agree int) {
	best = none
	p := c.children(parent)
	for range maxSiblings {
		if p == none {
			break
		}
		r := &c.records[p]
		if parent != none || r.salt == salt {
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

// insert makes a page a node. A sequence holds it and its parent.
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

// evict frees the page that the tree has used least recently, a leaf.
func (c *Cache) evict() bool {
	p := c.oldest
	if p == none {
		return false
	}
	c.unlist(p)
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
	r.inTree, r.salt, r.refs = false, "", 0
	c.free = append(c.free, p)
	return true
}

// list puts a page that only the tree holds at the end of the list.
func (c *Cache) list(p int32) {
	r := &c.records[p]
	r.older, r.younger = c.newest, none
	if c.newest == none {
		c.oldest = p
	} else {
		c.records[c.newest].younger = p
	}
	c.newest = p
	c.kept++
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
	c.kept--
}

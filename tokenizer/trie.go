package tokenizer

import (
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// trie finds the tokens that a text begins with, character by character: an open
// addressing table from a node and a character to the next node.
type trie struct {
	edges []edge
	ends  []ID // by node: the token that ends there, or None
	seed  uint64
}

type edge struct {
	from uint32
	char rune
	to   uint32 // 0, which is the root, in a free slot
}

// newTrie holds the tokens that text may become. A token that isn't UTF-8 isn't
// found.
func newTrie(x *texts, kinds []TokenType, lease *budget.Lease) (*trie, error) {
	if err := lease.ReserveItems(budget.Vocabulary, uint64(x.len()), 4); err != nil {
		return nil, err
	}
	ids := make([]ID, 0, x.len())
	for i, k := range kinds {
		if text := x.at(ID(i)); k.isText() && text != "" && utf8.ValidString(text) {
			ids = append(ids, ID(i))
		}
	}
	// In the order of the texts, each adds the nodes that the last doesn't share.
	slices.SortFunc(ids, func(a, b ID) int { return strings.Compare(x.at(a), x.at(b)) })
	nodes, last := 1, ""
	for _, id := range ids {
		text := x.at(id)
		nodes += utf8.RuneCountInString(text[shared(last, text):])
		last = text
	}
	if err := lease.Reserve(budget.Vocabulary, 12*int64(slotCount(nodes))+4*int64(nodes)); err != nil {
		return nil, err
	}
	t := &trie{edges: make([]edge, slotCount(nodes)), ends: make([]ID, 1, nodes), seed: rand.Uint64()}
	t.ends[0] = None
	for _, id := range ids {
		node := uint32(0)
		for _, r := range x.at(id) {
			e := t.slot(node, r)
			if e.to == 0 {
				*e = edge{node, r, uint32(len(t.ends))}
				t.ends = append(t.ends, None)
			}
			node = e.to
		}
		t.ends[node] = id
	}
	return t, nil
}

// shared is the length of the characters that a and b, both UTF-8, begin with.
func shared(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	for n < len(b) && n > 0 && !utf8.RuneStart(b[n]) {
		n--
	}
	return n
}

// slot is where the edge is, or would be.
func (t *trie) slot(from uint32, char rune) *edge {
	hi, lo := bits.Mul64(uint64(from)<<32^uint64(uint32(char))^t.seed, 0x9e3779b97f4a7c15)
	mask := len(t.edges) - 1
	for i := int(hi^lo) & mask; ; i = (i + 1) & mask {
		if e := &t.edges[i]; e.to == 0 || e.from == from && e.char == char {
			return e
		}
	}
}

// next is the node that char leads to; 0 if it leads nowhere.
func (t *trie) next(from uint32, char rune) uint32 { return t.slot(from, char).to }

package tokenizer

import (
	"fmt"
	"hash/maphash"
	"math"
	"math/bits"
	"strings"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// texts holds the texts of all tokens end to end in one string, and an open
// addressing table from text to id: about 13 bytes a token besides its text.
// The hash is seeded, so that a file can't choose texts that collide.
type texts struct {
	arena string
	ends  []uint32 // ends[i] is where token i ends in arena
	slots []uint32 // id+1 and a tag of the hash above it, or 0; a power of two of them
	seed  maphash.Seed

	longest int // bytes of the longest text
}

// idBits are the low bits of a slot, for maxTokens and 1; the tag above them keeps
// most searches from looking at other texts, which lie anywhere.
const idBits = 25

// tag is the upper bits of a slot whose text has the hash.
func tag(hash uint64) uint32 { return uint32(hash>>(32+idBits)) << idBits }

// slotCount is the size of an open addressing table for n entries: a power of
// two that is at most two thirds full.
func slotCount(n int) int {
	return 1 << bits.Len(uint(n+n/2))
}

func newTexts(list List[string], lease *budget.Lease) (*texts, error) {
	n := list.Len()
	if n == 0 || n > maxTokens {
		return nil, fmt.Errorf("%w: %d tokens, must be 1 to %d", ErrVocabulary, n, maxTokens)
	}
	var size uint64
	for i := range n {
		text := list.At(i)
		if len(text) > maxTokenText {
			return nil, fmt.Errorf("%w: token %d has %d bytes, it may have %d", ErrVocabulary, i, len(text), maxTokenText)
		}
		size += uint64(len(text))
	}
	if size > math.MaxUint32 {
		return nil, fmt.Errorf("%w: the tokens have %d bytes", ErrVocabulary, size)
	}
	slots := slotCount(n)
	if err := lease.Reserve(budget.Vocabulary, int64(size)+4*int64(n)+4*int64(slots)); err != nil {
		return nil, err
	}
	x := &texts{ends: make([]uint32, n), slots: make([]uint32, slots), seed: maphash.MakeSeed()}
	var b strings.Builder
	b.Grow(int(size))
	for i := range n {
		b.WriteString(list.At(i))
		x.ends[i] = uint32(b.Len())
		x.longest = max(x.longest, len(list.At(i)))
	}
	x.arena = b.String()
	for i := range n {
		if err := x.insert(ID(i)); err != nil {
			return nil, err
		}
	}
	return x, nil
}

func (x *texts) insert(id ID) error {
	text := x.at(id)
	hash := maphash.String(x.seed, text)
	slot, other := x.find(hash, text, "")
	if other != None {
		return fmt.Errorf("%w: tokens %d and %d are both %s", ErrVocabulary, other, id, quote(text))
	}
	x.slots[slot] = tag(hash) | (uint32(id) + 1)
	return nil
}

func (x *texts) len() int { return len(x.ends) }

func (x *texts) has(id ID) bool { return id >= 0 && int(id) < len(x.ends) }

// at is the text of a token of the vocabulary, as the file spells it.
func (x *texts) at(id ID) string {
	var start uint32
	if id > 0 {
		start = x.ends[id-1]
	}
	return x.arena[start:x.ends[id]]
}

func (x *texts) lookup(text string) ID {
	_, id := x.find(maphash.String(x.seed, text), text, "")
	return id
}

// lookupBytes is lookup for bytes that become no string.
func (x *texts) lookupBytes(text []byte) ID {
	hash := maphash.Bytes(x.seed, text)
	mask, want := len(x.slots)-1, tag(hash)
	for slot := int(hash) & mask; ; slot = (slot + 1) & mask {
		id := x.tagged(slot, want)
		if id == None || id != otherTag && x.at(id) == string(text) {
			return id
		}
	}
}

// lookupPair is the token whose text is a followed by b.
func (x *texts) lookupPair(a, b string) ID {
	var h maphash.Hash
	h.SetSeed(x.seed)
	h.WriteString(a)
	h.WriteString(b)
	_, id := x.find(h.Sum64(), a, b)
	return id
}

// find is the slot of the text a+b with its token, or the free slot it would
// take and None.
func (x *texts) find(hash uint64, a, b string) (slot int, id ID) {
	mask, want := len(x.slots)-1, tag(hash)
	for slot = int(hash) & mask; ; slot = (slot + 1) & mask {
		id := x.tagged(slot, want)
		switch id {
		case None:
			return slot, None
		case otherTag:
			continue
		}
		t := x.at(id)
		if len(t) == len(a)+len(b) && t[:len(a)] == a && t[len(a):] == b {
			return slot, id
		}
	}
}

// otherTag is what tagged returns for a text that is certainly another.
const otherTag ID = -2

// tagged is the token in a slot if it has the tag, None for a free slot.
func (x *texts) tagged(slot int, tag uint32) ID {
	switch s := x.slots[slot]; {
	case s == 0:
		return None
	case s>>idBits<<idBits != tag:
		return otherTag
	default:
		return ID(s&(1<<idBits-1)) - 1
	}
}

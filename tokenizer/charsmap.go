package tokenizer

import (
	"fmt"
	"strings"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// maxReplacement bounds what a charsmap puts in the place of some characters;
// the longest of Unicode's NFKC has 33 bytes.
const maxReplacement = 256

// charsmap is SentencePiece's table of characters to replace before anything
// else: a double-array trie of the texts to find, and the texts for them, each
// ended by a zero byte.
//
// As bytes: the size of the trie, its units, the texts; numbers have 32 bits,
// the lowest first. A unit is the label of the way to it in bits 0 to 7 (and 31,
// never set), whether a text ends there in bit 8, and the distance to its
// children in bits 10 to 30, times 256 with bit 9. The child for byte c of the
// unit at i is at i ^ distance ^ c. The one for 0 is a value instead: bits 0 to
// 30 are a place in the texts.
//
// Source: https://github.com/s-yata/darts-clone, as SentencePiece's
// normalizer.cc uses it.
type charsmap struct {
	units []uint32
	texts string
}

func newCharsmap(raw List[int64], lease *budget.Lease) (*charsmap, error) {
	n := raw.Len()
	if n < 4 {
		return nil, fmt.Errorf("%w: a charsmap of %d bytes", ErrVocabulary, n)
	}
	number := func(i int) uint32 {
		v := uint32(0)
		for k := range 4 {
			v |= uint32(byte(raw.At(i+k))) << (8 * k)
		}
		return v
	}
	size := int64(number(0))
	if size < 4 || size%4 != 0 || size+4 >= int64(n) {
		return nil, fmt.Errorf("%w: a charsmap of %d bytes has a trie of %d", ErrVocabulary, n, size)
	}
	if err := lease.Reserve(budget.Vocabulary, int64(n)); err != nil {
		return nil, err
	}
	c := &charsmap{units: make([]uint32, size/4)}
	for i := range c.units {
		c.units[i] = number(4 + 4*i)
	}
	var b strings.Builder
	b.Grow(n - 4 - int(size))
	length := 0
	for i := 4 + int(size); i < n; i++ {
		t := byte(raw.At(i))
		if length++; t == 0 {
			length = 0
		}
		if length > maxReplacement {
			return nil, fmt.Errorf("%w: the charsmap has a text of more than %d bytes", ErrVocabulary, maxReplacement)
		}
		b.WriteByte(t)
	}
	if length > 0 {
		return nil, fmt.Errorf("%w: the charsmap's last text has no end", ErrVocabulary)
	}
	c.texts = b.String()
	return c, nil
}

// replace is the text for the longest entry that text begins with, and the
// entry's length; 0 if there is none. A unit or a text outside of the table
// counts as none.
func (c *charsmap) replace(text string) (to string, n int) {
	const label = 1<<31 | 0xff
	at := distance(c.units[0])
	value := -1
	for i := 0; i < len(text) && i < maxPieceBytes; i++ {
		at ^= uint32(text[i])
		if int64(at) >= int64(len(c.units)) || c.units[at]&label != uint32(text[i]) {
			break
		}
		unit := c.units[at]
		at ^= distance(unit)
		if unit>>8&1 != 0 && int64(at) < int64(len(c.units)) {
			value, n = int(c.units[at]&(1<<31-1)), i+1
		}
	}
	if n == 0 || value >= len(c.texts) {
		return "", 0
	}
	to = c.texts[value:]
	return to[:strings.IndexByte(to, 0)], n
}

// distance is how far the children of a unit are.
func distance(unit uint32) uint32 { return unit >> 10 << (unit >> 6 & 8) }

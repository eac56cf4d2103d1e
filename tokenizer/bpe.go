package tokenizer

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// bytePairs is byte-level BPE: text is cut into pieces, the bytes of a piece
// become the first tokens, and the neighbours that make the earliest merge of
// the list are joined, leftmost first, until none are left to join.
//
// Source: Sennrich et al., "Neural Machine Translation of Rare Words with
// Subword Units"; the order of merges is that of Hugging Face's tokenizers.
type bytePairs struct {
	texts *texts
	kinds []TokenType
	bytes [256]ID // the token of each byte, or None
	pairs pairs
	pre   preTokenizer
}

func newBytePairs(v *Vocab, x *texts, kinds []TokenType, lease *budget.Lease) (model, error) {
	if v.AddSpacePrefix != nil && *v.AddSpacePrefix {
		return nil, fmt.Errorf("%w: add_space_prefix with byte-level BPE", ErrUnsupported)
	}
	pre, err := v.preTokenizer()
	if err != nil {
		return nil, err
	}
	b := &bytePairs{texts: x, kinds: kinds, pre: pre}
	var spelling []byte
	for c := range b.bytes {
		spelling = appendSpelling(spelling[:0], string([]byte{byte(c)}))
		b.bytes[c] = x.lookup(string(spelling))
		if !b.spelled(b.bytes[c]) {
			b.bytes[c] = None
		}
	}
	return b, b.pairs.read(v.Merges, x, b.spelled, lease)
}

// spelled reports whether the token's text is a byte-level spelling, or the
// same read as one. Tokens that are matched as they stand, like <|im_end|>,
// mostly aren't, so no bytes may become them.
func (b *bytePairs) spelled(id ID) bool {
	if id == None {
		return false
	}
	switch b.kinds[id] {
	case Unknown, Control, UserDefined:
		return spelledPlain(b.texts.at(id))
	}
	return true
}

func (b *bytePairs) encode(w *work, text string, _ bool) (err error) {
	if b.pre.nfc {
		if text, err = composed(w, text); err != nil {
			return err
		}
	}
	if all := parts(text); all != nil {
		return b.encodeParts(w, text, all)
	}
	return cut(w, text, b.pre.stages, b)
}

func (b *bytePairs) piece(w *work, piece string) error {
	if b.pre.whole && len(piece) <= b.texts.longest {
		w.spelling = appendSpelling(w.spelling[:0], piece)
		if id := b.texts.lookup(string(w.spelling)); b.spelled(id) {
			return w.add(id)
		}
	}
	if err := w.price(len(piece)); err != nil {
		return err
	}
	w.ids = slices.Grow(w.ids[:0], len(piece))
	for i := range len(piece) {
		if id := b.bytes[piece[i]]; id != None {
			w.ids = append(w.ids, id)
		}
		if i%pollSteps == pollSteps-1 {
			if err := w.poll(); err != nil {
				return err
			}
		}
	}
	if len(w.ids) > shortPiece {
		return b.pairs.mergeLong(w)
	}
	return w.add(b.pairs.mergeShort(w)...)
}

func (b *bytePairs) appendBytes(dst []byte, id ID) []byte {
	return appendBytes(dst, b.texts.at(id))
}

func (b *bytePairs) takes(c byte) bool { return b.bytes[c] != None }

func (b *bytePairs) traits() traits {
	return traits{addBOS: b.pre.addBOS, exact: !b.pre.nfc, bounded: !b.pre.nfc}
}

// pairs is the list of merges as an open addressing table from two tokens to
// the merge's rank, about 40 bytes a merge.
type pairs struct {
	slots  []pair
	merged []ID // by rank
	seed   uint64
}

type pair struct {
	left, right ID
	rank        uint32 // rank+1, or 0 in a free slot
}

// noRank is the rank of two tokens that aren't merged, after all others.
const noRank = ^uint32(0)

// read takes the merges of a vocabulary; usable says which tokens text may become.
func (p *pairs) read(merges List[string], x *texts, usable func(ID) bool, lease *budget.Lease) error {
	if merges == nil {
		return fmt.Errorf("%w: tokenizer.ggml.merges is missing or not a list of strings", ErrVocabulary)
	}
	n := merges.Len()
	if n > maxTokens {
		return fmt.Errorf("%w: %d merges, at most %d are allowed", ErrVocabulary, n, maxTokens)
	}
	if err := p.reserve(n, lease); err != nil {
		return err
	}
	for i := range n {
		if err := p.addMerge(merges.At(i), x, usable); err != nil {
			return fmt.Errorf("merge %d: %w", i, err)
		}
	}
	return nil
}

func (p *pairs) addMerge(merge string, x *texts, usable func(ID) bool) error {
	l, r, ok := strings.Cut(merge, " ")
	if !ok || l == "" || r == "" || strings.Contains(r, " ") {
		return fmt.Errorf("%w: %s isn't two tokens with a space between them", ErrVocabulary, quote(merge))
	}
	left, right, merged := x.lookup(l), x.lookup(r), x.lookupPair(l, r)
	switch {
	case !usable(left) || !usable(right):
		return fmt.Errorf("%w: %s names a token that the vocabulary doesn't have", ErrVocabulary, quote(merge))
	case !usable(merged):
		return fmt.Errorf("%w: %s makes a token that the vocabulary doesn't have", ErrVocabulary, quote(merge))
	case !p.add(left, right, merged):
		return fmt.Errorf("%w: %s comes twice", ErrVocabulary, quote(merge))
	}
	return nil
}

func (p *pairs) reserve(n int, lease *budget.Lease) error {
	slots := slotCount(n)
	if err := lease.Reserve(budget.Vocabulary, 12*int64(slots)+4*int64(n)); err != nil {
		return err
	}
	p.slots, p.merged, p.seed = make([]pair, slots), make([]ID, 0, n), rand.Uint64()
	return nil
}

// slot is where the pair is, or the free slot where it would be. The product's
// high and low half are mixed with a seed, so that a file can't choose pairs
// that collide.
func (p *pairs) slot(left, right ID) *pair {
	hi, lo := bits.Mul64(uint64(uint32(left))<<32^uint64(uint32(right))^p.seed, 0x9e3779b97f4a7c15)
	mask := len(p.slots) - 1
	for i := int(hi^lo) & mask; ; i = (i + 1) & mask {
		if s := &p.slots[i]; s.rank == 0 || s.left == left && s.right == right {
			return s
		}
	}
}

// add appends a merge to the list; ok is false where the pair is in it.
func (p *pairs) add(left, right, merged ID) (ok bool) {
	s := p.slot(left, right)
	if s.rank != 0 {
		return false
	}
	p.merged = append(p.merged, merged)
	*s = pair{left, right, uint32(len(p.merged))}
	return true
}

func (p *pairs) rank(left, right ID) uint32 {
	return p.slot(left, right).rank - 1 // a free slot's 0 wraps to noRank
}

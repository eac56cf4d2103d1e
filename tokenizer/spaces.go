package tokenizer

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// The mark that SentencePiece spells a space as.
const (
	spaceMark = '▁'
	markText  = "▁"
)

// maxPieceBytes bounds the text of a token whose algorithm looks at each token
// that could begin at a place of the text, and with it the work at that place.
const maxPieceBytes = 1024

// sentence normalises text as SentencePiece does and cuts the result: spaces
// become marks, one may be put before the text, and superfluous ones taken out.
// It works on one character after the other and keeps only the piece that isn't
// complete yet.
//
// Source: normalizer.cc of https://github.com/google/sentencepiece. A special
// token begins a new text there only for control tokens, here for all.
type sentence struct {
	prefix   bool      // a mark goes before the text
	once     bool      // but not before another
	collapse bool      // of spaces side by side one stays, at the ends none
	replace  bool      // a byte that isn't UTF-8 becomes U+FFFD
	charsmap *charsmap // or nil
	borders  borders
}

func newSentence(v *Vocab, x *texts, kinds []TokenType, lease *budget.Lease) (s sentence, err error) {
	s.prefix = v.AddSpacePrefix == nil || *v.AddSpacePrefix
	s.once = v.SpacePrefixOnce
	s.collapse = v.RemoveExtraSpaces != nil && *v.RemoveExtraSpaces
	if v.Charsmap != nil {
		if s.charsmap, err = newCharsmap(v.Charsmap, lease); err != nil {
			return s, err
		}
	}
	for i, k := range kinds {
		if n := len(x.at(ID(i))); k.isText() && n > maxPieceBytes {
			return s, fmt.Errorf("%w: token %d has %d bytes, at most %d are allowed", ErrVocabulary, i, n, maxPieceBytes)
		}
	}
	s.borders, err = newBorders(x, kinds, lease)
	return s, err
}

// pieceEncoder adds the tokens of a piece of a sentence, which isn't empty.
type pieceEncoder interface {
	piece(w *work, text []byte) error
}

// encode cuts text into pieces and gives them to m. No token reaches from one
// into the next.
func (s *sentence) encode(w *work, text string, start bool, m pieceEncoder) error {
	w.lost = false
	w.spelling = w.spelling[:0]
	last := utf8.RuneError
	add := start && s.prefix
	if s.once && (strings.HasPrefix(text, " ") || strings.HasPrefix(text, markText)) {
		add = false
	}
	spaced := s.collapse // what was before is a space, or the beginning
	for len(text) > 0 {
		chunk, n := s.next(text)
		text = text[n:]
		if err := w.spend(n); err != nil {
			return err
		}
		if spaced && chunk != "" {
			if chunk = strings.TrimLeft(chunk, " "); chunk == "" {
				continue
			}
		}
		if add {
			add = false
			w.spelling = append(w.spelling, markText...)
			last = spaceMark
		}
		for i, size := 0, 0; i < len(chunk); i += size {
			var r rune
			char := chunk[i:]
			r, size = utf8.DecodeRuneInString(char)
			char = char[:size]
			spaced = s.collapse && r == ' '
			if r == ' ' {
				r, char = spaceMark, markText
			}
			// Marks at the end may have to go, so nothing is cut after one.
			if len(w.spelling) > 0 && !s.borders.joined(last, r) && (!s.collapse || last != spaceMark) {
				if err := m.piece(w, w.spelling); err != nil {
					return err
				}
				w.spelling = w.spelling[:0]
			}
			if err := w.growSpelling(); err != nil {
				return err
			}
			w.spelling = append(w.spelling, char...)
			last = r
		}
	}
	if s.collapse {
		w.spelling = bytes.TrimRight(w.spelling, markText)
	}
	if len(w.spelling) == 0 {
		return nil
	}
	return m.piece(w, w.spelling)
}

// next is what the beginning of text is normalised to, and its length in text.
func (s *sentence) next(text string) (chunk string, n int) {
	if s.charsmap != nil {
		if chunk, n = s.charsmap.replace(text); n > 0 {
			return chunk, n
		}
	}
	if text[0] < utf8.RuneSelf {
		return text[:1], 1
	}
	r, n := utf8.DecodeRuneInString(text)
	if s.replace && r == utf8.RuneError && n == 1 {
		return string(utf8.RuneError), 1
	}
	return text[:n], n
}

// growSpelling makes room for one more character, priced.
func (w *work) growSpelling() error {
	if cap(w.spelling)-len(w.spelling) >= utf8.UTFMax {
		return nil
	}
	n := max(256, 2*cap(w.spelling))
	if n > math.MaxInt32 { // spaces and a charsmap make text longer
		return ErrTooLong
	}
	if err := w.priceBytes(n, int64(n)); err != nil {
		return err
	}
	w.spelling = slices.Grow(w.spelling, n-len(w.spelling))
	return nil
}

// borders tells where no token can reach across: it holds each two characters
// that stand side by side in some token. Two others may be found in it by
// accident; then a piece is longer than it had to be.
type borders struct {
	bits []uint64 // a power of two of them
}

func newBorders(x *texts, kinds []TokenType, lease *budget.Lease) (borders, error) {
	// The vocabularies in use have 10 to 40 times as many neighbours as different
	// ones, so a bit for each neighbour leaves the set sparse.
	words := slotCount(len(x.arena)/64+1) / 2
	if err := lease.ReserveItems(budget.Vocabulary, uint64(words), 8); err != nil {
		return borders{}, err
	}
	b := borders{make([]uint64, words)}
	for i, k := range kinds {
		if !k.isText() {
			continue
		}
		last := rune(-1)
		for _, r := range x.at(ID(i)) {
			if last >= 0 {
				h := b.hash(last, r)
				b.bits[h>>6] |= 1 << (h & 63)
			}
			last = r
		}
	}
	return b, nil
}

func (b *borders) hash(left, right rune) uint64 {
	h := (uint64(uint32(left))<<32 | uint64(uint32(right))) * 0x9e3779b97f4a7c15
	h ^= h >> 29
	h *= 0xbf58476d1ce4e5b9
	return h >> 32 & (64*uint64(len(b.bits)) - 1)
}

// joined reports whether a token may have left before right.
func (b *borders) joined(left, right rune) bool {
	h := b.hash(left, right)
	return b.bits[h>>6]>>(h&63)&1 != 0
}

// fallback are the tokens of bytes, for text that has no token.
type fallback struct {
	bytes    [256]ID // None in all places if one is missing
	complete bool
	unknown  ID // or None
}

func newFallback(v *Vocab, x *texts, kinds []TokenType) fallback {
	f := fallback{unknown: v.Unknown, complete: true}
	for c := range f.bytes {
		id := x.lookup(fmt.Sprintf("<0x%02X>", c))
		f.bytes[c] = id
		f.complete = f.complete && id != None && kinds[id] == Byte
	}
	if !f.complete {
		for c := range f.bytes {
			f.bytes[c] = None
		}
	}
	return f
}

// add adds the tokens of text that has none: those of its bytes, or the unknown
// one, once for such texts side by side.
func (f *fallback) add(w *work, text []byte) error {
	if !f.complete {
		if w.lost || f.unknown == None {
			return nil
		}
		w.lost = true
		return w.add(f.unknown)
	}
	for _, c := range text {
		if err := w.add(f.bytes[c]); err != nil {
			return err
		}
	}
	return nil
}

// appendMarked appends what a token of SentencePiece stands for.
func appendMarked(dst []byte, text string, kind TokenType) []byte {
	if kind == Byte {
		if c, ok := byteOf(text); ok {
			return append(dst, c)
		}
	}
	for {
		before, after, found := strings.Cut(text, markText)
		dst = append(dst, before...)
		if !found {
			return dst
		}
		dst = append(dst, ' ')
		text = after
	}
}

// byteOf is the byte that a byte token spells, as <0x0A>.
func byteOf(text string) (c byte, ok bool) {
	if len(text) != 6 || text[:3] != "<0x" || text[5] != '>' {
		return 0, false
	}
	for _, d := range []byte(text[3:5]) {
		switch {
		case d >= '0' && d <= '9':
			d -= '0'
		case d >= 'A' && d <= 'F':
			d -= 'A' - 10
		default:
			return 0, false
		}
		c = c<<4 | d
	}
	return c, true
}

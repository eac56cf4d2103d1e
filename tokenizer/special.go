package tokenizer

import (
	"cmp"
	"fmt"
	"slices"
)

// maxSpecialBytes bounds the text of a special token, and with it the work at
// one place of the text.
const maxSpecialBytes = 1024

// specials finds the tokens that are matched in text as they stand. The tokens
// lie sorted by text, so those that share a prefix are a range, which each
// further byte narrows.
type specials struct {
	texts *texts
	ids   []ID
	first [256]bool // bytes that a special token begins with
}

func newSpecials(x *texts, ids []ID) (*specials, error) {
	s := &specials{texts: x, ids: ids}
	for _, id := range ids {
		text := x.at(id)
		if len(text) > maxSpecialBytes {
			return nil, fmt.Errorf("%w: special token %d has %d bytes, at most %d are allowed", ErrVocabulary, id, len(text), maxSpecialBytes)
		}
		s.first[text[0]] = true
	}
	slices.SortFunc(ids, func(a, b ID) int { return cmp.Compare(x.at(a), x.at(b)) })
	return s, nil
}

// next is the leftmost special token in text, the longest of those that begin
// there; without one, start and end are the length of text.
func (s *specials) next(text string, w *work) (start, end int, id ID, err error) {
	if len(s.ids) == 0 {
		return len(text), len(text), None, nil
	}
	for i := range len(text) {
		if i%pollSteps == pollSteps-1 {
			if err := w.poll(); err != nil {
				return 0, 0, None, err
			}
		}
		if !s.first[text[i]] {
			continue
		}
		id, n := s.match(text[i:])
		if err := w.spend(n + 1); err != nil {
			return 0, 0, None, err
		}
		if id != None {
			return i, i + len(s.texts.at(id)), id, nil
		}
	}
	return len(text), len(text), None, nil
}

// match is the longest special token that text begins with, and the number of
// bytes looked at.
func (s *specials) match(text string) (id ID, looked int) {
	id = None
	ids := s.ids
	for i := 0; i < len(text) && len(ids) > 0; i++ {
		c := text[i]
		// A token of i bytes sorts before those that go on; it was taken in the
		// last round and is passed over now.
		from, _ := slices.BinarySearchFunc(ids, c, func(e ID, c byte) int {
			if t := s.texts.at(e); len(t) > i && t[i] >= c {
				return 1
			}
			return -1
		})
		ids = ids[from:]
		to, _ := slices.BinarySearchFunc(ids, c, func(e ID, c byte) int {
			if s.texts.at(e)[i] > c {
				return 1
			}
			return -1
		})
		ids = ids[:to]
		looked = i + 1
		if len(ids) > 0 && len(s.texts.at(ids[0])) == i+1 {
			id = ids[0]
		}
	}
	return id, looked
}

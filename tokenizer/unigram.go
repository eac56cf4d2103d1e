package tokenizer

import (
	"math"
	"slices"
	"unicode/utf8"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// unknownPenalty is how much lower than the lowest score a character without a
// token counts.
const unknownPenalty = 10

// unigrams is SentencePiece's unigram model: of all ways to write a text as
// tokens it takes the one whose scores, logarithms of probabilities, have the
// highest sum. Of equal ones it takes the longest last token, then the longest
// before that.
//
// Sources: Kudo, "Subword Regularization", https://arxiv.org/abs/1804.10959,
// section 3.2; sums are float64 as in Hugging Face's tokenizers, where
// SentencePiece itself rounds them to float32.
type unigrams struct {
	texts    *texts
	kinds    []TokenType
	scores   []float32
	lost     float64 // score of a character without a token
	trie     *trie
	sentence sentence
	fallback fallback
}

func newUnigrams(v *Vocab, x *texts, kinds []TokenType, lease *budget.Lease) (model, error) {
	u := &unigrams{texts: x, kinds: kinds, fallback: newFallback(v, x, kinds)}
	var err error
	if u.scores, err = v.tokenScores(x.len(), lease); err != nil {
		return nil, err
	}
	least := math.Inf(1)
	for i, k := range kinds {
		switch k {
		case UserDefined:
			u.scores[i] = 0 // more likely than any other
		case Normal:
			least = min(least, float64(u.scores[i]))
		}
	}
	if math.IsInf(least, 1) {
		least = 0
	}
	u.lost = least - unknownPenalty
	if u.sentence, err = newSentence(v, x, kinds, lease); err != nil {
		return nil, err
	}
	u.sentence.replace = true
	u.trie, err = newTrie(x, kinds, lease)
	return u, err
}

func (u *unigrams) encode(w *work, text string, start bool) error {
	return u.sentence.encode(w, text, start, u)
}

func (u *unigrams) appendBytes(dst []byte, id ID) []byte {
	return appendMarked(dst, u.texts.at(id), u.kinds[id])
}

func (u *unigrams) takes(byte) bool { return u.fallback.complete }

func (u *unigrams) traits() traits {
	return traits{addEOS: true, marked: true, spacePrefix: u.sentence.prefix}
}

// placeBytes is the working memory for each byte of a long piece: the token that
// ends there on the best way, its beginning, the way's score and its next place.
const placeBytes = 20

// piece finds the best way to the end of text. It walks from the left: when it
// comes to a place, the best way there is known.
func (u *unigrams) piece(w *work, text []byte) error {
	n := len(text)
	if err := w.priceBytes(n, int64(cap(text))+placeBytes*int64(n+1)); err != nil {
		return err
	}
	sums := slices.Grow(w.sums[:0], n+1)[:n+1]
	ends := slices.Grow(w.ids[:0], n+1)[:n+1]
	from := slices.Grow(w.prev[:0], n+1)[:n+1]
	next := slices.Grow(w.next[:0], n+1)[:n+1]
	w.sums, w.ids, w.prev, w.next = sums, ends, from, next
	for i := range sums {
		sums[i] = math.Inf(-1)
	}
	sums[0] = 0
	for at := 0; at < n; {
		_, size := utf8.DecodeRune(text[at:])
		alone := false // the character is a token
		node, steps := uint32(0), 0
		for i := at; i < n; {
			r, m := utf8.DecodeRune(text[i:])
			i += m
			steps++
			if node = u.trie.next(node, r); node == 0 {
				break
			}
			id := u.trie.ends[node]
			if id == None {
				continue
			}
			alone = alone || i == at+size
			if sum := sums[at] + float64(u.scores[id]); sum > sums[i] {
				sums[i], ends[i], from[i] = sum, id, int32(at)
			}
		}
		if i := at + size; !alone && sums[at]+u.lost > sums[i] {
			sums[i], ends[i], from[i] = sums[at]+u.lost, None, int32(at)
		}
		w.steps += steps
		if err := w.spend(steps + size); err != nil {
			return err
		}
		at += size
	}
	for i := int32(n); i > 0; i = from[i] {
		next[from[i]] = i
	}
	for i := int32(0); i < int32(n); {
		at := i
		i = next[i]
		if err := w.spend(1); err != nil {
			return err
		}
		if ends[i] == None {
			if err := u.fallback.add(w, text[at:i]); err != nil {
				return err
			}
			continue
		}
		w.lost = false
		if err := w.add(ends[i]); err != nil {
			return err
		}
	}
	return nil
}

package tokenizer

import (
	"math"
	"slices"
	"unicode/utf8"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// scoredPairs is SentencePiece's BPE: the characters of a text are the first
// symbols, and the neighbours whose text together is the token of the highest
// score are joined, leftmost first, until no two make a token. A symbol that is
// no token becomes those of its bytes.
//
// Source: bpe_model.cc of https://github.com/google/sentencepiece. Its tokens
// that are marked as unused are no tokens here, where it joins them and takes
// them apart again.
type scoredPairs struct {
	texts    *texts
	kinds    []TokenType
	ranks    []uint32 // of each token: 0 has the highest score; or noRank
	sentence sentence
	fallback fallback
}

func newScoredPairs(v *Vocab, x *texts, kinds []TokenType, lease *budget.Lease) (model, error) {
	s := &scoredPairs{texts: x, kinds: kinds, fallback: newFallback(v, x, kinds)}
	scores, err := v.tokenScores(x.len(), lease)
	if err != nil {
		return nil, err
	}
	if s.sentence, err = newSentence(v, x, kinds, lease); err != nil {
		return nil, err
	}
	s.ranks, err = rankScores(scores, kinds, lease)
	return s, err
}

// rankScores numbers the scores of tokens that text may become from the highest
// down, equal ones equally.
func rankScores(scores []float32, kinds []TokenType, lease *budget.Lease) ([]uint32, error) {
	if err := lease.ReserveItems(budget.Vocabulary, uint64(len(scores)), 12); err != nil {
		return nil, err
	}
	ranks := make([]uint32, len(scores))
	// Numbers sort several times as fast as ids by their scores.
	order := make([]uint64, 0, len(scores))
	for i, k := range kinds {
		if ranks[i] = noRank; k.isText() {
			order = append(order, uint64(descending(scores[i]))<<32|uint64(i))
		}
	}
	slices.Sort(order)
	rank := uint32(0)
	for i, key := range order {
		if i > 0 && scores[uint32(key)] != scores[uint32(order[i-1])] {
			rank++
		}
		ranks[uint32(key)] = rank
	}
	return ranks, nil
}

// descending is a number that is the smaller the larger f is, which is no NaN.
func descending(f float32) uint32 {
	bits := math.Float32bits(f)
	if bits>>31 == 1 {
		return bits
	}
	return ^bits &^ (1 << 31)
}

func (s *scoredPairs) encode(w *work, text string, start bool) error {
	if s.fallback.complete && len(text) >= 2*partBytes {
		return s.sentence.encodeLong(w, text, start, s)
	}
	return s.sentence.encode(w, text, start, s)
}

func (s *scoredPairs) appendBytes(dst []byte, id ID) []byte {
	return appendMarked(dst, s.texts.at(id), s.kinds[id])
}

func (s *scoredPairs) takes(byte) bool { return s.fallback.complete }

func (s *scoredPairs) traits() traits {
	return traits{
		addBOS: true, marked: true, spacePrefix: s.sentence.prefix,
		bounded: s.fallback.complete && s.sentence.charsmap == nil && !s.sentence.collapse,
	}
}

// rank is that of the token with this text, or noRank.
func (s *scoredPairs) rank(text []byte) uint32 {
	if len(text) > s.texts.longest {
		return noRank
	}
	if id := s.texts.lookupBytes(text); id != None {
		return s.ranks[id]
	}
	return noRank
}

// symbolBytes is the working memory for each symbol of a long piece: its place,
// rank and neighbours and two entries of the queue.
const symbolBytes = 32

func (s *scoredPairs) piece(w *work, text []byte) error {
	n := utf8.RuneCount(text)
	if err := w.spend(n); err != nil {
		return err
	}
	if err := w.priceBytes(len(text), int64(cap(text))+symbolBytes*int64(n+1)); err != nil {
		return err
	}
	starts := slices.Grow(w.ids[:0], n+1)
	for i := 0; i < len(text); {
		starts = append(starts, ID(i))
		_, size := utf8.DecodeRune(text[i:])
		i += size
		if len(starts)%pollSteps == 0 {
			if err := w.poll(); err != nil {
				return err
			}
		}
	}
	starts = append(starts, ID(len(text)))
	w.ids = starts
	if n > shortPiece {
		return s.mergeLong(w, text)
	}
	return s.mergeShort(w, text)
}

// add adds the tokens of one symbol.
func (s *scoredPairs) add(w *work, symbol []byte) error {
	if len(symbol) <= s.texts.longest {
		if id := s.texts.lookupBytes(symbol); id != None && s.ranks[id] != noRank {
			w.lost = false
			return w.add(id)
		}
	}
	return s.fallback.add(w, symbol)
}

// mergeShort merges by looking for the best two neighbours again after each.
// Symbol i is text[starts[i]:starts[i+1]].
func (s *scoredPairs) mergeShort(w *work, text []byte) error {
	starts, ranks := w.ids, w.ranks[:0]
	for i := 2; i < len(starts); i++ {
		ranks = append(ranks, s.rank(text[starts[i-2]:starts[i]]))
	}
	for len(ranks) > 0 {
		at := 0
		for i, r := range ranks {
			if r < ranks[at] {
				at = i
			}
		}
		if ranks[at] == noRank {
			break
		}
		w.steps++
		starts = slices.Delete(starts, at+1, at+2)
		ranks = slices.Delete(ranks, at, at+1)
		if at > 0 {
			ranks[at-1] = s.rank(text[starts[at-1]:starts[at+1]])
		}
		if at < len(ranks) {
			ranks[at] = s.rank(text[starts[at]:starts[at+2]])
		}
	}
	w.ranks = ranks
	for i := 1; i < len(starts); i++ {
		if err := s.add(w, text[starts[i-1]:starts[i]]); err != nil {
			return err
		}
	}
	return nil
}

// mergeLong does the same in n log n steps, with the list and the queue of
// [pairs.mergeLong]. Of two entries with one rank and place one may be meant for
// another token of the same score; each is taken for what is there now.
func (s *scoredPairs) mergeLong(w *work, text []byte) error {
	starts, n := w.ids, int32(len(w.ids)-1)
	next, prev, ranks, queue := w.list(int(n))

	// update takes the rank of symbol i with its right neighbour.
	update := func(i int32) {
		ranks[i] = noRank
		if j := next[i]; j < n {
			ranks[i] = s.rank(text[starts[i]:starts[next[j]]])
		}
		if ranks[i] != noRank {
			queue = append(queue, uint64(ranks[i])<<32|uint64(i))
			w.steps += up(queue)
		}
	}
	for i := range n {
		next[i], prev[i] = i+1, i-1
	}
	for i := range n {
		if err := w.spend(1); err != nil {
			return err
		}
		update(i)
	}
	for len(queue) > 0 {
		rank, i := uint32(queue[0]>>32), int32(uint32(queue[0]))
		queue = w.pop(queue)
		if err := w.spend(1); err != nil {
			return err
		}
		if ranks[i] != rank {
			continue
		}
		gone := next[i]
		ranks[gone] = noRank
		next[i] = next[gone]
		if next[i] < n {
			prev[next[i]] = i
		}
		update(i)
		if prev[i] >= 0 {
			update(prev[i])
		}
	}
	for i := int32(0); i < n; i = next[i] {
		if err := s.add(w, text[starts[i]:starts[next[i]]]); err != nil {
			return err
		}
		if err := w.spend(1); err != nil {
			return err
		}
	}
	return nil
}

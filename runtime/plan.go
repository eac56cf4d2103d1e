package runtime

import (
	"cmp"
	"slices"
	"time"
)

// plan fills the batch for the next step: a token of every sequence that is
// decoding, then prompts, as many tokens as the step's time has room for. It returns
// false where no sequence can go on: their readers have to take something
// first.
func (e *engine) plan(now time.Time) bool {
	b := &e.batch
	b.Reset()
	e.step, e.prefills = e.step[:0], e.prefills[:0]
	// Each sequence has a row of logits of its own; a Score takes the others.
	spare := e.limits.Logits - len(e.running)
	for _, s := range e.running {
		s.planned = 0
		if s.writer.Room(2) < 2 { // a token can bring the finish with it
			if s.stalled.IsZero() {
				s.stalled = now
			}
			continue
		}
		s.stalled = time.Time{}
		if s.prefilling() {
			e.prefills = append(e.prefills, s)
		} else {
			e.include(s, 1, 1)
		}
	}
	if len(e.prefills) == 0 {
		return b.Len() > 0
	}
	// As many as are decoding at least, or a crowd of answers on a slow machine
	// would keep all others from their first token.
	target := stepTime
	if b.Len() == 0 {
		target = stepTimeAlone
	}
	e.share(min(max(e.pace.tokens(target)-b.Len(), b.Len(), minPrefill), e.limits.Tokens-b.Len()), spare)
	for _, s := range e.prefills {
		rows := 0
		switch n := s.planned; {
		case n == 0:
			continue
		case s.score != nil:
			s.planned = min(n, s.score.most(s.done, 1+spare))
			rows = s.score.rows(s.done, s.planned)
			spare -= max(rows-1, 0)
		case s.done+n == len(s.prompt):
			rows = 1
		}
		e.include(s, s.planned, rows)
	}
	return b.Len() > 0
}

// share divides the tokens of a step among the prompts: a quarter to the one
// that came first, so that it can't starve, the rest to the shortest, which
// are done soonest.
func (e *engine) share(left, spare int) {
	wants := func(s *sequence) int {
		n := len(s.prompt) - s.done
		if s.score != nil {
			n = min(n, s.score.most(s.done, 1+spare))
		}
		return n
	}
	first := e.prefills[0]
	first.planned = min(max(left/4, 1), wants(first), left)
	left -= first.planned
	e.shortest = append(e.shortest[:0], e.prefills...)
	slices.SortStableFunc(e.shortest, func(a, b *sequence) int { return cmp.Compare(wants(a), wants(b)) })
	for _, s := range e.shortest {
		n := min(left, wants(s)-s.planned)
		s.planned += n
		left -= n
	}
}

// include puts the next n tokens of a sequence into the batch; the last rows of
// them need logits.
func (e *engine) include(s *sequence, n, rows int) {
	b := &e.batch
	s.planned, s.rows, s.firstRow = n, rows, len(b.Logits)
	s.pages.Grow(s.done + n)
	for i := range n {
		id := s.last
		if s.prefilling() {
			id = s.prompt[s.done+i]
		}
		if i >= n-rows {
			b.Logits = append(b.Logits, int32(b.Len()))
		}
		b.Tokens = append(b.Tokens, id)
		b.Positions = append(b.Positions, int32(s.done+i))
		b.Seqs = append(b.Seqs, int32(len(b.Tables)))
	}
	b.Tables = append(b.Tables, s.pages.Table)
	e.step = append(e.step, s)
}

// forget lets go of the last step's sequences.
func (e *engine) forget() {
	clear(e.step[:cap(e.step)])
	clear(e.prefills[:cap(e.prefills)])
	clear(e.shortest[:cap(e.shortest)])
	clear(e.batch.Tables[:cap(e.batch.Tables)])
}

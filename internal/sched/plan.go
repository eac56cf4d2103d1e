package sched

import (
	"cmp"
	"slices"

	"github.com/dunlin-go/dunlin/internal/kvcache"
)

// Room is what a step can hold.
type Room struct {
	Tokens int // at most, no fewer than sequences can run
	Rows   int // of logits, no fewer than sequences can run
	// Prefill is how many tokens of prompts are to be computed beside those of
	// so many sequences that decode.
	Prefill func(decoding int) int
}

// Plan chooses the sequences of the next step and sets their Planned and Rows:
// those that decode, then those that prefill. The list is the scheduler's own
// and stays until the next plan. It is empty where nobody can go on.
func (s *Scheduler) Plan(room Room) (step []*Sequence, prefills int) {
	s.step, s.prefills = s.step[:0], s.prefills[:0]
	for _, r := range s.running {
		r.Planned, r.Rows, r.inStep = 0, 0, false
	}
	for _, r := range s.running {
		if r.pages == nil || r.Stalled {
			continue
		}
		s.adopt(r)
		switch {
		case r.left() > 1:
			s.prefills = append(s.prefills, r)
		case r.left() == 1 && s.grow(r, 1):
			s.include(r, 1)
		}
	}
	decoding := len(s.step)
	if len(s.prefills) == 0 {
		return s.step, 0
	}
	// Each sequence has a row of logits of its own; one that wants more takes the
	// others.
	spare := room.Rows - len(s.running)
	s.share(min(room.Prefill(decoding), room.Tokens-decoding), spare)
	for _, r := range s.prefills {
		n := min(r.Planned, r.atMost(spare))
		r.Planned = 0
		if n == 0 || r.pages == nil { // it was preempted for one before it
			continue
		}
		if n = s.fit(r, n); n > 0 {
			s.include(r, n)
			spare -= max(r.Rows-1, 0)
		}
	}
	return s.step, len(s.step) - decoding
}

// include puts the next n tokens of a sequence into the step.
func (s *Scheduler) include(r *Sequence, n int) {
	r.Planned, r.Rows, r.inStep = n, min(max(r.Done+n-r.From, 0), n), true
	s.step = append(s.step, r)
}

// atMost is how many tokens of a prompt can be in one step that has so many
// rows of logits beside its own: those before From need none.
func (r *Sequence) atMost(spare int) int { return min(r.left(), max(r.From-r.Done, 0)+1+spare) }

// adopt lets a prompt go on from pages that others have computed meanwhile.
func (s *Scheduler) adopt(r *Sequence) {
	if r.left() < kvcache.PageTokens {
		return
	}
	if n := r.pages.Adopt(r.Tokens[:min(r.From, len(r.Tokens))]); n > r.Done {
		s.found(r, n-r.Done)
		if !r.anew {
			r.tenant.charge(r.Done - n) // it was charged for computing them
		}
		r.Done = n
	}
}

// fit is how many of n tokens there are pages for, after taking from others
// where it would be none.
func (s *Scheduler) fit(r *Sequence, n int) int {
	if r.pages.Grow(r.Done + n) {
		return n
	}
	if n = min(n, r.pages.Room()-r.Done); n > 0 || s.grow(r, 1) {
		return max(n, 1)
	}
	return 0
}

// grow takes pages for the next n tokens, of others if need be.
func (s *Scheduler) grow(r *Sequence, n int) bool {
	for !r.pages.Grow(r.Done + n) {
		if !s.preemptFor(r, func(v *Sequence) bool { return byRank(r, v) < 0 && v.pages.Pages() > 0 }) {
			return false
		}
	}
	return true
}

// share divides the tokens of a step among the prompts.
func (s *Scheduler) share(left, spare int) {
	first := s.prefills[0]
	first.Planned = min(max(left/4, 1), first.atMost(spare), left)
	left -= first.Planned
	s.order = append(s.order[:0], s.prefills...)
	slices.SortStableFunc(s.order, func(a, b *Sequence) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.atMost(spare), b.atMost(spare)))
	})
	for i, r := range s.order {
		if left == 0 {
			break
		}
		if r != first && (r.follows(first) || slices.ContainsFunc(s.order[:i], r.follows)) {
			continue
		}
		n := min(left, r.atMost(spare)-r.Planned)
		r.Planned += n
		left -= n
	}
}

// follows reports whether another sequence computes the very page that r needs
// next.
func (r *Sequence) follows(other *Sequence) bool {
	return r.pages.Follows(other.pages, r.Tokens[:min(r.From, len(r.Tokens))], other.Tokens)
}

// Forget lets go of the last step's sequences.
func (s *Scheduler) Forget() {
	for _, list := range [][]*Sequence{s.step, s.prefills, s.order} {
		clear(list[:cap(list)])
	}
}

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
	Unit   int // of a step of more tokens than a few, or 0: what it is a multiple of
	// Prefill is how much work on prompts is to be done beside so many sequences
	// that decode and their work.
	Prefill func(decoding int, work float64) float64
	// Work is what a token costs at a position. Attending to what is before it, a
	// late one costs more than the first; nil: each costs 1.
	Work func(position int) float64
}

func (r *Room) work(position int) float64 {
	if r.Work == nil {
		return 1
	}
	return r.Work(position)
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
	decoding, work := len(s.step), 0.
	if len(s.prefills) == 0 {
		return s.step, 0
	}
	// Each sequence has a row of logits of its own; one that wants more takes the
	// others.
	spare := room.Rows - len(s.running)
	for _, r := range s.step {
		work += room.work(r.Done)
	}
	s.share(&room, room.Prefill(decoding, work), decoding, spare)
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

// share divides the work of a step among the prompts.
func (s *Scheduler) share(room *Room, work float64, decoding, spare int) {
	first := s.prefills[0]
	left := room.Tokens - decoding
	give := func(r *Sequence, n int, price float64) {
		r.Planned += n
		left -= n
		work -= float64(n) * price
	}
	price := room.work(first.Done)
	give(first, min(max(int(work/4/price), 1), first.atMost(spare), left), price)
	s.order = append(s.order[:0], s.prefills...)
	slices.SortStableFunc(s.order, func(a, b *Sequence) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.atMost(spare), b.atMost(spare)))
	})
	for i, r := range s.order {
		if r != first && (r.follows(first) || slices.ContainsFunc(s.order[:i], r.follows)) {
			continue
		}
		price := room.work(r.Done)
		n, wanted := max(min(left, int(work/price)), 0), r.atMost(spare)-r.Planned
		if n >= wanted {
			give(r, wanted, price)
			continue
		}
		if total := room.Tokens - left + n; room.Unit > 0 && total > 4*room.Unit {
			n -= min(total%room.Unit, n)
		}
		give(r, n, price)
		break
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

package sched

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/dunlin-go/dunlin/internal/kvcache"
)

// Scheduler shares a model's steps and the pages of its cache among sequences.
//
// A sequence waits, then runs in one of a fixed number of places until it is
// dropped. Those that run are ranked: by priority, then by age. The rank
// decides who gives way, so it never changes while a sequence runs, and whoever
// is first is certain to come to its end.
//
// Who runs next. Strictly the highest priority that waits; among its tenants
// the one that has been served the fewest tokens for its weight; of its
// sequences the one that came first. The counters are those of the virtual
// token counter (Sheng et al., "Fairness in Serving Large Language Models",
// 2024): a prompt counts when it is admitted, less what the cache had of it, an
// answer token by token. A tenant that comes back after a pause begins where
// the least served one is, so that nobody saves up a right to a burst. A
// sequence of a higher priority takes the place of the last in rank, which
// waits again.
//
// Pages are taken as sequences grow, not for the longest answer in advance; those
// of layers with a window are given back as it moves on, so a sequence needs but so
// many of them, however long it is. A sequence is admitted when there are pages for
// what it knows and the next page of tokens, besides what those that run need for
// the same. When pages run out nevertheless, somebody is preempted: it gives its pages back, keeps its
// place, and computes its tokens anew when there is room. First those whose
// readers are behind, as nothing is lost by that; then the last in rank, if it
// ranks after the one in need and takes no part in the step yet. Its full pages
// stay in the cache's tree until somebody writes over them, so computing anew
// is often but a look-up.
//
// Why this ends: whoever is first in rank of those that can go on may take the
// pages of all others, and no sequence is taken that needs more than there are.
// In a step where it can't, because others are in the step already, those come
// closer to their ends, and nobody is admitted while pages are short.
//
// A step has a token of every sequence that decodes, then prompts, as much work
// as the caller says. A quarter goes to the first in rank, so that it
// can't starve, the rest by priority and then to the shortest, which are done
// soonest. A prompt that begins as another one does waits while that one
// computes what they share, and takes the pages over.
//
// Rejected: leases for the longest answer (few run at once, as most answers end
// early); swapping pages out (recomputing is quicker than most disks, and often
// free); first come, first served for all (one tenant's burst is everybody's
// delay); preempting by age alone (a priority that doesn't hold is none).
type Scheduler struct {
	cache        *kvcache.Cache
	maxSequences int
	weights      map[string]float64

	tenants map[string]*tenant
	least   float64 // the lowest counter of those that waited or ran at the last Drop
	arrived uint64
	waiting int
	running []*Sequence // by rank

	// The step's, reused.
	step     []*Sequence
	prefills []*Sequence
	order    []*Sequence
	victims  []*kvcache.Sequence

	preemptions, cached int64
}

// Sequence is one request's tokens and where they stand.
type Sequence struct {
	// Set before Add.

	Owner    any
	Tenant   string
	Priority int    // higher ones first
	Salt     string // sequences share pages only with those of the same salt
	Tokens   []int32
	// Limit is how many tokens it can come to, those of Tokens included.
	Limit int
	// From is the first position whose logits are wanted.
	From int

	// Stalled keeps it out of steps: its reader has no room. Set it between
	// steps, before Admit.
	Stalled bool

	// Done is the number of tokens whose keys and values are stored.
	Done int
	// Cached is how many of Tokens, as they were added, came from the cache.
	Cached int
	// Preempted is how often it had to give up its pages.
	Preempted int
	// Planned is how many tokens it has in the step, Rows how many of them, the
	// last ones, are to have logits.
	Planned, Rows int

	tenant  *tenant
	arrival uint64
	pages   *kvcache.Sequence // nil while it waits, and after it was preempted
	charged bool              // for its prompt: it has run
	anew    bool              // it computes what it has computed before
	inStep  bool
}

// Table is the page table for the step.
func (r *Sequence) Table() []int32 { return r.pages.Table }

// left is the number of tokens known and not computed.
func (r *Sequence) left() int { return len(r.Tokens) - r.Done }

// New makes a scheduler that runs at most maxSequences at once on a cache.
// Tenants without a weight have 1.
func New(cache *kvcache.Cache, maxSequences int, weights map[string]float64) *Scheduler {
	return &Scheduler{cache: cache, maxSequences: maxSequences, weights: weights, tenants: map[string]*tenant{}}
}

// TooLargeError says that a sequence can never fit the cache.
type TooLargeError struct {
	Tokens int // that it has to store
	Limit  int // that the cache holds
}

// Error gives both numbers.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("the request needs room for %d tokens at least, the KV cache holds %d", e.Tokens, e.Limit)
}

// Waiting is the number of sequences that have no place.
func (s *Scheduler) Waiting() int { return s.waiting }

// Running lists the sequences that have a place, by rank. It is the
// scheduler's own and changes with it.
func (s *Scheduler) Running() []*Sequence { return s.running }

// Ready is the number of those that run and whose readers keep up.
func (s *Scheduler) Ready() (n int) {
	for _, r := range s.running {
		if !r.Stalled {
			n++
		}
	}
	return n
}

// Preemptions counts how often a sequence had to give up its pages.
func (s *Scheduler) Preemptions() int64 { return s.preemptions }

// Cached counts the tokens that came from the cache, but for those of sequences
// that were preempted.
func (s *Scheduler) Cached() int64 { return s.cached }

// Drop removes the sequences for which ended is true, and gives their pages back.
func (s *Scheduler) Drop(ended func(*Sequence) bool) {
	s.running = slices.DeleteFunc(s.running, func(r *Sequence) bool {
		if !ended(r) {
			return false
		}
		s.release(r)
		r.tenant.running--
		return true
	})
	for _, t := range s.tenants {
		before := len(t.waiting)
		t.waiting = slices.DeleteFunc(t.waiting, ended)
		s.waiting -= before - len(t.waiting)
	}
	s.prune()
}

// release gives a sequence's pages back.
func (s *Scheduler) release(r *Sequence) {
	if r.pages != nil {
		r.pages.Release()
		r.pages = nil
	}
}

// Admit gives places, and pages to begin with, to those that are due.
func (s *Scheduler) Admit() {
	for _, r := range s.running {
		r.inStep = false
	}
	for {
		var head *Sequence
		if s.waiting > 0 {
			head = s.next().waiting[0]
		}
		// Those that gave up their pages come first: they have been served already.
		i := slices.IndexFunc(s.running, func(r *Sequence) bool { return r.pages == nil && !r.Stalled })
		switch {
		case i >= 0 && (head == nil || head.Priority <= s.running[i].Priority):
			if !s.startFor(s.running[i], nobody) {
				return
			}
		case head == nil || !s.admit(head):
			return
		}
	}
}

// admit lets the sequence that is due run, if it can be.
func (s *Scheduler) admit(r *Sequence) bool {
	lower := func(v *Sequence) bool { return v.Priority < r.Priority }
	if len(s.running) == s.maxSequences {
		last := s.running[len(s.running)-1]
		if !lower(last) || !s.canStart(r, lower) {
			return false
		}
		s.displace(last)
	}
	if !s.startFor(r, lower) {
		return false
	}
	t := r.tenant
	t.waiting[0] = nil
	t.waiting = t.waiting[1:]
	s.waiting--
	s.place(r)
	return true
}

// startFor starts a sequence, on the pages of others that may be preempted if
// need be. Where all of them wouldn't be enough, it touches nobody.
func (s *Scheduler) startFor(r *Sequence, may func(*Sequence) bool) bool {
	if !s.canStart(r, may) {
		return false
	}
	for !s.start(r) {
		if !s.preemptFor(r, may) {
			return false
		}
	}
	return true
}

// canStart reports whether a sequence could start if all that may be preempted for it,
// those whose readers are behind among them, were.
func (s *Scheduler) canStart(r *Sequence, may func(*Sequence) bool) bool {
	return s.fits(r, func(v *Sequence) bool { return v.Stalled || may(v) })
}

func nobody(*Sequence) bool { return false }

// fits reports whether there would be pages for what r is to begin with, besides what
// those that run and keep up need, if those that give way had given theirs back.
func (s *Scheduler) fits(r *Sequence, gives func(*Sequence) bool) bool {
	s.victims = s.victims[:0]
	keep := 0
	for _, q := range s.running {
		switch {
		case q.pages == nil:
		case gives(q):
			s.victims = append(s.victims, q.pages)
		case !q.Stalled:
			keep += s.toGrow(q)
		}
	}
	available, held := s.cache.Without(s.victims, r.Salt, r.prefix())
	clear(s.victims)
	return available >= keep+s.demand(r)-held
}

func byRank(a, b *Sequence) int {
	return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.arrival, b.arrival))
}

// place lets a sequence that was started run.
func (s *Scheduler) place(r *Sequence) {
	i, _ := slices.BinarySearchFunc(s.running, r, byRank)
	s.running = slices.Insert(s.running, i, r)
	r.tenant.running++
	// Room for the whole answer, once and for all; its price was paid before Add.
	if cap(r.Tokens) < r.Limit {
		r.Tokens = append(make([]int32, 0, r.Limit), r.Tokens...)
	}
	if !r.charged {
		r.charged = true
		r.tenant.charge(len(r.Tokens) - r.Done)
	}
}

// displace lets a sequence that runs wait again.
func (s *Scheduler) displace(r *Sequence) {
	s.preempt(r)
	s.release(r)
	i := slices.Index(s.running, r)
	s.running = slices.Delete(s.running, i, i+1)
	r.tenant.running--
	s.enqueue(r)
}

// start gives a sequence what the cache has of its tokens, if the pages for the
// others can be had too.
func (s *Scheduler) start(r *Sequence) bool {
	if !s.fits(r, nobody) {
		return false
	}
	r.pages, r.Done = s.cache.Start(r.Salt, r.prefix(), r.Limit)
	s.found(r, r.Done)
	return true
}

// found counts tokens that came from the cache.
func (s *Scheduler) found(r *Sequence, tokens int) {
	if !r.anew {
		r.Cached += tokens
		s.cached += int64(tokens)
	}
}

// demand is how many pages a sequence needs for what it knows and the next page
// of tokens.
func (s *Scheduler) demand(r *Sequence) int {
	return s.cache.PagesFor(min(len(r.Tokens)+kvcache.PageTokens, r.Limit))
}

// toGrow is how many of these it hasn't got.
func (s *Scheduler) toGrow(r *Sequence) int { return max(s.demand(r)-r.pages.Pages(), 0) }

// prefix is what it can begin with of others' pages: tokens whose logits nobody
// wants.
func (r *Sequence) prefix() []int32 { return r.Tokens[:min(r.From, len(r.Tokens))] }

// preemptFor takes somebody's pages for r, or the claim to some: of one whose reader
// is behind, or the last in rank that may be taken. It returns false where there is none.
func (s *Scheduler) preemptFor(r *Sequence, may func(*Sequence) bool) bool {
	for _, stalled := range []bool{true, false} {
		for _, v := range slices.Backward(s.running) {
			if v == r || v.pages == nil || v.inStep || v.Stalled != stalled {
				continue
			}
			if stalled && v.pages.Pages() > 0 || !stalled && may(v) {
				s.preempt(v)
				return true
			}
		}
	}
	return false
}

// preempt takes a sequence's pages away. What it has given logits for it needs
// none for again.
func (s *Scheduler) preempt(r *Sequence) {
	if r.pages == nil {
		return
	}
	s.preemptions++
	r.Preempted++
	r.From = max(r.From, r.Done)
	r.Done, r.anew = 0, true
	s.release(r)
}

// Advance notes that a sequence's part of the step was computed.
func (s *Scheduler) Advance(r *Sequence) {
	r.Done += r.Planned
	r.Planned, r.Rows = 0, 0
	r.pages.Publish(r.Tokens[:r.Done])
}

// Append adds a token to what a sequence knows, to be computed next.
func (s *Scheduler) Append(r *Sequence, id int32) {
	r.Tokens = append(r.Tokens, id)
	r.tenant.charge(1)
}

// Check reports the first thing that is wrong with the cache, for tests; see
// [kvcache.Cache.Check]. All of its pages must be those of the scheduler's.
func (s *Scheduler) Check() error {
	var pages []*kvcache.Sequence
	for _, r := range s.running {
		if r.pages != nil {
			pages = append(pages, r.pages)
		}
	}
	return s.cache.Check(pages)
}

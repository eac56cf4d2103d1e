package sched

import (
	"cmp"
	"slices"

	"github.com/dunlin-go/dunlin/internal/kvcache"
)

// tenant is a party that shares fairly with others.
type tenant struct {
	weight  float64
	served  float64     // tokens by weight
	waiting []*Sequence // by rank
	running int
}

// maxIdleTenants bounds how many are remembered that neither wait nor run.
const maxIdleTenants = 1024

func (t *tenant) idle() bool { return len(t.waiting) == 0 && t.running == 0 }

func (t *tenant) charge(tokens int) { t.served += float64(tokens) / t.weight }

// Add puts a sequence into the queue. It returns a [TooLargeError] for one that
// could come to more tokens than the cache holds.
func (s *Scheduler) Add(r *Sequence) error {
	r.Limit = max(r.Limit, len(r.Tokens))
	if limit := s.cache.Pages() * kvcache.PageTokens; r.Limit > limit {
		return &TooLargeError{Tokens: r.Limit, Limit: limit}
	}
	t := s.tenants[r.Tenant]
	if t == nil {
		t = &tenant{weight: 1}
		if w := s.weights[r.Tenant]; w > 0 {
			t.weight = w
		}
	}
	if t.idle() {
		if least, any := s.leastServed(); any {
			t.served = max(t.served, least)
		}
		s.tenants[r.Tenant] = t
	}
	r.tenant = t
	s.arrived++
	r.arrival = s.arrived
	s.enqueue(r)
	return nil
}

func (s *Scheduler) enqueue(r *Sequence) {
	t := r.tenant
	i, _ := slices.BinarySearchFunc(t.waiting, r, byRank)
	t.waiting = slices.Insert(t.waiting, i, r)
	s.waiting++
}

// leastServed is the lowest counter of those that wait or run.
func (s *Scheduler) leastServed() (least float64, any bool) {
	for _, t := range s.tenants {
		if !t.idle() && (!any || t.served < least) {
			least, any = t.served, true
		}
	}
	return least, any
}

// next is the tenant whose first sequence is due.
func (s *Scheduler) next() *tenant {
	var best *tenant
	for _, t := range s.tenants {
		if len(t.waiting) == 0 {
			continue
		}
		if best == nil || cmp.Or(
			cmp.Compare(best.waiting[0].Priority, t.waiting[0].Priority),
			cmp.Compare(t.served, best.served),
			cmp.Compare(t.waiting[0].arrival, best.waiting[0].arrival),
		) < 0 {
			best = t
		}
	}
	return best
}

// prune forgets idle tenants that would begin anew where the least served one
// is anyway; of the others only so many are remembered.
func (s *Scheduler) prune() {
	least, any := s.leastServed()
	idle := 0
	for name, t := range s.tenants {
		if t.idle() {
			if idle++; !any || t.served <= least || idle > maxIdleTenants {
				delete(s.tenants, name)
			}
		}
	}
}

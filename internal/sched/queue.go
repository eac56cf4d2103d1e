package sched

import (
	"cmp"
	"math"
	"slices"
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
	if limit := s.cache.Capacity(); r.Limit > limit {
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
		t.served = max(t.served, s.least)
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

// prune finds the least served of those that wait or run, and forgets idle tenants
// that would begin there anyway; of the others only so many are remembered.
func (s *Scheduler) prune() {
	s.least = math.Inf(1)
	for _, t := range s.tenants {
		if !t.idle() {
			s.least = min(s.least, t.served)
		}
	}
	idle := 0
	for name, t := range s.tenants {
		if t.idle() {
			if idle++; t.served <= s.least || idle > maxIdleTenants {
				delete(s.tenants, name)
			}
		}
	}
	if len(s.tenants) == 0 {
		s.least = 0 // all begin anew
	}
}

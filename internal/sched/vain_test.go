package sched

import (
	"slices"
	"testing"
)

// TestNobodyGivesWayInVain: who couldn't start on what the permitted ones would
// give takes nothing from them.
func TestNobodyGivesWayInVain(t *testing.T) {
	setup := func(t *testing.T, places int) (b *bench, low, other *Sequence) {
		b = newBench(t, 10, places, nil)
		low = b.add(request(prompt(0, 3*page), page)) // 4 pages, with the next one
		other = request(prompt(1, 4*page), page)
		other.Priority = 1
		b.add(other)
		b.compute(b.plan(256))
		b.compute(b.plan(256))
		if low.Done == 0 || other.Done == 0 {
			t.Fatalf("%d and %d tokens are there", low.Done, other.Done)
		}
		return b, low, other
	}
	high := func(b *bench, n int) *Sequence {
		r := request(prompt(2, n), page)
		r.Priority = 1
		return b.add(r)
	}
	untouched := func(t *testing.T, b *bench, which ...*Sequence) {
		t.Helper()
		for _, r := range which {
			if r.pages == nil || r.Done == 0 || !slices.Contains(b.s.Running(), r) {
				t.Errorf("one of priority %d has %d tokens, pages %v", r.Priority, r.Done, r.pages != nil)
			}
		}
		if n := b.s.Preemptions(); n != 0 {
			t.Errorf("%d were preempted", n)
		}
		b.check()
	}
	t.Run("lower", func(t *testing.T) {
		b, low, other := setup(t, 4)
		high(b, 5*page) // 6 pages, where 10-5 can be had at most
		b.s.Admit()
		untouched(t, b, low, other)
	})
	t.Run("stalled", func(t *testing.T) {
		b, low, other := setup(t, 4)
		low.Stalled = true
		next := high(b, 5*page)
		next.Priority = 0
		b.s.Admit()
		untouched(t, b, low, other)
	})
	t.Run("in the last place", func(t *testing.T) {
		b, low, other := setup(t, 2)
		high(b, 5*page)
		b.s.Admit()
		untouched(t, b, low, other)
	})
	t.Run("it would do", func(t *testing.T) {
		for _, places := range []int{2, 4} {
			b, low, other := setup(t, places)
			r := high(b, 4*page)
			b.s.Admit()
			b.check()
			if r.pages == nil || other.pages == nil || low.pages != nil || b.s.Preemptions() != 1 {
				t.Errorf("%d places: it runs: %v, after %d preemptions", places, r.pages != nil, b.s.Preemptions())
			}
		}
	})
	t.Run("it would do with what they share", func(t *testing.T) {
		b := newBench(t, 10, 4, nil)
		shared := prompt(9, 6*page)
		for id := range int32(2) {
			b.add(request(slices.Concat(shared, prompt(id, page/2)), page))
		}
		for range 4 {
			b.compute(b.plan(250))
		}
		r := high(b, 8*page)
		b.s.Admit()
		b.check()
		if r.pages == nil || b.s.Preemptions() != 2 {
			t.Errorf("it runs: %v, after %d preemptions", r.pages != nil, b.s.Preemptions())
		}
	})
	t.Run("not with what others share", func(t *testing.T) {
		b := newBench(t, 10, 4, nil)
		shared := prompt(9, 6*page)
		for id := range int32(2) {
			r := request(slices.Concat(shared, prompt(id, page/2)), page)
			r.Priority = int(id)
			b.add(r)
		}
		for range 4 {
			b.compute(b.plan(250))
		}
		high(b, 3*page)
		b.s.Admit()
		untouched(t, b, b.live[0], b.live[1])
	})
	t.Run("its own prefix is no gain", func(t *testing.T) {
		b := newBench(t, 10, 4, nil)
		shared := prompt(9, 6*page)
		low := b.add(request(slices.Concat(shared, prompt(0, page/2)), page))
		other := request(prompt(1, page), 0)
		other.Priority = 1
		b.add(other)
		for range 4 {
			b.compute(b.plan(250))
		}
		r := request(slices.Concat(shared, prompt(2, 3*page)), page) // 10 in all
		r.Priority = 1
		b.add(r)
		b.s.Admit()
		untouched(t, b, low, other)
	})
	t.Run("what only plans to take pages", func(t *testing.T) {
		b := newBench(t, 10, 4, nil)
		low := b.add(request(prompt(0, 8*page), page)) // has a place, and no page yet
		b.s.Admit()
		r := high(b, 8*page)
		b.s.Admit()
		b.check()
		if r.pages == nil || low.pages != nil {
			t.Errorf("it runs: %v; the lower one has kept its claim: %v", r.pages != nil, low.pages != nil)
		}
	})
}

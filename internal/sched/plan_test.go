package sched

import (
	"slices"
	"testing"
)

// TestRowsAreBounded plans prompts that want logits for every token.
func TestRowsAreBounded(t *testing.T) {
	b := newBench(t, 100, 4, nil)
	for id := range int32(4) {
		r := request(prompt(id, 3*page), 0)
		r.From = int(id) * 10
		b.add(r)
	}
	for b.live[0].left() > 0 || b.live[3].left() > 0 {
		b.s.Admit()
		step, _ := b.s.Plan(Room{Tokens: 64, Rows: 7, Prefill: func(int, float64) float64 { return 60 }})
		rows, tokens := 0, 0
		for _, r := range step {
			rows += r.Rows
			tokens += r.Planned
			if want := max(min(r.Done+r.Planned-r.From, r.Planned), 0); r.Rows != want {
				t.Fatalf("%d rows for tokens %d to %d, logits are wanted from %d on", r.Rows, r.Done, r.Done+r.Planned, r.From)
			}
		}
		if len(step) == 0 || rows > 7 || tokens > 64 {
			t.Fatalf("%d sequences, %d rows, %d tokens", len(step), rows, tokens)
		}
		b.compute(step)
	}
}

// TestWorkGrowsWithPositions: where a token costs as much again for each page before
// it, a long prompt's later chunks are shorter, and one that has come less far has more
// tokens for the same work.
func TestWorkGrowsWithPositions(t *testing.T) {
	b := newBench(t, 100, 4, nil)
	long := b.add(request(prompt(0, 40*page), page))
	room := Room{
		Tokens: 256, Rows: 64, Work: func(position int) float64 { return 1 + float64(position)/page },
		Prefill: func(decoding int, work float64) float64 { return 60 - work },
	}
	plan := func() []*Sequence {
		b.s.Admit()
		step, _ := b.s.Plan(room)
		return step
	}
	for len(long.Tokens) == 40*page {
		step := plan()
		if want := max(1, int(60/room.Work(long.Done))); long.Planned > want || long.Planned < want-1 && long.Planned < long.left() {
			t.Fatalf("%d tokens from %d on, want %d", long.Planned, long.Done, want)
		}
		b.compute(step)
	}
	// It decodes now, which costs 41 of 60.
	short := b.add(request(prompt(1, 4*page), 1))
	plan()
	if short.Planned < 18 || short.Planned > 19 {
		t.Errorf("%d tokens beside one that has 40 pages", short.Planned)
	}
}

// TestStepsAreWholeUnits: a large step is a multiple of a unit, but where a prompt
// ends in it.
func TestStepsAreWholeUnits(t *testing.T) {
	for _, tt := range []struct{ prompt, budget, want int }{
		{300, 100, 96}, {300, 63, 63}, {300, 15, 15}, {90, 100, 90}, {300, 300, 256}, {300, 64, 64}, {300, 65, 64},
	} {
		b := newBench(t, 100, 4, nil)
		r := b.add(request(prompt(0, tt.prompt), 1))
		b.s.Admit()
		b.s.Plan(Room{Tokens: 256, Rows: 64, Unit: 16, Prefill: func(int, float64) float64 { return float64(tt.budget) }})
		if r.Planned != tt.want {
			t.Errorf("%d of %d tokens where there is room for %d, want %d", r.Planned, tt.prompt, tt.budget, tt.want)
		}
	}
}

// TestOneComputesForAll sends prompts that begin alike at once: what they share
// is computed once.
func TestOneComputesForAll(t *testing.T) {
	b := newBench(t, 100, 8, nil)
	var all []*Sequence
	for id := range int32(8) {
		all = append(all, b.add(request(slices.Concat(prompt(99, 4*page), prompt(id, 10)), 3)))
	}
	computed := 0
	for range 100 {
		step := b.plan(250) // room for more than one
		for _, r := range step {
			computed += r.Planned
		}
		b.compute(step)
		b.check()
	}
	cached := 0
	for _, r := range all {
		if len(r.Tokens) != r.Limit {
			t.Errorf("one has %d of %d tokens", len(r.Tokens), r.Limit)
		}
		cached += r.Cached
	}
	if want := 4*page + 8*(10+2); computed > want+page || cached < 7*4*page {
		t.Errorf("%d tokens were computed, %d would do; %d were cached", computed, want, cached)
	}
}

package sched

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/internal/kvcache"
	"github.com/dunlin-go/dunlin/tensor"
)

const page = kvcache.PageTokens

// bench is a scheduler on a cache of its own, and what was given to it.
type bench struct {
	t     testing.TB
	cache *kvcache.Cache
	s     *Scheduler
	live  []*Sequence

	window int // of most of the layers, 0 for none
}

func newBench(t testing.TB, pages, places int, weights map[string]float64) *bench {
	t.Helper()
	return newBenchOf(t, kvcache.Shape{Layers: 1, Heads: 1, HeadDim: 8, Type: tensor.F16}, pages, places, weights)
}

// hybrid is a shape of three groups of layers, two of them with a window.
func hybrid(window int) kvcache.Shape {
	return kvcache.Shape{Layers: 3, Heads: 1, HeadDim: 64, Type: tensor.F16, Windowed: []bool{true, false, true}, Window: window}
}

func newBenchOf(t testing.TB, shape kvcache.Shape, pages, places int, weights map[string]float64) *bench {
	t.Helper()
	cache, err := kvcache.New(shape, pages, budget.New(1<<30))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cache.Close(); err != nil {
			t.Error(err)
		}
	})
	return &bench{t: t, cache: cache, s: New(cache, places, weights), window: shape.Window}
}

// request makes a sequence of a prompt and an answer of at most so many tokens.
func request(prompt []int32, answer int) *Sequence {
	return &Sequence{Tokens: prompt, From: len(prompt) - 1, Limit: len(prompt) + answer}
}

func (b *bench) add(r *Sequence) *Sequence {
	b.t.Helper()
	if err := b.s.Add(r); err != nil {
		b.t.Fatal(err)
	}
	b.live = append(b.live, r)
	return r
}

func (b *bench) drop(which ...*Sequence) {
	b.s.Drop(func(r *Sequence) bool { return slices.Contains(which, r) })
	b.live = slices.DeleteFunc(b.live, func(r *Sequence) bool { return slices.Contains(which, r) })
}

// plan admits and plans a step of some tokens of prompts.
func (b *bench) plan(prefill int) []*Sequence {
	b.s.Admit()
	step, _ := b.s.Plan(Room{Tokens: 256, Rows: 64, Prefill: func(int, float64) float64 { return float64(prefill) }})
	return step
}

// compute ends a step; every sequence whose tokens are all known gets another.
func (b *bench) compute(step []*Sequence) {
	for _, r := range step {
		b.s.Advance(r)
		if r.left() == 0 && len(r.Tokens) < r.Limit {
			b.s.Append(r, int32(len(r.Tokens)))
		}
	}
}

func (b *bench) check() {
	b.t.Helper()
	if err := b.s.Check(); err != nil {
		b.t.Fatal(err)
	}
}

// prompt is n tokens that no other id shares.
func prompt(id int32, n int) []int32 { return slices.Repeat([]int32{1000 + id}, n) }

func TestRefusesWhatCanNeverFit(t *testing.T) {
	b := newBench(t, 3, 4, nil)
	var large *TooLargeError
	if err := b.s.Add(request(prompt(0, 90), 7)); !errors.As(err, &large) || large.Tokens != 97 || large.Limit != 96 {
		t.Errorf("97 tokens for 3 pages: %v", err)
	}
	b.add(request(prompt(0, 90), 6))
}

// TestPriorities: what waits with a higher priority comes first, and takes the
// place of what runs with a lower one, which goes on later where it was.
func TestPriorities(t *testing.T) {
	b := newBench(t, 20, 1, nil)
	low := b.add(request(prompt(0, 2*page), 50))
	b.compute(b.plan(100))
	b.compute(b.plan(100))
	high := request(prompt(1, page), 5)
	high.Priority = 2
	middle := request(prompt(2, page), 5)
	middle.Priority = 1
	b.add(middle)
	b.add(high)
	for _, want := range []*Sequence{high, middle, low} {
		if step := b.plan(100); len(step) != 1 || step[0] != want {
			t.Fatalf("the step has %d sequences of priority %d, want one of %d", len(step), step[0].Priority, want.Priority)
		}
		b.check()
		if want == low {
			break
		}
		b.drop(want)
	}
	if low.Done != 2*page || b.s.Preemptions() != 1 {
		t.Errorf("after %d preemptions %d of %d tokens are there still", b.s.Preemptions(), low.Done, len(low.Tokens))
	}
}

// TestTenantsShareByWeight lets three tenants with weights 1, 1 and 2 always
// have requests in the queue: their tokens are as their weights. One that sends
// far more gets no more.
func TestTenantsShareByWeight(t *testing.T) {
	b := newBench(t, 100, 4, map[string]float64{"heavy": 2})
	rng := rand.New(rand.NewPCG(1, 2))
	served := map[string]int{}
	send := func(tenant string, n int) {
		for range n {
			r := request(prompt(rng.Int32(), 1+rng.IntN(page)), 1+rng.IntN(20))
			r.Tenant = tenant
			b.add(r)
		}
	}
	send("greedy", 500)
	send("light", 20)
	send("heavy", 20)
	for range 2000 {
		step := b.plan(64)
		for _, r := range step {
			served[r.Tenant] += r.Planned
		}
		b.compute(step)
		var ended []*Sequence
		for _, r := range step {
			if len(r.Tokens) == r.Limit {
				ended = append(ended, r)
				send(r.Tenant, 1)
			}
		}
		b.drop(ended...)
	}
	b.check()
	for tenant, want := range map[string]float64{"greedy": 1, "heavy": 2} {
		if got := float64(served[tenant]) / float64(served["light"]); got < want*0.95 || got > want*1.05 {
			t.Errorf("%s was served %.2f times what light was, want %.0f: %v", tenant, got, want, served)
		}
	}
}

// TestPausesSaveNothing: a tenant that comes back doesn't get what it left to
// others.
func TestPausesSaveNothing(t *testing.T) {
	b := newBench(t, 100, 1, nil)
	send := func(tenant string, n int) {
		for range n {
			r := request(prompt(int32(b.s.arrived), 10), 1)
			r.Tenant = tenant
			b.add(r)
		}
	}
	turn := func() string {
		step := b.plan(100)
		b.compute(step)
		b.drop(step[0])
		return step[0].Tenant
	}
	send("busy", 200)
	for range 100 {
		turn()
	}
	send("late", 50)
	late := 0
	for range 20 {
		if turn() == "late" {
			late++
		}
	}
	if late < 9 || late > 11 {
		t.Errorf("of 20 turns after its pause the tenant got %d", late)
	}
	b.drop(b.live...)
	if len(b.s.tenants) != 0 {
		t.Errorf("%d tenants are remembered, and nobody waits", len(b.s.tenants))
	}
}

// TestPreemption runs two answers that together need more pages than there are:
// the younger gives way, and comes to its end when the other one has.
func TestPreemption(t *testing.T) {
	b := newBench(t, 6, 2, nil)
	old := b.add(request(prompt(0, page), 4*page))
	young := b.add(request(prompt(1, page), 4*page))
	for range 20 * page {
		step := b.plan(2 * page)
		b.check()
		b.compute(step)
		b.check()
		if len(old.Tokens) == old.Limit {
			break
		}
	}
	if b.s.Preemptions() == 0 || len(old.Tokens) != old.Limit || len(young.Tokens) >= young.Limit {
		t.Fatalf("%d preemptions, the old one has %d tokens of %d, the young %d", b.s.Preemptions(), len(old.Tokens), old.Limit, len(young.Tokens))
	}
	known := slices.Clone(young.Tokens)
	b.drop(old)
	for range 20 * page {
		b.compute(b.plan(2 * page))
	}
	if len(young.Tokens) != young.Limit || !slices.Equal(young.Tokens[:len(known)], known) {
		t.Errorf("the young one has %d tokens of %d", len(young.Tokens), young.Limit)
	}
}

// TestStalledGiveWayFirst: the pages of one whose reader is behind go to those
// that can go on, whatever their rank.
func TestStalledGiveWayFirst(t *testing.T) {
	b := newBench(t, 4, 4, nil)
	old := b.add(request(prompt(0, 2*page), page))
	b.compute(b.plan(100))
	old.Stalled = true
	young := b.add(request(prompt(1, 3*page), page))
	step := b.plan(100)
	if !slices.Equal(step, []*Sequence{young}) {
		t.Fatalf("the step has %v", step)
	}
	b.compute(step)
	b.check()
	old.Stalled = false
	if step := b.plan(100); !slices.Equal(step, []*Sequence{young}) {
		t.Errorf("the step has %v, and there are no pages for two", step)
	}
	b.drop(young)
	// What comes with a higher priority has the pages first.
	high := request(prompt(2, 3*page), page)
	high.Priority = 1
	b.add(high)
	before := b.s.Preemptions()
	if step := b.plan(100); !slices.Equal(step, []*Sequence{high}) || b.s.Preemptions() != before {
		t.Errorf("the step has %v, %d were preempted", step, b.s.Preemptions()-before)
	}
	b.drop(high)
	if step := b.plan(100); !slices.Equal(step, []*Sequence{old}) {
		t.Errorf("the step has %v, and there are pages again", step)
	}
}

// TestNobodyInTheStepGivesWay: a prompt that finds no page may not take those of
// a younger answer that is in the step already, only when that needs one itself.
func TestNobodyInTheStepGivesWay(t *testing.T) {
	b := newBench(t, 6, 2, nil)
	old := b.add(request(prompt(0, 4*page), 0))
	b.compute(b.plan(20)) // it comes to the end of a page first
	young := b.add(request(prompt(1, 5), 5*page))
	prefill := 8 // until the young one answers
	passed := false
	for range 20 * page {
		step := b.plan(prefill)
		for _, r := range step {
			if r.pages == nil {
				t.Fatal("one in the step has no pages")
			}
		}
		passed = passed || len(step) == 1 && step[0] == young && old.left() > 0 && b.cache.Available() == 0
		b.compute(step)
		b.check()
		if len(young.Tokens) > 5 {
			prefill = 1
		}
		if old.left() == 0 {
			break
		}
	}
	if !passed || b.s.Preemptions() != 1 || old.left() != 0 {
		t.Errorf("the old one had to wait: %v; it has %d tokens left after %d preemptions", passed, old.left(), b.s.Preemptions())
	}
}

// TestAdmissionLeavesPages: nobody gets pages that one who runs needs for its
// prompt, and would have to give up at once.
func TestAdmissionLeavesPages(t *testing.T) {
	b := newBench(t, 7, 4, nil)
	b.add(request(prompt(0, 3*page), page))
	late := b.add(request(prompt(1, 3*page), page))
	b.plan(10)
	if n := len(b.s.Running()); n != 1 {
		t.Errorf("%d run on 7 pages, each needs 4", n)
	}
	small := request(prompt(2, page), page)
	b.drop(late)
	b.add(small)
	b.plan(10)
	if n := len(b.s.Running()); n != 2 {
		t.Errorf("%d run on 7 pages, one needs 4 and one 2", n)
	}
}

// TestWindowsMakeRoom: a prompt that is longer than the cache has blocks comes to
// its end, and gives pages back while it is computed; two that together have more
// tokens than one group of layers would let in run at once.
func TestWindowsMakeRoom(t *testing.T) {
	shape := hybrid(2 * page)
	one := shape.PagesFor(20 * page)
	b := newBenchOf(t, shape, one, 2, nil)
	if n := b.cache.Capacity(); n != 20*page || one >= 3*20 {
		t.Fatalf("%d pages are for %d tokens", one, n)
	}
	var large *TooLargeError
	if err := b.s.Add(request(prompt(0, 20*page), 1)); !errors.As(err, &large) || large.Limit != 20*page {
		t.Errorf("a token too many: %v", err)
	}
	r := b.add(request(prompt(0, 19*page), page))
	steps := 0
	for ; r.left() > 0 || len(r.Tokens) < r.Limit; steps++ {
		b.compute(b.plan(4 * page))
		b.check()
		if n, most := b.cache.Used(), kvcache.Blocks(r.Done)+2*3; n > most {
			t.Fatalf("after %d tokens %d pages are held, %d would do", r.Done, n, most)
		}
	}
	if most := 19/3 + page + 2; b.s.Preemptions() != 0 || steps > most {
		t.Errorf("%d preemptions, %d steps of at most %d", b.s.Preemptions(), steps, most)
	}
	b.drop(r)
	b = newBenchOf(t, shape, 2*one, 3, nil)
	for id := range int32(3) {
		b.add(request(prompt(id, 19*page), page))
	}
	b.plan(4 * page)
	if n := len(b.s.Running()); n != 2 {
		t.Errorf("%d run on pages for two", n)
	}
	for b.live[1].left() > 0 {
		b.compute(b.plan(4 * page))
		b.check()
	}
	if b.s.Preemptions() != 0 {
		t.Error("one of two was preempted")
	}
}

// TestSharedPagesCountOnce: what others hold already isn't missing for one who begins
// with it.
func TestSharedPagesCountOnce(t *testing.T) {
	for _, tc := range []struct {
		shape kvcache.Shape
		pages int // 9 and the other's last one; windows of up to 4 blocks, of which 2 are shared
	}{{kvcache.Shape{Layers: 1, Heads: 1, HeadDim: 8, Type: tensor.F16}, 10}, {hybrid(2 * page), 9 + 2*4 + 1 + 2*2}} {
		for spare, want := range []int{1, 2} {
			b := newBenchOf(t, tc.shape, tc.pages-1+spare, 2, nil)
			for id := range int32(2) {
				b.add(request(slices.Concat(prompt(9, 8*page), prompt(id, 5)), 2))
				b.compute(b.plan(250))
				b.compute(b.plan(250))
				b.check()
			}
			if n := len(b.s.Running()); n != want {
				t.Errorf("a window of %d: %d run on %d pages, want %d", tc.shape.Window, n, b.cache.Pages(), want)
			}
		}
	}
}

// TestOneComputesForAllMidPage has one that is longer begin, in steps that end in the
// middle of a page: the shorter one still waits for what they share.
func TestOneComputesForAllMidPage(t *testing.T) {
	for _, size := range []int{16, 48, 100, 200} {
		b := newBench(t, 200, 8, nil)
		shared := prompt(99, 31*page+8)
		for id, tail := range []int{70, 9} {
			b.add(request(slices.Concat(shared, prompt(int32(id), tail)), 1))
		}
		computed := 0
		for range 400 {
			step := b.plan(size)
			for _, r := range step {
				computed += r.Planned
			}
			b.compute(step)
			b.check()
		}
		if want := len(shared) + 70 + 9 + page; computed > want {
			t.Errorf("steps of %d: %d tokens were computed, %d would do", size, computed, want)
		}
	}
}

// TestRandomOperations plays tens of thousands of random operations against a
// simple model: a map of what was sent and how far it must be. Set the seed to
// repeat one.
func TestRandomOperations(t *testing.T) {
	seeds, operations := 40, 2000
	if testing.Short() {
		seeds = 10
	}
	var preemptions, cached int64
	for seed := range seeds {
		if !t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			p, c := play(t, uint64(seed), operations)
			preemptions, cached = preemptions+p, cached+c
		}) {
			return
		}
	}
	t.Logf("%d preemptions, %d tokens from the cache", preemptions, cached)
	if preemptions < 100 || cached < 100 {
		t.Error("too little happened")
	}
}

// expected is what the model knows of a sequence.
type expected struct {
	prompt   []int32
	wanted   int // the first position whose logits are wanted
	answered int // positions whose logits were given
	limit    int
}

func play(t *testing.T, seed uint64, operations int) (preemptions, cached int64) {
	rng := rand.New(rand.NewPCG(seed, 9))
	places := 1 + rng.IntN(8)
	shape, pages := kvcache.Shape{Layers: 1, Heads: 1, HeadDim: 8, Type: tensor.F16}, 2+rng.IntN(30)
	if seed%2 == 1 {
		shape, pages = hybrid(1+rng.IntN(120)), 3+rng.IntN(60)
	}
	b := newBenchOf(t, shape, pages, places, map[string]float64{"a": 3})
	model := map[*Sequence]*expected{}
	capacity := b.cache.Capacity()
	for op := range operations {
		switch rng.IntN(8) {
		case 0, 1:
			// Prompts that begin alike, and differ somewhere.
			n := 1 + rng.IntN(capacity)
			ids := make([]int32, n)
			for i, at := 0, rng.IntN(n+1); i < n; i++ {
				if i >= at {
					ids[i] = rng.Int32N(2)
				}
			}
			r := request(ids, rng.IntN(1+[]int{40, 300}[rng.IntN(2)]))
			r.Tenant, r.Salt, r.Priority = string("abc"[rng.IntN(3)]), string("xy"[rng.IntN(2)]), rng.IntN(3)
			if rng.IntN(4) == 0 {
				r.From, r.Limit = rng.IntN(n), n
			}
			err := b.s.Add(r)
			if large := (*TooLargeError)(nil); errors.As(err, &large) != (r.Limit > capacity) {
				t.Fatalf("operation %d: %d tokens for %d: %v", op, r.Limit, capacity, err)
			}
			if err == nil {
				b.live = append(b.live, r)
				model[r] = &expected{slices.Clone(ids), r.From, r.From, r.Limit}
			}
		case 2:
			if len(b.live) > 0 { // canceled, wherever it is
				r := b.live[rng.IntN(len(b.live))]
				delete(model, r)
				b.drop(r)
			}
		case 3:
			if n := len(b.s.Running()); n > 0 { // its reader stops, or goes on
				r := b.s.Running()[rng.IntN(n)]
				r.Stalled = !r.Stalled
			}
		case 4:
			b.plan(rng.IntN(100) + 1) // a step that failed: nothing advances
		default:
			step := b.plan(rng.IntN(100) + 1)
			b.verify(op, model, step, places)
			for _, r := range step {
				m := model[r]
				if first := r.Done + r.Planned - r.Rows; r.Rows > 0 {
					if first != m.answered {
						t.Fatalf("operation %d: logits from %d on, they were given up to %d", op, first, m.answered)
					}
					m.answered += r.Rows
				}
				b.s.Advance(r)
				if r.left() == 0 && len(r.Tokens) < r.Limit {
					b.s.Append(r, rng.Int32N(2))
				} else if r.left() == 0 {
					if m.answered != m.limit {
						t.Fatalf("operation %d: it ended after logits for %d of %d", op, m.answered, m.limit)
					}
					cached += int64(r.Cached)
					delete(model, r)
					b.drop(r)
				}
			}
		}
		b.check()
	}
	// Whatever happened, all that are still there come to their ends.
	for rounds := 0; len(b.live) > 0; rounds++ {
		for _, r := range b.live {
			r.Stalled = false
		}
		step := b.plan(50)
		b.verify(-1, model, step, places)
		if rounds > 1_000_000 {
			t.Fatalf("%d never end", len(b.live))
		}
		for _, r := range step {
			b.s.Advance(r)
			if r.left() == 0 && len(r.Tokens) < r.Limit {
				b.s.Append(r, 1)
			} else if r.left() == 0 {
				b.drop(r)
			}
		}
		b.check()
	}
	if b.cache.Available() != b.cache.Pages() || b.s.Waiting() != 0 || len(b.s.tenants) != 0 {
		t.Errorf("%d of %d pages are left, %d wait, %d tenants", b.cache.Available(), b.cache.Pages(), b.s.Waiting(), len(b.s.tenants))
	}
	return b.s.Preemptions(), cached
}

// unseen reports whether a page is missing that the planned tokens look at, or
// there that they don't.
func (b *bench) unseen(r *Sequence) bool {
	n := b.cache.TableLen(1)
	for i, p := range r.Table() {
		windowed := i%n > 0
		if seen := b.window == 0 || !windowed || i/n >= max(0, r.Done+1-b.window)/page; seen != (p >= 0) {
			return true
		}
	}
	return false
}

// verify holds a plan to what the model says.
func (b *bench) verify(op int, model map[*Sequence]*expected, step []*Sequence, places int) {
	b.t.Helper()
	fail := func(format string, args ...any) {
		b.t.Helper()
		b.t.Fatalf("operation %d: %s", op, fmt.Sprintf(format, args...))
	}
	running := b.s.Running()
	if len(running) > places || len(running)+b.s.Waiting() != len(b.live) {
		fail("%d run in %d places, %d wait, %d are there", len(running), places, b.s.Waiting(), len(b.live))
	}
	if !slices.IsSortedFunc(running, byRank) {
		fail("those that run are out of order")
	}
	tokens, ready := 0, 0
	for _, r := range running {
		if !r.Stalled {
			ready++
		}
	}
	if len(step) == 0 && ready > 0 {
		fail("%d could go on, and nobody does", ready)
	}
	if b.s.Waiting() > 0 && len(running) == 0 {
		fail("%d wait, and nobody runs", b.s.Waiting())
	}
	for i, r := range step {
		m := model[r]
		tokens += r.Planned
		switch {
		case slices.Contains(step[:i], r), r.Stalled, m == nil, r.Planned < 1, !slices.Contains(running, r):
			fail("what is in the step shouldn't be: %+v", r)
		case r.Done+r.Planned > len(r.Tokens), r.pages.Room() < r.Done+r.Planned:
			fail("%d tokens from %d on, of %d, with room for %d", r.Planned, r.Done, len(r.Tokens), r.pages.Room())
		case b.unseen(r):
			fail("%d tokens from %d on, a window of %d, on the pages %v", r.Planned, r.Done, b.window, r.Table())
		case !slices.Equal(r.Tokens[:len(m.prompt)], m.prompt):
			fail("the prompt has changed")
		case r.Cached >= max(len(m.prompt), 1) || r.Cached > m.wanted:
			fail("%d of %d tokens are cached, logits are wanted from %d on", r.Cached, len(m.prompt), m.wanted)
		}
	}
	if tokens > 256 {
		fail("%d tokens in a step", tokens)
	}
}

package tensor

import (
	"sync/atomic"

	"github.com/dunlin-go/dunlin/tensor/internal/kernel"
)

// spanKeys is how many keys the online softmax of a query takes before it
// begins anew. It is part of what fixes the bits of a result.
const spanKeys = 16 * PageTokens

// Bounds of what is cut in spans.
const (
	// partsPerThread says what a large tile is: one that would be more than a
	// thread's share of all work, cut in so many. Others balance well enough.
	partsPerThread = 8
	// spanStates is how many queries' spans there is memory for, for each
	// thread. Tiles that come when it is used up are not cut.
	spanStates = 64 * tileQueries
)

// attentionParts is how attention is divided among threads: by tile and key
// head, and the large tiles by span too, where a prompt, or a single token that
// looks far back, would else be the work of one thread.
type attentionParts struct {
	parts []attentionPart
	// Of tiles that are cut: each span's results, and at a tile's first slots,
	// for each key head, how many spans are left to compute.
	states *kernel.States
	left   []atomic.Int32
}

// attentionPart is a tile or a span of one: tokens [from, to) of the batch.
type attentionPart struct {
	from, to    int
	first, last int // spans that the tile sees
	slot        int // of the tile's first state, or -1: the whole tile
	span        int // where it is one
}

// spans is how many spans the tile sees.
func (p *attentionPart) spans() int { return p.last - p.first + 1 }

// divide makes the parts of the batch, and returns how many pairs of a token and a
// position there are, about.
func (t *attentionTask) divide() (pairs int) {
	b, heads := t.b, t.kv.Heads
	t.parts = t.parts[:0]
	most := max(1, tileQueries*heads/t.Heads) // tokens of a tile
	for from := 0; from < b.Len(); {
		to := from + 1
		for to < b.Len() && b.Seqs[to] == b.Seqs[from] && to-from < most {
			to++
		}
		p := attentionPart{from: from, to: to, slot: -1, first: t.windowStart(from) / spanKeys, last: int(b.Positions[to-1]) / spanKeys}
		t.parts = append(t.parts, p)
		pairs += t.work(&p)
		from = to
	}
	used := 0
	for i := range len(t.parts) { // more come behind them
		p := t.parts[i]
		need := (p.to - p.from) * t.Heads * p.spans()
		if p.spans() == 1 || t.work(&p)*partsPerThread*t.c.limits.Threads <= pairs*heads ||
			t.Heads/heads > tileQueries || used+need > t.states.Len() {
			continue
		}
		p.slot = used
		used += need
		for h := range heads {
			t.left[p.slot+h].Store(int32(p.spans()))
		}
		for p.span = p.first; p.span < p.last; p.span++ {
			t.parts = append(t.parts, p)
		}
		t.parts[i] = p // the last one
	}
	return pairs
}

// work is about what a tile's attention costs a key head.
func (t *attentionTask) work(p *attentionPart) int {
	return (p.to - p.from) * (int(t.b.Positions[p.to-1]) + 1 - t.windowStart(p.from))
}

// span computes a tile's attention to one span. Whoever comes last folds them all.
func (t *attentionTask) span(w *worker, p *attentionPart, kvHead, group int) {
	head, queries := kvHead*group, (p.to-p.from)*group
	t.begin(w.queries, p, head, group)
	t.walk(w.queries, p, p.span, kvHead, group)
	slot := func(span int) int { return p.slot + ((span-p.first)*t.kv.Heads+kvHead)*queries }
	for i := range queries {
		t.states.Reset(slot(p.span) + i)
		t.c.set.Fold(t.states, slot(p.span)+i, &w.queries.States, i)
	}
	if t.left[p.slot+kvHead].Add(-1) > 0 {
		return
	}
	for i := range queries {
		w.folded.Reset(i)
		for span := p.first; span <= p.last; span++ {
			t.c.set.Fold(w.folded, i, t.states, slot(span)+i)
		}
	}
	t.end(w.folded, p, head, group)
}

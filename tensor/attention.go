package tensor

import (
	"math"
	"time"

	"github.com/dunlin-go/dunlin/tensor/internal/kernel"
)

// StoreKV writes the keys and values `[tokens, heads, headDim]` of a batch to
// their pages of the cache. Where rope isn't nil, it rotates the keys before that,
// and the queries `[tokens, query heads, headDim]`, in place. An element of a key that
// would be infinite there becomes NaN: its score could be minus infinity, whose
// weight is 0, and nobody would see that the key was lost.
func (c *Compute) StoreKV(kv *KV, layer int, queries, keys, values []float32, rope *RopeTable, b *Batch) {
	check(b.Len() > 0 && len(keys) == len(values) && len(keys) == b.Len()*kv.Heads*kv.HeadDim && kv.HeadDim == c.limits.HeadDim, "StoreKV")
	check(rope == nil || rope.dims <= kv.HeadDim && len(queries) > 0 && len(queries)%(b.Len()*kv.HeadDim) == 0, "StoreKV")
	group, groups, at := kv.place(layer)
	c.store = storeTask{c: c, kv: kv, group: group, groups: groups, layer: at, queries: queries, keys: keys, values: values, rope: rope, b: b}
	c.step.Do(&c.store, b.Len(), tokenGrain)
}

type storeTask struct {
	c                     *Compute
	kv                    *KV
	group, groups, layer  int // its place on the group's pages
	queries, keys, values []float32
	rope                  *RopeTable
	b                     *Batch
}

func (t *storeTask) Do(worker, lo, hi int) {
	kv, dim := t.kv, t.kv.HeadDim
	w := &t.c.workers[worker]
	for i := lo; i < hi; i++ {
		if t.rope != nil {
			n := len(t.queries) / t.b.Len()
			t.rope.rotate(t.c.set, t.queries[i*n:(i+1)*n], dim, i)
			n = kv.Heads * dim
			t.rope.rotate(t.c.set, t.keys[i*n:(i+1)*n], dim, i)
		}
		pos := int(t.b.Positions[i])
		page := t.b.Tables[t.b.Seqs[i]][pos/PageTokens*t.groups+t.group]
		for h := range kv.Heads {
			from := (i*kv.Heads + h) * dim
			k, v := kv.at(page, t.layer, h)
			at := pos % PageTokens
			key, value := t.keys[from:from+dim], t.values[from:from+dim]
			switch {
			case kv.Q8 != nil:
				t.c.set.StoreKeyQ8(kv.Q8[k:k+kv.block()], at, key, w.quantised)
				t.c.set.StoreValueQ8(kv.Q8[v:v+kv.block()], at, value, w.quantised)
			case kv.F16 != nil:
				t.c.set.ToF16(w.half, key)
				storeKeyF16(kv.F16[k+at:], w.half)
				t.c.set.ToF16(kv.F16[v+at*dim:][:dim], value)
			default:
				storeKeyF32(kv.F32[k+at:], key)
				copy(kv.F32[v+at*dim:][:dim], value)
			}
		}
	}
}

// storeKeyF16 makes a key's elements every PageTokens'th of dst.
func storeKeyF16(dst, key []uint16) {
	for i, h := range key {
		dst[i*PageTokens] = kernel.NoInfinity(h)
	}
}

func storeKeyF32(dst, key []float32) {
	for i, x := range key {
		dst[i*PageTokens] = x - (x - x) // NaN of an infinite one
	}
}

// tileQueries is how many queries meet a block of keys before the next block
// comes: enough for kernels that take 12 at once, and few enough to stay in the
// first cache. A tile is some consecutive tokens of one sequence, with those of
// their query heads that share a key head.
const tileQueries = 24

// AttentionOptions are what attention is besides causal.
type AttentionOptions struct {
	Heads  int     // of queries, a multiple of the key heads
	Scale  float32 // factor of the scores; 0: 1/sqrt(headDim)
	Window int     // a token attends to so many positions at most, its own the last; 0: to all
}

// Attention sets out `[tokens, heads, headDim]` to the causal grouped-query
// attention of q, of the same shape, over the cache: each token attends to the
// positions of its sequence up to its own, whose keys and values are stored, or
// to the last of them where there is a window.
//
// Every query walks the keys of its window page by page in ascending order with
// an online softmax, which begins anew at each multiple of spanKeys; the spans'
// results are folded in their order. So its result depends on nothing but its
// own sequence, and different threads can have different spans.
//
// Source: Ainslie et al. 2023 (grouped queries), https://arxiv.org/abs/2305.13245;
// Dao et al. 2022 (tiles), https://arxiv.org/abs/2205.14135; Beltagy et al. 2020
// (windows), https://arxiv.org/abs/2004.05150.
func (c *Compute) Attention(out, q []float32, o AttentionOptions, kv *KV, layer int, b *Batch) {
	check(len(q) > 0 && len(out) == len(q) && len(q) == b.Len()*o.Heads*kv.HeadDim && o.Heads%kv.Heads == 0 && o.Window >= 0 && kv.HeadDim == c.limits.HeadDim, "Attention")
	if o.Scale == 0 {
		o.Scale = float32(1 / math.Sqrt(float64(kv.HeadDim)))
	}
	t := &c.attention
	t.group, t.groups, t.layer = kv.place(layer)
	t.c, t.kv, t.b, t.out, t.q, t.AttentionOptions = c, kv, b, out, q, o
	began := time.Now()
	pairs := t.divide()
	c.step.Do(t, len(t.parts)*kv.Heads, 1)
	c.attended.Pairs += pairs
	c.attended.Took += time.Since(began)
}

// AttentionCost is what attention has cost in a step.
type AttentionCost struct {
	Pairs int // of a token and a position that it attends to, about, over all layers
	Took  time.Duration
}

// AttentionCost is what attention has cost in the step that runs, or did last. Unlike
// the rest of a step it grows with the tokens' positions.
func (c *Compute) AttentionCost() AttentionCost { return c.attended }

type attentionTask struct {
	c                    *Compute
	kv                   *KV
	group, groups, layer int // its place on the group's pages
	b                    *Batch
	out, q               []float32
	AttentionOptions
	attentionParts
}

// Do takes pairs of a part and a key head.
func (t *attentionTask) Do(worker, lo, hi int) {
	w := &t.c.workers[worker]
	group := t.Heads / t.kv.Heads
	for i := lo; i < hi; i++ {
		p, kvHead := &t.parts[i/t.kv.Heads], i%t.kv.Heads
		if p.slot >= 0 {
			t.span(w, p, kvHead, group)
			continue
		}
		for h := 0; h < group; h += tileQueries {
			t.whole(w, p, kvHead, kvHead*group+h, min(tileQueries, group-h))
		}
	}
}

// whole computes the attention of n heads from head on, for all tokens of a tile.
func (t *attentionTask) whole(w *worker, p *attentionPart, kvHead, head, n int) {
	t.begin(w.queries, p, head, n)
	if p.spans() == 1 {
		t.walk(w.queries, p, p.first, kvHead, n)
		t.end(&w.queries.States, p, head, n)
		return
	}
	queries := (p.to - p.from) * n
	for i := range queries {
		w.folded.Reset(i)
	}
	for span := p.first; span <= p.last; span++ {
		t.walk(w.queries, p, span, kvHead, n)
		for i := range queries {
			t.c.set.Fold(w.folded, i, &w.queries.States, i)
		}
	}
	t.end(w.folded, p, head, n)
}

// at is where a token's query lies, and its result.
func (t *attentionTask) at(token, head int) int { return (token*t.Heads + head) * t.kv.HeadDim }

func (t *attentionTask) begin(qs *kernel.Queries, p *attentionPart, head, n int) {
	for token := p.from; token < p.to; token++ {
		for h := range n {
			t.c.set.Begin(qs, (token-p.from)*n+h, t.q[t.at(token, head+h):][:t.kv.HeadDim], t.Scale)
		}
	}
}

func (t *attentionTask) end(st *kernel.States, p *attentionPart, head, n int) {
	for token := p.from; token < p.to; token++ {
		for h := range n {
			t.c.set.End(st, (token-p.from)*n+h, t.out[t.at(token, head+h):][:t.kv.HeadDim])
		}
	}
}

// walk lets the tile attend to what it sees of a span, page by page.
func (t *attentionTask) walk(qs *kernel.Queries, p *attentionPart, span, kvHead, n int) {
	pages := t.b.Tables[t.b.Seqs[p.from]]
	// Pages before the first token's window are before the others', too.
	first := max(t.windowStart(p.from), span*spanKeys) / PageTokens
	last := min(int(t.b.Positions[p.to-1]), (span+1)*spanKeys-1) / PageTokens
	for i := first; i <= last; i++ {
		if i+pagesAhead <= last {
			t.prefetch(pages[(i+pagesAhead)*t.groups+t.group], kvHead)
		}
		t.block(qs, pages[i*t.groups+t.group], i*PageTokens, p.from, p.to, kvHead, n)
	}
}

// pagesAhead is how far ahead of the page at hand memory is fetched. Pages lie apart, so
// the CPU can't guess which comes next; where one token decodes, a page's products take
// about as long as reading it.
const pagesAhead = 1

// prefetch fetches what is on a page of a head.
func (t *attentionTask) prefetch(page int32, kvHead int) {
	kv, set := t.kv, t.c.set
	k, v := kv.at(page, t.layer, kvHead)
	keysEnd, valuesEnd := k+kv.block(), v+kv.block()
	switch {
	case kv.Q8 != nil:
		kernel.PrefetchAll(set, kv.Q8[k:keysEnd])
		kernel.PrefetchAll(set, kv.Q8[v:valuesEnd])
	case kv.F16 != nil:
		kernel.PrefetchAll(set, kv.F16[k:keysEnd])
		kernel.PrefetchAll(set, kv.F16[v:valuesEnd])
	default:
		kernel.PrefetchAll(set, kv.F32[k:keysEnd])
		kernel.PrefetchAll(set, kv.F32[v:valuesEnd])
	}
}

// windowStart is the first position that a token attends to.
func (t *attentionTask) windowStart(token int) int {
	if t.Window == 0 {
		return 0
	}
	return max(0, int(t.b.Positions[token])+1-t.Window)
}

// seen is which keys of the page whose first position is start a token attends
// to: [lo, hi), empty where it is none.
func (t *attentionTask) seen(token, start int) (lo, hi int) {
	hi = max(0, min(int(t.b.Positions[token])+1-start, PageTokens))
	return min(hi, max(0, t.windowStart(token)-start)), hi
}

// block lets the tile attend to a page. Tokens see different parts of it where
// it has their own positions, and where their windows begin.
func (t *attentionTask) block(qs *kernel.Queries, page int32, start, from, to, kvHead, n int) {
	kv, set := t.kv, t.c.set
	k, v := kv.at(page, t.layer, kvHead)
	keysEnd, valuesEnd := k+kv.block(), v+kv.block()

	for i := from; i < to; {
		lo, hi := t.seen(i, start)
		j := i + 1
		for ; j < to; j++ {
			if l, h := t.seen(j, start); l != lo || h != hi {
				break
			}
		}
		switch a, b := (i-from)*n, (j-from)*n; {
		case kv.Q8 != nil:
			set.AttendQ8(qs, a, b, kv.Q8[k:keysEnd], kv.Q8[v:valuesEnd], lo, hi)
		case kv.F16 != nil:
			set.AttendF16(qs, a, b, kv.F16[k:keysEnd], kv.F16[v:valuesEnd], lo, hi)
		default:
			set.AttendF32(qs, a, b, kv.F32[k:keysEnd], kv.F32[v:valuesEnd], lo, hi)
		}
		i = j
	}
}

package tensor

import (
	"math"

	"github.com/dunlin-go/dunlin/tensor/internal/kernel"
)

// StoreKV writes the keys and values `[tokens, heads, headDim]` of a batch to
// their pages of the cache. Where rope isn't nil, it rotates the keys before that,
// and the queries `[tokens, query heads, headDim]`, in place.
func (c *Compute) StoreKV(kv *KV, layer int, queries, keys, values []float32, rope *RopeTable, b *Batch) {
	check(len(keys) == len(values) && len(keys) == b.Len()*kv.Heads*kv.HeadDim, "StoreKV")
	check(rope == nil || rope.dims <= kv.HeadDim && len(queries)%(b.Len()*kv.HeadDim) == 0, "StoreKV")
	c.store = storeTask{c: c, kv: kv, layer: layer, queries: queries, keys: keys, values: values, rope: rope, b: b}
	c.step.Do(&c.store, b.Len(), tokenGrain)
}

type storeTask struct {
	c                     *Compute
	kv                    *KV
	layer                 int
	queries, keys, values []float32
	rope                  *RopeTable
	b                     *Batch
}

func (t *storeTask) Do(_, lo, hi int) {
	kv, dim := t.kv, t.kv.HeadDim
	for i := lo; i < hi; i++ {
		if t.rope != nil {
			n := len(t.queries) / t.b.Len()
			t.rope.rotate(t.c.set, t.queries[i*n:(i+1)*n], dim, i)
			n = kv.Heads * dim
			t.rope.rotate(t.c.set, t.keys[i*n:(i+1)*n], dim, i)
		}
		pos := int(t.b.Positions[i])
		page := t.b.Tables[t.b.Seqs[i]][pos/kv.PageTokens]
		for h := range kv.Heads {
			from := (i*kv.Heads + h) * dim
			k := kv.keys(page, t.layer, h) + pos%kv.PageTokens*dim
			v := k + kv.blockHeads()
			if kv.F16 != nil {
				t.c.set.ToF16(kv.F16[k:k+dim], t.keys[from:from+dim])
				t.c.set.ToF16(kv.F16[v:v+dim], t.values[from:from+dim])
				continue
			}
			copy(kv.F32[k:k+dim], t.keys[from:from+dim])
			copy(kv.F32[v:v+dim], t.values[from:from+dim])
		}
	}
}

// tileQueries is how many queries meet a block of keys before the next block
// comes: so many that widening it costs little, so few that all stay in the
// first cache. A tile is some consecutive tokens of one sequence, with those of
// their query heads that share a key head.
const tileQueries = 24

// Attention sets out `[tokens, heads, headDim]` to the causal grouped-query
// attention of q, of the same shape, over the cache: each token attends to the
// positions of its sequence up to its own, whose keys and values are stored.
//
// Every query walks the keys page by page in ascending order with an online
// softmax, so its result depends on nothing but its own sequence.
//
// Source: Ainslie et al. 2023 (grouped queries), https://arxiv.org/abs/2305.13245;
// Dao et al. 2022 (tiles), https://arxiv.org/abs/2205.14135.
func (c *Compute) Attention(out, q []float32, heads int, kv *KV, layer int, b *Batch) {
	check(len(out) == len(q) && len(q) == b.Len()*heads*kv.HeadDim && heads%kv.Heads == 0 && kv.HeadDim == c.limits.HeadDim, "Attention")
	t := &c.attention
	*t = attentionTask{
		c: c, kv: kv, layer: layer, b: b, out: out, q: q, heads: heads, tiles: t.tiles[:0],
		scale: float32(1 / math.Sqrt(float64(kv.HeadDim))),
	}
	most := max(1, tileQueries*kv.Heads/heads) // tokens of a tile
	for i, seq := range b.Seqs {
		if n := len(t.tiles); n == 0 || b.Seqs[t.tiles[n-1]] != seq || i-int(t.tiles[n-1]) == most {
			t.tiles = append(t.tiles, int32(i))
		}
	}
	c.step.Do(t, len(t.tiles)*kv.Heads, 1)
}

type attentionTask struct {
	c      *Compute
	kv     *KV
	layer  int
	b      *Batch
	out, q []float32
	heads  int
	scale  float32
	tiles  []int32 // the first token of each
}

// Do takes pairs of a tile and a key head.
func (t *attentionTask) Do(worker, lo, hi int) {
	group := t.heads / t.kv.Heads
	for i := lo; i < hi; i++ {
		tile, kvHead := i/t.kv.Heads, i%t.kv.Heads
		from, to := int(t.tiles[tile]), t.b.Len()
		if tile+1 < len(t.tiles) {
			to = int(t.tiles[tile+1])
		}
		for h := 0; h < group; h += tileQueries {
			t.tile(t.c.workers[worker].queries, from, to, kvHead, kvHead*group+h, min(tileQueries, group-h))
		}
	}
}

// tile computes the attention of n heads from head on, for the tokens [from, to).
func (t *attentionTask) tile(qs *kernel.Queries, from, to, kvHead, head, n int) {
	b, dim := t.b, t.kv.HeadDim
	at := func(token, h int) int { return (token*t.heads + head + h) * dim }
	for token := from; token < to; token++ {
		for h := range n {
			t.c.set.Begin(qs, (token-from)*n+h, t.q[at(token, h):][:dim], t.scale)
		}
	}
	start := 0 // position of the block's first key
	for _, page := range b.Tables[b.Seqs[from]] {
		if start > int(b.Positions[to-1]) {
			break
		}
		t.block(qs, page, start, from, to, kvHead, n)
		start += t.kv.PageTokens
	}
	for token := from; token < to; token++ {
		for h := range n {
			t.c.set.End(qs, (token-from)*n+h, t.out[at(token, h):][:dim])
		}
	}
}

// block lets the tile attend to a page. Tokens see different numbers of its
// keys where it has their own positions.
func (t *attentionTask) block(qs *kernel.Queries, page int32, start, from, to, kvHead, n int) {
	kv, set := t.kv, t.c.set
	size := kv.PageTokens * kv.HeadDim
	k := kv.keys(page, t.layer, kvHead)
	v := k + kv.blockHeads()
	seen := func(token int) int { return min(int(t.b.Positions[token])+1-start, kv.PageTokens) }

	var keys, values []float32
	half := kv.F16 != nil && to-from == 1
	switch {
	case kv.F16 == nil:
		keys, values = kv.F32[k:k+size], kv.F32[v:v+size]
	case !half:
		keys, values = set.Widen(qs, kv.F16[k:k+size], kv.F16[v:v+size], seen(to-1))
	}
	for i := from; i < to; {
		j := i + 1
		for j < to && seen(j) == seen(i) {
			j++
		}
		if lo, hi := (i-from)*n, (j-from)*n; half {
			set.AttendF16(qs, lo, hi, kv.F16[k:k+size], kv.F16[v:v+size], seen(i))
		} else {
			set.AttendF32(qs, lo, hi, keys, values, max(0, seen(i)))
		}
		i = j
	}
}

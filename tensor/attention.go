package tensor

import "math"

// StoreKV writes the keys and values `[tokens, heads, headDim]` of a batch to
// their pages of the cache.
func (c *Compute) StoreKV(kv *KV, layer int, keys, values []float32, b *Batch) {
	check(len(keys) == len(values) && len(keys) == b.Len()*kv.Heads*kv.HeadDim, "StoreKV")
	c.store = storeTask{c: c, kv: kv, layer: layer, keys: keys, values: values, b: b}
	c.step.Do(&c.store, b.Len(), tokenGrain)
}

type storeTask struct {
	c            *Compute
	kv           *KV
	layer        int
	keys, values []float32
	b            *Batch
}

func (t *storeTask) Do(_, lo, hi int) {
	kv, dim := t.kv, t.kv.HeadDim
	for i := lo; i < hi; i++ {
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

// Attention sets out `[tokens, heads, headDim]` to the causal grouped-query
// attention of q, of the same shape, over the cache: each token attends to the
// positions of its sequence up to its own, whose keys and values are stored.
//
// Every query walks the keys page by page in ascending order with an online
// softmax, so its result depends on nothing but its own sequence.
//
// Source: Ainslie et al. 2023 (grouped queries), https://arxiv.org/abs/2305.13245;
// Milakov and Gimelshein 2018 (online softmax), https://arxiv.org/abs/1805.02867.
func (c *Compute) Attention(out, q []float32, heads int, kv *KV, layer int, b *Batch) {
	check(len(out) == len(q) && len(q) == b.Len()*heads*kv.HeadDim && heads%kv.Heads == 0, "Attention")
	c.attention = attentionTask{
		c: c, kv: kv, layer: layer, b: b, out: out, q: q, heads: heads,
		scale: float32(1 / math.Sqrt(float64(kv.HeadDim))),
	}
	c.step.Do(&c.attention, b.Len()*kv.Heads, 1)
}

type attentionTask struct {
	c      *Compute
	kv     *KV
	layer  int
	b      *Batch
	out, q []float32
	heads  int
	scale  float32
}

// Do takes pairs of a token and a key head; the query heads that share the key
// head go together.
func (t *attentionTask) Do(worker, lo, hi int) {
	group, dim := t.heads/t.kv.Heads, t.kv.HeadDim
	for i := lo; i < hi; i++ {
		token, kvHead := i/t.kv.Heads, i%t.kv.Heads
		for h := kvHead * group; h < (kvHead+1)*group; h++ {
			at := (token*t.heads + h) * dim
			t.head(t.c.workers[worker].scores, token, kvHead, t.q[at:at+dim], t.out[at:at+dim])
		}
	}
}

// head computes the attention of one query.
func (t *attentionTask) head(scores []float32, token, kvHead int, q, out []float32) {
	kv, set, dim := t.kv, t.c.set, t.kv.HeadDim
	clear(out)
	highest, sum := float32(math.Inf(-1)), float32(0)
	left := int(t.b.Positions[token]) + 1
	for _, page := range t.b.Tables[t.b.Seqs[token]] {
		n := min(left, kv.PageTokens)
		p := scores[:n]
		k := kv.keys(page, t.layer, kvHead)
		v := k + kv.blockHeads()
		if kv.F16 != nil {
			set.ScoresF16(q, kv.F16[k:k+n*dim], n, t.scale, p)
		} else {
			set.ScoresF32(q, kv.F32[k:k+n*dim], n, t.scale, p)
		}
		if m := set.Max(p); m > highest {
			// What was summed so far was relative to a lower maximum.
			correction := float32(math.Exp(float64(highest - m)))
			sum *= correction
			scale(out, correction)
			highest = m
		}
		sum += set.ExpSum(p, highest)
		if kv.F16 != nil {
			set.AccumulateF16(p, kv.F16[v:v+n*dim], out)
		} else {
			set.AccumulateF32(p, kv.F32[v:v+n*dim], out)
		}
		if left -= n; left == 0 {
			break
		}
	}
	scale(out, 1/sum)
}

func scale(x []float32, by float32) {
	for i := range x {
		x[i] *= by
	}
}

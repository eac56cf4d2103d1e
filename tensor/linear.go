package tensor

// Product is a matrix and where its product goes: Out `[tokens, Weight.Rows]`. Bias
// `[Weight.Rows]` is added to it for each token, unless that is nil.
type Product struct {
	Out    []float32
	Weight *Tensor
	Bias   *Tensor
}

// Linear computes out `[tokens, w.Rows]` = in · wᵀ. Rows are split between the
// threads; each output is one sum in one fixed order.
func (c *Compute) Linear(out []float32, w *Tensor, in *Input) {
	c.Linears(in, Product{Out: out, Weight: w})
}

// Linears computes the products of several matrices with one input, which
// costs one barrier.
func (c *Compute) Linears(in *Input, products ...Product) {
	t := &c.linear
	t.products = append(t.products[:0], products...)
	rows, integer := 0, false
	for _, p := range products {
		w := p.Weight
		check(in == &t.input && w.Cols == in.cols && len(p.Out) == in.tokens*w.Rows, w.Name)
		check(p.Bias == nil || p.Bias.Type == F32 && p.Bias.Rows*p.Bias.Cols == w.Rows, w.Name)
		rows += w.Rows
		integer = integer || t.integer(w)
	}
	c.prepare(in, integer)
	t.order.enter(c.step, products, rows)
	c.step.Do(t, rows, linearGrain)
}

// linearGrain is how many rows the kernels take at once.
const linearGrain = 16

type linearTask struct {
	c        *Compute
	input    Input
	products []Product
	order    weightOrder
}

// integer reports whether w is multiplied with int8 activations.
func (t *linearTask) integer(w *Tensor) bool {
	return w.format.Quantised() && t.c.activations == ActivationsInt8
}

// Do takes rows of all matrices, counted on from one to the next.
func (t *linearTask) Do(worker, lo, hi int) {
	set, scratch := t.c.set, t.c.workers[worker].products
	base := 0 // where the matrix begins
	for i, p := range t.products {
		w := p.Weight
		if from, to := max(lo-base, 0), min(hi-base, w.Rows); from < to {
			scratch.Ahead = t.order.ahead(worker, t.products, i, base, from, to)
			t.c.workers[worker].ahead = scratch.Ahead.Beyond()
			if t.integer(w) {
				set.MulQ(w.format, w.data, w.Cols, from, to, t.c.acts, p.Out, w.Rows, scratch)
			} else {
				set.MulF(w.format, w.data, w.Cols, from, to, t.input.x, t.input.tokens, p.Out, w.Rows, scratch)
			}
			if p.Bias != nil {
				bias := p.Bias.floats()[from:to]
				for token := range t.input.tokens {
					set.Add(p.Out[token*w.Rows+from:token*w.Rows+to], bias)
				}
			}
		}
		base += w.Rows
	}
}

// Idle fetches what the worker reads next, a little at a time.
func (t *linearTask) Idle(worker int) (more bool) {
	w := &t.c.workers[worker]
	w.ahead = t.c.set.Prefetch(w.ahead)
	return len(w.ahead) > 0
}

// Embed sets out `[tokens, w.Cols]` to the rows of w that ids name.
func (c *Compute) Embed(out []float32, w *Tensor, ids []int32) {
	check(len(out) == len(ids)*w.Cols, "Embed")
	c.embed = embedTask{c: c, w: w, ids: ids, out: out}
	c.step.Do(&c.embed, len(ids), 1)
}

type embedTask struct {
	c   *Compute
	w   *Tensor
	ids []int32
	out []float32
}

func (t *embedTask) Do(_, lo, hi int) {
	row := t.w.row
	for i := lo; i < hi; i++ {
		at := int(t.ids[i]) * row
		t.c.set.Dequantize(t.w.format, t.out[i*t.w.Cols:(i+1)*t.w.Cols], t.w.data[at:at+row])
	}
}

package tensor

import "github.com/dunlin-go/dunlin/tensor/internal/kernel"

// Input is the input of one or several products. What it is made from, a norm or
// a gate, and its quantisation, where a weight asks for that, are computed token
// by token in one pass when the first product needs them.
type Input struct {
	x      []float32 // [tokens, cols]
	tokens int
	cols   int

	make      func(t *prepareTask, token int) // nil when x is there
	quantised bool                            // the Compute's activations hold x

	// What make reads.
	residual, delta, weight []float32
	post, bias              []float32
	eps                     float32
	up                      []float32
}

// Input is x `[tokens, cols]`. Like the others it is valid until the next one is
// made and as long as x isn't changed.
func (c *Compute) Input(x []float32, cols int) *Input {
	check(cols > 0 && len(x)%cols == 0, "Input")
	in := &c.linear.input
	*in = Input{x: x, tokens: len(x) / cols, cols: cols}
	return in
}

// NormInput adds delta, unless that is nil, to the residual stream x and is then
// out = x / sqrt(mean(x²) + eps) · weight; all are `[tokens, n]`, weight has n.
//
// Source: Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467.
func (c *Compute) NormInput(out, x, delta []float32, weight *Tensor, eps float32) *Input {
	w := weight.floats()
	check(len(out) == len(x) && (delta == nil || len(delta) == len(x)), weight.Name)
	in := c.Input(out, len(w))
	in.make, in.residual, in.delta, in.weight, in.eps = (*prepareTask).norm, x, delta, w, eps
	return in
}

// PostNormInput is [Compute.NormInput] with a norm of delta, in its place, before
// it is added: out = norm(x + norm(delta, post), weight). post has n elements, or
// is nil where delta is.
//
// Source: Gemma Team 2024 (norms before and after each block),
// https://arxiv.org/abs/2408.00118.
func (c *Compute) PostNormInput(out, x, delta []float32, post, weight *Tensor, eps float32) *Input {
	in := c.NormInput(out, x, delta, weight, eps)
	if delta != nil {
		in.post = post.floats()
		check(len(in.post) == len(in.weight), post.Name)
	}
	return in
}

// LayerNormInput is [Compute.NormInput] with a layer norm: the mean of x is taken
// away first, and bias `[n]`, unless that is nil, is added last.
//
// Source: Ba et al. 2016, https://arxiv.org/abs/1607.06450.
func (c *Compute) LayerNormInput(out, x, delta []float32, weight, bias *Tensor, eps float32) *Input {
	in := c.NormInput(out, x, delta, weight, eps)
	in.make = (*prepareTask).layerNorm
	if bias != nil {
		in.bias = bias.floats()
		check(len(in.bias) == len(in.weight), bias.Name)
	}
	return in
}

// GateInput is gate · sigmoid(gate) · up in the place of gate, all `[tokens, cols]`.
//
// Source: Shazeer 2020 (SwiGLU), https://arxiv.org/abs/2002.05202.
func (c *Compute) GateInput(gate, up []float32, cols int) *Input {
	check(len(gate) == len(up), "GateInput")
	in := c.Input(gate, cols)
	in.make, in.up = (*prepareTask).gate, up
	return in
}

// GELUGateInput is gelu(gate) · up in the place of gate, all `[tokens, cols]`, with
// GELU's tanh approximation.
//
// Source: Shazeer 2020 (GEGLU), https://arxiv.org/abs/2002.05202.
func (c *Compute) GELUGateInput(gate, up []float32, cols int) *Input {
	in := c.GateInput(gate, up, cols)
	in.make = (*prepareTask).geluGate
	return in
}

// GELUInput is gelu(x) in the place of x `[tokens, cols]`, with GELU's tanh
// approximation.
//
// Source: Hendrycks and Gimpel 2016, https://arxiv.org/abs/1606.08415.
func (c *Compute) GELUInput(x []float32, cols int) *Input {
	in := c.Input(x, cols)
	in.make = (*prepareTask).gelu
	return in
}

// GELUErfInput is [Compute.GELUInput] without the approximation: x · Φ(x).
func (c *Compute) GELUErfInput(x []float32, cols int) *Input {
	in := c.Input(x, cols)
	in.make = (*prepareTask).geluErf
	return in
}

// tokenGrain is how many tokens one thread takes at once where a token costs a
// microsecond or less: a batch of one stays on the calling thread.
const tokenGrain = 2

// prepare makes x, and quantises it for integer products.
func (c *Compute) prepare(in *Input, integer bool) {
	integer = integer && !in.quantised
	if in.make == nil && !integer {
		return
	}
	if integer {
		c.acts.Reset(in.tokens, in.cols)
	}
	c.inputs = prepareTask{c: c, in: in, quantise: integer}
	grain := tokenGrain
	if in.make == nil || in.tokens >= 2*kernel.TileTokens {
		grain = kernel.TileTokens // the scales of a tile's tokens share cache lines
	}
	c.step.Do(&c.inputs, in.tokens, grain)
	in.make, in.quantised = nil, in.quantised || integer
}

type prepareTask struct {
	c        *Compute
	in       *Input
	quantise bool
}

func (t *prepareTask) Do(_, lo, hi int) {
	if t.in.make == nil {
		t.c.set.Quantize(t.c.acts, t.in.x, lo, hi)
		return
	}
	for i := lo; i < hi; i++ {
		t.in.make(t, i)
		if t.quantise {
			t.c.set.Quantize(t.c.acts, t.in.x, i, i+1)
		}
	}
}

// add adds a token's delta to its residual stream, and says where it lies.
func (t *prepareTask) add(i int) (lo, hi int) {
	in := t.in
	lo, hi = i*in.cols, (i+1)*in.cols
	if in.delta == nil {
		return lo, hi
	}
	delta := in.delta[lo:hi]
	if in.post != nil {
		t.c.set.RMSNorm(delta, delta, in.post, in.eps)
	}
	t.c.set.Add(in.residual[lo:hi], delta)
	return lo, hi
}

func (t *prepareTask) norm(i int) {
	in := t.in
	lo, hi := t.add(i)
	t.c.set.RMSNorm(in.x[lo:hi], in.residual[lo:hi], in.weight, in.eps)
}

func (t *prepareTask) layerNorm(i int) {
	in := t.in
	lo, hi := t.add(i)
	t.c.set.LayerNorm(in.x[lo:hi], in.residual[lo:hi], in.weight, in.bias, in.eps)
}

func (t *prepareTask) gate(i int) {
	lo, hi := i*t.in.cols, (i+1)*t.in.cols
	t.c.set.SiLUGate(t.in.x[lo:hi], t.in.up[lo:hi])
}

func (t *prepareTask) geluGate(i int) {
	lo, hi := i*t.in.cols, (i+1)*t.in.cols
	t.c.set.GELUGate(t.in.x[lo:hi], t.in.up[lo:hi])
}

func (t *prepareTask) gelu(i int) { t.c.set.GELU(t.in.x[i*t.in.cols : (i+1)*t.in.cols]) }

func (t *prepareTask) geluErf(i int) { t.c.set.GELUErf(t.in.x[i*t.in.cols : (i+1)*t.in.cols]) }

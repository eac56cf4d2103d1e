package tensor

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

// GateInput is gate · sigmoid(gate) · up in the place of gate, all `[tokens, cols]`.
//
// Source: Shazeer 2020 (SwiGLU), https://arxiv.org/abs/2002.05202.
func (c *Compute) GateInput(gate, up []float32, cols int) *Input {
	check(len(gate) == len(up), "GateInput")
	in := c.Input(gate, cols)
	in.make, in.up = (*prepareTask).gate, up
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
	c.step.Do(&c.inputs, in.tokens, tokenGrain)
	in.make, in.quantised = nil, in.quantised || integer
}

type prepareTask struct {
	c        *Compute
	in       *Input
	quantise bool
}

func (t *prepareTask) Do(_, lo, hi int) {
	for i := lo; i < hi; i++ {
		if t.in.make != nil {
			t.in.make(t, i)
		}
		if t.quantise {
			t.c.set.Quantize(t.c.acts, t.in.x, i, i+1)
		}
	}
}

func (t *prepareTask) norm(i int) {
	in := t.in
	lo, hi := i*in.cols, (i+1)*in.cols
	if in.delta != nil {
		t.c.set.Add(in.residual[lo:hi], in.delta[lo:hi])
	}
	t.c.set.RMSNorm(in.x[lo:hi], in.residual[lo:hi], in.weight, in.eps)
}

func (t *prepareTask) gate(i int) {
	lo, hi := i*t.in.cols, (i+1)*t.in.cols
	t.c.set.SiLUGate(t.in.x[lo:hi], t.in.up[lo:hi])
}

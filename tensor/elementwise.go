package tensor

// Tokens that one thread takes at once in operations that are a few
// nanoseconds an element: a batch of one token stays on the calling thread.
const tokenGrain = 2

// RMSNorm sets out `[tokens, n]` to x / sqrt(mean(x²) + eps) · weight, where n
// is the length of weight.
//
// Source: Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467.
func (c *Compute) RMSNorm(out, x []float32, weight *Tensor, eps float32) {
	w := weight.floats()
	check(len(out) == len(x) && len(x)%len(w) == 0, "RMSNorm "+weight.Name)
	c.norm = normTask{c: c, out: out, x: x, weight: w, eps: eps}
	c.step.Do(&c.norm, len(x)/len(w), tokenGrain)
}

type normTask struct {
	c              *Compute
	out, x, weight []float32
	eps            float32
}

func (t *normTask) Do(_, lo, hi int) {
	n := len(t.weight)
	for i := lo; i < hi; i++ {
		t.c.set.RMSNorm(t.out[i*n:(i+1)*n], t.x[i*n:(i+1)*n], t.weight, t.eps)
	}
}

// SiLUGate sets gate `[tokens, n]` to gate · sigmoid(gate) · up.
//
// Source: Shazeer 2020 (SwiGLU), https://arxiv.org/abs/2002.05202.
func (c *Compute) SiLUGate(gate, up []float32, n int) {
	check(len(gate) == len(up) && len(gate)%n == 0, "SiLUGate")
	c.gate = gateTask{c: c, gate: gate, up: up, n: n}
	c.step.Do(&c.gate, len(gate)/n, tokenGrain)
}

type gateTask struct {
	c        *Compute
	gate, up []float32
	n        int
}

func (t *gateTask) Do(_, lo, hi int) {
	t.c.set.SiLUGate(t.gate[lo*t.n:hi*t.n], t.up[lo*t.n:hi*t.n])
}

// Add adds x to dst, both `[tokens, n]`: the residual connection.
func (c *Compute) Add(dst, x []float32, n int) {
	check(len(dst) == len(x) && len(x)%n == 0, "Add")
	c.add = addTask{c: c, dst: dst, x: x, n: n}
	c.step.Do(&c.add, len(x)/n, tokenGrain)
}

type addTask struct {
	c      *Compute
	dst, x []float32
	n      int
}

func (t *addTask) Do(_, lo, hi int) { t.c.set.Add(t.dst[lo*t.n:hi*t.n], t.x[lo*t.n:hi*t.n]) }

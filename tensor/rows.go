package tensor

// rowsElements is about what one thread takes at once of an elementwise operation, in
// float32 elements: a microsecond or less, so that one token stays on the caller's
// thread.
const rowsElements = 4096

// NormRows sets each row of x `[rows, n]` to x / sqrt(mean(x²) + eps) · weight, in
// place; weight has n elements. With the heads of queries or keys as rows it is
// their norm.
//
// Source: Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467; Henry et al.
// 2020 (queries and keys), https://arxiv.org/abs/2010.04245.
func (c *Compute) NormRows(x []float32, weight *Tensor, eps float32) {
	w := weight.floats()
	check(len(x)%len(w) == 0, weight.Name)
	c.rows = rowsTask{c: c, do: (*rowsTask).norm, x: x, cols: len(w), weight: w, factor: eps}
	c.eachRow()
}

// Scale multiplies x `[tokens, cols]` by factor.
func (c *Compute) Scale(x []float32, cols int, factor float32) {
	check(cols > 0 && len(x)%cols == 0, "Scale")
	c.rows = rowsTask{c: c, do: (*rowsTask).scale, x: x, cols: cols, factor: factor}
	c.eachRow()
}

// Add adds y to x, both `[tokens, cols]`: what two blocks that read the same input
// add to the residual stream together.
func (c *Compute) Add(x, y []float32, cols int) {
	check(cols > 0 && len(x)%cols == 0 && len(x) == len(y), "Add")
	c.rows = rowsTask{c: c, do: (*rowsTask).add, x: x, y: y, cols: cols}
	c.eachRow()
}

// SoftCap sets x `[tokens, cols]` to limit · tanh(x / limit), limit above zero. The
// results lie in [-limit, limit], but NaN for what isn't finite.
//
// Source: Gemma Team 2024, https://arxiv.org/abs/2408.00118.
func (c *Compute) SoftCap(x []float32, cols int, limit float32) {
	check(cols > 0 && len(x)%cols == 0 && limit > 0, "SoftCap")
	// Rows may be a vocabulary long, and each element stands for itself.
	c.rows = rowsTask{c: c, do: (*rowsTask).softCap, x: x, cols: pieceOf(cols), factor: limit}
	c.eachRow()
}

// pieceOf is the largest part of n, halved again and again, that a thread takes at
// once.
func pieceOf(n int) int {
	for n > rowsElements && n%2 == 0 {
		n /= 2
	}
	return n
}

// eachRow runs the task's operation on its rows.
func (c *Compute) eachRow() {
	t := &c.rows
	c.step.Do(t, len(t.x)/t.cols, max(1, rowsElements/t.cols))
}

type rowsTask struct {
	c            *Compute
	do           func(t *rowsTask, lo, hi int)
	x, y, weight []float32
	cols         int
	factor       float32
}

// Do takes rows.
func (t *rowsTask) Do(_, lo, hi int) { t.do(t, lo*t.cols, hi*t.cols) }

func (t *rowsTask) norm(lo, hi int) {
	for ; lo < hi; lo += t.cols {
		row := t.x[lo : lo+t.cols]
		t.c.set.RMSNorm(row, row, t.weight, t.factor)
	}
}

func (t *rowsTask) scale(lo, hi int) { t.c.set.Scale(t.x[lo:hi], t.factor) }

func (t *rowsTask) add(lo, hi int) { t.c.set.Add(t.x[lo:hi], t.y[lo:hi]) }

func (t *rowsTask) softCap(lo, hi int) { t.c.set.SoftCap(t.x[lo:hi], t.factor) }

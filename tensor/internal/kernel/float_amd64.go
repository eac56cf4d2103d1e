//go:build !purego

package kernel

import "unsafe"

// dotKernels are the products of float rows with up to 6 tokens at a time. The
// number of tokens only decides which kernel computes an element: each has the
// same lanes and adds them up in the same order.
type dotKernels struct {
	tokens int // that by goes up to
	by     [7]dotShape
}

// dotShape is the kernels for one number of tokens: for groups of rows, and for
// the rows left over.
type dotShape struct {
	rows          int
	group, single func(*dotArgs)
}

// floatRows is how many rows meet a few tokens before the next tokens come, so
// that the rows stay in the inner caches.
const floatRows = 16

// widenTokens is from how many tokens on rows of float16 are widened once, and
// not for each few tokens.
const widenTokens = 4

// floatKernels are the products of a set. Those of BF16 take one token.
type floatKernels struct{ f32, f16, bf16 dotKernels }

// mul is the driver of the float products.
func (fk *floatKernels) mul(f Format, w []byte, k, lo, hi int, x []float32, tokens int, out []float32, stride int, sc *Scratch) {
	if k > maxAsmK {
		generic{}.mulF(f, w, k, lo, hi, x, tokens, out, stride, sc)
		return
	}
	row := f.RowBytes(k)
	widen := f.Quantised() || f == F16 && tokens >= widenTokens || f == BF16 && tokens > 1
	step := floatRows
	switch {
	case widen:
		step = panelRows
	case tokens == 1:
		step = hi - lo
	}
	for r := lo; r < hi; r += step {
		n := min(step, hi-r)
		rows := w[r*row : (r+n)*row]
		switch {
		case widen:
			panel := sc.panel[:n*k]
			avx2{}.dequantize(f, panel, rows)
			fk.f32.mul(ptr(panel), 4*k, n, k, x, tokens, out[r:], stride, sc)
		case f == F16:
			fk.f16.mul(ptr(rows), row, n, k, x, tokens, out[r:], stride, sc)
		case f == BF16:
			fk.bf16.mul(ptr(rows), row, n, k, x, tokens, out[r:], stride, sc)
		default:
			fk.f32.mul(ptr(rows), row, n, k, x, tokens, out[r:], stride, sc)
		}
	}
}

// mul multiplies the rows at w, one after the other, with all tokens of x.
func (kn *dotKernels) mul(w unsafe.Pointer, row, rows, k int, x []float32, tokens int, out []float32, stride int, sc *Scratch) {
	p := &sc.arch.dot
	p.row, p.n, p.token, p.stride = row, k, 4*k, 4*stride
	for t, n := 0, 0; t < tokens; t += n {
		n = min(kn.tokens, tokens-t)
		if tokens-t == kn.tokens+1 {
			n = (kn.tokens + 1) / 2 // two halves are better than all and one
		}
		by := &kn.by[n]
		p.x = ptr(x[t*k:])
		call := by.rows * max(1, min(maxCallBytes/(by.rows*row), maxCallMuls/(by.rows*kn.tokens*k))) // rows a call
		r := 0
		for whole := rows - rows%by.rows; r < whole; r += by.rows * p.groups {
			p.w, p.out = unsafe.Add(w, r*row), ptr(out[t*stride+r:])
			far, same := sc.Ahead.from(p.w, (rows-r)*row, farAhead)
			p.far, p.near = far, nearAhead-far
			p.groups = min(call, whole-r, max(by.rows, same/row)) / by.rows
			by.group(p)
		}
		for ; r < rows; r++ {
			p.w, p.out, p.groups = unsafe.Add(w, r*row), ptr(out[t*stride+r:]), 1
			by.single(p)
		}
	}
	*p = dotArgs{} // see quantKernels.mul
}

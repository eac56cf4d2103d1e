package kernel

import "fmt"

// Quantize fills the tokens [lo, hi) of a from x [tokens][k]. Callers may run
// on disjoint ranges at once.
func (s *Set) Quantize(a *Acts, x []float32, lo, hi int) {
	if lo < 0 || lo > hi || hi > a.tokens || len(x) < a.tokens*a.k {
		panic(fmt.Sprintf("kernel: Quantize of tokens [%d, %d) of %d x %d from %d values", lo, hi, a.tokens, a.k, len(x)))
	}
	s.impl.quantize(a, x, lo, hi)
}

// MulQ sets out[t*stride+r] to the product of weight row r with token t, for
// the rows [lo, hi) of w and all tokens of a. w holds whole rows of k elements
// in a quantised format. Over the blocks b of a row, in ascending order,
// starting at zero, the accumulator becomes
//
//	fma(float32(dot(qw[b], qa[b])), dw[b]*da[b], acc)
//
// and then fma(mw[b], sa[b], acc) for formats with offsets (Q4_0, Q4_1, Q5_0, Q5_1,
// Q4_K, Q5_K). A block of Q3_K and Q6_K counts as two, of 16 elements. Q2_K is the
// sum of two such products, of the numbers with d and of the mins with -dmin. The
// dot product is an exact integer. Every set gives the same bits.
func (s *Set) MulQ(f Format, w []byte, k, lo, hi int, a *Acts, out []float32, stride int, sc *Scratch) {
	if !f.Quantised() || a.k != k {
		panic(fmt.Sprintf("kernel: MulQ of %v rows of %d with activations of %d", f, k, a.k))
	}
	if checkMul("MulQ", f, w, k, lo, hi, a.tokens, out, stride, sc) {
		s.impl.mulQ(f, w, k, lo, hi, a, out, stride, sc)
	}
}

// MulF is [Set.MulQ] with float32 activations x [tokens][k] and weights in any
// format. Quantised rows are widened to float32 in sc, which is the reference
// that the integer products are measured against.
func (s *Set) MulF(f Format, w []byte, k, lo, hi int, x []float32, tokens int, out []float32, stride int, sc *Scratch) {
	if tokens < 0 || len(x) < tokens*k {
		panic(fmt.Sprintf("kernel: MulF of %d tokens of %d from %d values", tokens, k, len(x)))
	}
	if checkMul("MulF", f, w, k, lo, hi, tokens, out, stride, sc) {
		s.impl.mulF(f, w, k, lo, hi, x, tokens, out, stride, sc)
	}
}

// checkMul panics where the operands don't fit together, and reports whether
// there is anything to compute.
func checkMul(op string, f Format, w []byte, k, lo, hi, tokens int, out []float32, stride int, sc *Scratch) bool {
	row := f.RowBytes(k)
	switch {
	case len(w)%row != 0 || lo < 0 || lo > hi || hi > len(w)/row:
		panic(fmt.Sprintf("kernel: %s of rows [%d, %d) of %d bytes of weights, %d a row", op, lo, hi, len(w), row))
	case lo == hi || tokens == 0:
		return false
	case stride < hi && tokens > 1 || len(out) < (tokens-1)*stride+hi:
		panic(fmt.Sprintf("kernel: %s of %d tokens and rows up to %d into %d values, %d a token", op, tokens, hi, len(out), stride))
	case k > sc.k:
		panic(fmt.Sprintf("kernel: %s of rows of %d with scratch for %d", op, k, sc.k))
	}
	return true
}

// Dequantize widens rows in any format to float32. Their products with d and
// sums with m are rounded once.
func (s *Set) Dequantize(f Format, dst []float32, src []byte) {
	if len(dst) == 0 && len(src) == 0 {
		return
	}
	if len(src) != f.RowBytes(len(dst)) {
		panic(fmt.Sprintf("kernel: Dequantize of %d bytes of %v to %d values", len(src), f, len(dst)))
	}
	s.impl.dequantize(f, dst, src)
}

package kernel

import "math"

// dotF32 is the product of two vectors in four interleaved sums.
func dotF32(x, y []float32) float32 {
	var s0, s1, s2, s3 float32
	for ; len(x) >= 4 && len(y) >= 4; x, y = x[4:], y[4:] {
		s0 += float32(x[0] * y[0])
		s1 += float32(x[1] * y[1])
		s2 += float32(x[2] * y[2])
		s3 += float32(x[3] * y[3])
	}
	for i, v := range x {
		s0 += float32(v * y[i])
	}
	return (s0 + s1) + (s2 + s3)
}

func (generic) toF16(dst []uint16, src []float32) {
	for i, v := range src {
		dst[i] = f32to16(v)
	}
}

func (generic) fromF16(dst []float32, src []uint16) {
	for i, v := range src {
		dst[i] = f16to32(v)
	}
}

func (generic) top(x []float32) (top float32, finite bool) {
	top, odd := x[0], float32(0)
	for _, v := range x {
		if v > top {
			top = v
		}
		odd += v - v // 0, or NaN for a NaN or an infinity
	}
	return top, odd == 0
}

func (generic) sumSquares(x []float32) float32 { return dotF32(x, x) }

func (generic) scaleBy(out, x, weight []float32, factor float32) {
	for i, v := range x {
		out[i] = float32(v*factor) * weight[i]
	}
}

func (generic) siluGate(gate, up []float32) {
	for i, x := range gate {
		gate[i] = float32(x/(1+expF32(-x))) * up[i]
	}
}

func (generic) ropePairs(x, cos, sin []float32) {
	for i, c := range cos {
		a, b, n := x[2*i], x[2*i+1], sin[i]
		x[2*i] = float32(a*c) - float32(b*n)
		x[2*i+1] = float32(b*c) + float32(a*n)
	}
}

func (generic) ropeHalves(lo, hi, cos, sin []float32) {
	for i, c := range cos {
		a, b, n := lo[i], hi[i], sin[i]
		lo[i] = float32(a*c) - float32(b*n)
		hi[i] = float32(a*n) + float32(b*c)
	}
}

func (generic) prefetch([]byte) {}

func (generic) add(dst, src []float32) {
	for i, v := range src {
		dst[i] += v
	}
}

// lanes is what the assembly takes of elementwise operations at least.
const lanes = 16

// The exponential function; _asm/exp.go repeats it step by step. exp(x) is
// 2^n * exp(r) with n = round(x/ln 2), |r| <= ln(2)/2, and exp(r) a polynomial
// (the coefficients are those of Cephes' expf). No step is fused, so that
// every set gives the same bits; the result is within 2.5 units in the last
// place.
const (
	expMax   = 89   // exp overflows from 88.73
	expMin   = -104 // and is zero below -103.98
	log2e    = 1.44269504088896341
	roundAdd = 3 << 22     // adding this leaves the nearest integer in the low bits
	ln2Hi    = 0.693359375 // few bits: n*ln2Hi is exact
	ln2Lo    = -2.12194440054690583e-4
	expP5    = 1.9875691500e-4
	expP4    = 1.3981999507e-3
	expP3    = 8.3334519073e-3
	expP2    = 4.1665795894e-2
	expP1    = 1.6666665459e-1
	expP0    = 5.0000001201e-1
)

func expF32(x float32) float32 {
	if x > expMax {
		x = expMax
	}
	if x < expMin {
		x = expMin
	}
	t := float32(x*log2e) + roundAdd
	f := t - roundAdd
	r := x - float32(f*ln2Hi)
	r -= float32(f * ln2Lo)
	p := float32(expP5*r) + expP4
	p = float32(p*r) + expP3
	p = float32(p*r) + expP2
	p = float32(p*r) + expP1
	p = float32(p*r) + expP0
	p = float32(p*float32(r*r)) + r
	p++
	// In two steps, as 2^n itself may be out of range.
	n := int32(math.Float32bits(t) - math.Float32bits(roundAdd))
	half := n >> 1
	return p * pow2(half) * pow2(n-half)
}

// pow2 is 2^n for n from -126 to 127. (A NaN's n is anything, and so is the
// factor: the product stays NaN.)
func pow2(n int32) float32 { return math.Float32frombits(uint32(n+127) << 23) }

package kernel

import (
	"encoding/binary"
	"math"
)

// generic is the portable implementation: the plainest Go there is for each
// operation, and what the assembly is measured against. Products that must
// not be fused with a sum are converted explicitly, which the language defines
// as rounding.
type generic struct{}

// minScale is the smallest scale of activations: below, 1/d overflows.
const minScale = 0x1p-126

func (generic) quantize(a *Acts, x []float32, lo, hi int) {
	blocks := a.k / BlockLen
	for t := lo; t < hi; t++ {
		first, n := a.tile(t)
		i := t % tileTokens
		for b := range blocks {
			at := first + b*n
			d, sum := quantizeBlock((*[BlockLen]int8)(a.q[(at+i)*BlockLen:]), (*[BlockLen]float32)(x[t*a.k+b*BlockLen:]))
			a.scales[2*at+i] = d
			a.scales[2*at+n+i] = d * float32(sum)
			a.fix[at+i] = -128 * sum
		}
	}
}

// quantizeBlock sets q and returns the block's scale and the sum of q. The
// numbers are rounded with the scale max|x|/127; the scale is then the one that
// fits them best, sum(x*q)/sum(q*q), which leaves the least squared error.
func quantizeBlock(q *[BlockLen]int8, x *[BlockLen]float32) (d float32, sum int32) {
	// As integers, the bits of absolute values order like the values, with
	// infinity and then NaN above all of them.
	var top uint32
	for _, v := range x {
		top = max(top, math.Float32bits(v)&0x7fffffff)
	}
	d = math.Float32frombits(top) / 127
	if top >= 0x7f800000 || d < minScale {
		*q = [BlockLen]int8{}
		if top >= 0x7f800000 {
			return float32(math.NaN()), 0
		}
		return 0, 0
	}
	inv := 1 / d
	var products [BlockLen]float32
	squares := int32(0)
	for i, v := range x {
		scaled := float32(v * inv)
		n := int8(math.RoundToEven(float64(scaled)))
		q[i] = n
		sum += int32(n)
		squares += int32(n) * int32(n)
		products[i] = float32(scaled * float32(n))
	}
	for half := BlockLen / 2; half > 0; half /= 2 {
		for i := range half {
			products[i] += products[i+half]
		}
	}
	return d * (products[0] / float32(squares)), sum
}

func (generic) mulQ(f Format, w []byte, k, lo, hi int, a *Acts, out []float32, stride int, _ *Scratch) {
	size := blockBytes[f]
	row := f.RowBytes(k)
	for r := lo; r < hi; r++ {
		for t := range a.tokens {
			out[t*stride+r] = 0
		}
		for b := range k / BlockLen {
			q, d, m := unpackBlock(f, w[r*row+b*size:][:size])
			for t := 0; t < a.tokens; {
				first, n := a.tile(t)
				at := first + b*n
				for i := range n {
					acc := &out[t*stride+r]
					*acc = fma32(float32(dot32(&q, a.q[(at+i)*BlockLen:])), float32(d*a.scales[2*at+i]), *acc)
					if f == Q4_1 {
						*acc = fma32(m, a.scales[2*at+n+i], *acc)
					}
					t++
				}
			}
		}
	}
}

// unpackBlock reads a block of quantised weights.
func unpackBlock(f Format, w []byte) (q [BlockLen]int8, d, m float32) {
	d = readF16(w)
	switch f {
	case Q4_1:
		m = readF16(w[2:])
		for i, c := range w[4:20] {
			q[i], q[i+16] = int8(c&15), int8(c>>4)
		}
	case Q4_0:
		for i, c := range w[2:18] {
			q[i], q[i+16] = int8(c&15)-8, int8(c>>4)-8
		}
	case Q5_0:
		fifth := binary.LittleEndian.Uint32(w[2:])
		for i, c := range w[6:22] {
			q[i] = int8(c&15|byte(fifth>>i&1)<<4) - 16
			q[i+16] = int8(c>>4|byte(fifth>>(i+16)&1)<<4) - 16
		}
	case IQ4NL:
		for i, c := range w[2:18] {
			q[i], q[i+16] = iq4nl[c&15], iq4nl[c>>4]
		}
	default: // Q8_0
		for i, c := range w[2:34] {
			q[i] = int8(c)
		}
	}
	return q, d, m
}

// iq4nl is what the nibbles of IQ4_NL stand for: kvalues_iq4nl of ggml-common.h.
var iq4nl = [16]int8{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}

func dot32(w *[BlockLen]int8, a []int8) (sum int32) {
	for i, v := range a[:BlockLen] {
		sum += int32(w[i]) * int32(v)
	}
	return sum
}

func (g generic) mulF(f Format, w []byte, k, lo, hi int, x []float32, tokens int, out []float32, stride int, sc *Scratch) {
	row := f.RowBytes(k)
	wide := sc.panel[:k]
	for r := lo; r < hi; r++ {
		g.dequantize(f, wide, w[r*row:(r+1)*row])
		for t := range tokens {
			out[t*stride+r] = dotF32(wide, x[t*k:(t+1)*k])
		}
	}
}

func (generic) dequantize(f Format, dst []float32, src []byte) {
	switch f {
	case F32:
		for i := range dst {
			dst[i] = readF32(src[4*i:])
		}
	case F16:
		for i := range dst {
			dst[i] = readF16(src[2*i:])
		}
	default:
		size := blockBytes[f]
		for ; len(dst) > 0; dst, src = dst[BlockLen:], src[size:] {
			q, d, m := unpackBlock(f, src[:size])
			for i, v := range q {
				dst[i] = float32(float32(v) * d)
				if f == Q4_1 || f == Q8_0 {
					dst[i] += m // for Q8_0 it makes -0 zero, as the vector kernels do
				}
			}
		}
	}
}

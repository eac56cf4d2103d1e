package main

import (
	"math"

	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// eight is read-only memory with a float32 in eight lanes.
func eight(name string, v float64) op.Mem {
	d := make([]uint32, 8)
	for i := range d {
		d[i] = math.Float32bits(float32(v))
	}
	return data(name, d...)
}

// exp is expF32 of package kernel on eight lanes, step by step.
func exp(x vec) vec {
	t, f, r, p, n := c.YMM(), c.YMM(), c.YMM(), c.YMM(), c.YMM()
	// MIN and MAX return their second source (avo's first operand) for NaNs.
	c.VMOVUPS(eight("expMax", 89), t)
	c.VMINPS(x, t, x)
	c.VMOVUPS(eight("expMin", -104), t)
	c.VMAXPS(x, t, x)
	round := eight("roundAdd", 3<<22)
	c.VMULPS(eight("log2e", 1.44269504088896341), x, t)
	c.VADDPS(round, t, t)
	c.VSUBPS(round, t, f)
	c.VMULPS(eight("ln2Hi", 0.693359375), f, r)
	c.VSUBPS(r, x, r)
	c.VMULPS(eight("ln2Lo", -2.12194440054690583e-4), f, f)
	c.VSUBPS(f, r, r)
	c.VMULPS(eight("expP5", 1.9875691500e-4), r, p)
	c.VADDPS(eight("expP4", 1.3981999507e-3), p, p)
	for _, k := range []struct {
		name string
		v    float64
	}{{"expP3", 8.3334519073e-3}, {"expP2", 4.1665795894e-2}, {"expP1", 1.6666665459e-1}, {"expP0", 5.0000001201e-1}} {
		c.VMULPS(r, p, p)
		c.VADDPS(eight(k.name, k.v), p, p)
	}
	c.VMULPS(r, r, f)
	c.VMULPS(f, p, p)
	c.VADDPS(r, p, p)
	c.VADDPS(eight("one8", 1), p, p)
	c.VPSUBD(round, t, n)
	half := c.YMM()
	c.VPSRAD(op.U8(1), n, half)
	c.VPSUBD(half, n, n)
	for _, e := range []vec{half, n} {
		c.VPADDD(data("bias", 127, 127, 127, 127, 127, 127, 127, 127), e, e)
		c.VPSLLD(op.U8(23), e, e)
		c.VMULPS(e, p, p)
	}
	return p
}

// loop generates body for each step elements of n.
func loop(step int, pointers []reg.GPVirtual, strides []int, n reg.GPVirtual, body func()) {
	c.Label("elements")
	body()
	for i, p := range pointers {
		c.ADDQ(op.I32(strides[i]), p)
	}
	c.SUBQ(op.U8(step), n)
	c.JNZ(op.LabelRef("elements"))
}

// vectors generates the elementwise operations.
func vectors() {
	function("toF16AVX2", "vecArgs", "narrows x to float16.")
	o := args()
	dst, x, n := o.load("dst"), o.load("x"), o.load("n")
	loop(8, []reg.GPVirtual{dst, x}, []int{16, 32}, n, func() {
		v := c.YMM()
		c.VMOVUPS(at(x, 0), v)
		c.VCVTPS2PH(op.U8(0), v, at(dst, 0))
	})
	leave()

	function("fromF16AVX2", "vecArgs", "widens x to float32.")
	o = args()
	dst, x, n = o.load("dst"), o.load("x"), o.load("n")
	loop(8, []reg.GPVirtual{dst, x}, []int{32, 16}, n, func() {
		v := c.YMM()
		c.VCVTPH2PS(at(x, 0), v)
		c.VMOVUPS(v, at(dst, 0))
	})
	leave()

	function("addAVX2", "vecArgs", "adds x to dst.")
	o = args()
	dst, x, n = o.load("dst"), o.load("x"), o.load("n")
	loop(8, []reg.GPVirtual{dst, x}, []int{32, 32}, n, func() {
		v := c.YMM()
		c.VMOVUPS(at(dst, 0), v)
		c.VADDPS(at(x, 0), v, v)
		c.VMOVUPS(v, at(dst, 0))
	})
	leave()

	function("scaleAVX2", "vecArgs", "sets dst to x*factor*y.")
	o = args()
	factor := c.YMM()
	c.VBROADCASTSS(o.at("factor"), factor)
	dst, x, n = o.load("dst"), o.load("x"), o.load("n")
	y := o.load("y")
	loop(8, []reg.GPVirtual{dst, x, y}, []int{32, 32, 32}, n, func() {
		v := c.YMM()
		c.VMULPS(at(x, 0), factor, v)
		c.VMULPS(at(y, 0), v, v)
		c.VMOVUPS(v, at(dst, 0))
	})
	leave()

	function("siluGateAVX2", "vecArgs", "sets dst to silu(dst)*x.")
	o = args()
	dst, x, n = o.load("dst"), o.load("x"), o.load("n")
	loop(8, []reg.GPVirtual{dst, x}, []int{32, 32}, n, func() {
		v, e := c.YMM(), c.YMM()
		c.VMOVUPS(at(dst, 0), v)
		c.VXORPS(eight("signs", math.Copysign(0, -1)), v, e)
		e = exp(e)
		c.VADDPS(eight("one8", 1), e, e)
		c.VDIVPS(e, v, v)
		c.VMULPS(at(x, 0), v, v)
		c.VMOVUPS(v, at(dst, 0))
	})
	leave()
}

// dequantize generates the widening of quantised blocks; n counts elements.
func dequantize() {
	function("dequantizeQ41AVX2", "vecArgs", "widens blocks of Q4_1.")
	o := args()
	dst, x, n := o.load("dst"), o.load("x"), o.load("n")
	low := c.XMM()
	c.VMOVDQU(data("lowNibbles4", 0x0f0f0f0f, 0x0f0f0f0f, 0x0f0f0f0f, 0x0f0f0f0f), low)
	loop(32, []reg.GPVirtual{dst, x}, []int{128, q41Bytes}, n, func() {
		scales, d, m := c.XMM(), c.YMM(), c.YMM()
		c.VMOVD(at(x, 0), scales)
		c.VCVTPH2PS(scales, scales)
		c.VBROADCASTSS(scales, d)
		c.VMOVSHDUP(scales, scales)
		c.VBROADCASTSS(scales, m)
		lo, hi := c.XMM(), c.XMM()
		c.VMOVDQU(at(x, 4), lo)
		c.VPSRLW(op.U8(4), lo, hi)
		for i, v := range []vec{lo, hi} {
			c.VPAND(low, v, v)
			for h := range 2 {
				w := c.YMM()
				c.VPMOVZXBD(v, w)
				c.VCVTDQ2PS(w, w)
				c.VMULPS(d, w, w)
				c.VADDPS(m, w, w)
				c.VMOVUPS(w, at(dst, 64*i+32*h))
				if h == 0 {
					c.VPSRLDQ(op.U8(8), v, v)
				}
			}
		}
	})
	leave()

	function("dequantizeQ80AVX2", "vecArgs", "widens blocks of Q8_0.")
	o = args()
	dst, x, n = o.load("dst"), o.load("x"), o.load("n")
	loop(32, []reg.GPVirtual{dst, x}, []int{128, q80Bytes}, n, func() {
		scale, d, none := c.XMM(), c.YMM(), c.YMM()
		c.VPXOR(scale, scale, scale)
		c.VPINSRW(op.U8(0), at(x, 0), scale, scale)
		c.VCVTPH2PS(scale, scale)
		c.VBROADCASTSS(scale, d)
		c.VXORPS(none, none, none)
		for i := range 4 {
			w := c.YMM()
			c.VPMOVSXBD(at(x, 2+8*i), w)
			c.VCVTDQ2PS(w, w)
			c.VMULPS(d, w, w)
			c.VADDPS(none, w, w) // as portable Go: -0 becomes 0
			c.VMOVUPS(w, at(dst, 32*i))
		}
	})
	leave()
}

package main

import (
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

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

	function("fromBF16AVX2", "vecArgs", "widens x to float32.")
	o = args()
	dst, x, n = o.load("dst"), o.load("x"), o.load("n")
	loop(8, []reg.GPVirtual{dst, x}, []int{32, 16}, n, func() {
		v := c.YMM()
		c.VPMOVZXWD(at(x, 0), v)
		c.VPSLLD(op.U8(16), v, v)
		c.VMOVUPS(v, at(dst, 0))
	})
	leave()

	function("prefetchAVX2", "vecArgs", "fetches the lines of n bytes at x.")
	o = args()
	x, n = o.load("x"), o.load("n")
	c.Label("lines")
	c.PREFETCHT1(at(x, 0))
	c.ADDQ(op.U8(64), x)
	c.SUBQ(op.U8(64), n)
	c.JG(op.LabelRef("lines"))
	leave()

	function("addAVX2", "vecArgs", "adds x to dst.")
	o = args()
	dst, x, n = o.load("dst"), o.load("x"), o.load("n")
	loop(16, []reg.GPVirtual{dst, x}, []int{64, 64}, n, func() {
		for i, v := range ymms(2) {
			c.VMOVUPS(at(dst, 32*i), v)
			c.VADDPS(at(x, 32*i), v, v)
			c.VMOVUPS(v, at(dst, 32*i))
		}
	})
	leave()

	function("scaleAVX2", "vecArgs", "sets dst to x*factor*y.")
	o = args()
	factor := c.YMM()
	c.VBROADCASTSS(o.at("factor"), factor)
	dst, x, n = o.load("dst"), o.load("x"), o.load("n")
	y := o.load("y")
	loop(16, []reg.GPVirtual{dst, x, y}, []int{64, 64, 64}, n, func() {
		for i, v := range ymms(2) {
			c.VMULPS(at(x, 32*i), factor, v)
			c.VMULPS(at(y, 32*i), v, v)
			c.VMOVUPS(v, at(dst, 32*i))
		}
	})
	leave()

	function("ropePairsAVX2", "vecArgs", "rotates the pairs of dst by n cosines x and sines y.")
	o = args()
	dst, x, n = o.load("dst"), o.load("x"), o.load("n")
	y = o.load("y")
	loop(4, []reg.GPVirtual{dst, x, y}, []int{32, 16, 16}, n, func() {
		v, swapped, cos, sin := c.YMM(), c.YMM(), c.YMM(), c.YMM()
		for _, angle := range []struct {
			from reg.GPVirtual
			to   vec
		}{{x, cos}, {y, sin}} {
			c.VPMOVZXDQ(at(angle.from, 0), angle.to)
			c.VMOVSLDUP(angle.to, angle.to) // each twice
		}
		c.VMOVUPS(at(dst, 0), v)
		c.VPERMILPS(op.U8(0xb1), v, swapped)
		c.VMULPS(cos, v, v)
		c.VMULPS(sin, swapped, swapped)
		c.VADDSUBPS(swapped, v, v)
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
		scale, d := c.XMM(), c.YMM()
		c.VPXOR(scale, scale, scale)
		c.VPINSRW(op.U8(0), at(x, 0), scale, scale)
		c.VCVTPH2PS(scale, scale)
		c.VBROADCASTSS(scale, d)
		for i := range 4 {
			w := c.YMM()
			c.VPMOVSXBD(at(x, 2+8*i), w)
			c.VCVTDQ2PS(w, w)
			c.VMULPS(d, w, w)
			c.VMOVUPS(w, at(dst, 32*i))
		}
	})
	leave()
}

package main

import (
	"math"

	op "github.com/mmcloughlin/avo/operand"
)

// gates generates the gates for 16 lanes.
func gates() {
	gate("siluGateAVX512", "sets dst to silu(dst)*x.", func(v vec) {})
	gate("geluGateAVX512", "sets dst to gelu(dst)*x.", func(v vec) {
		cubic := c.ZMM()
		c.VMULPS(v, v, cubic)
		c.VMULPS_BCST(f32("geluCubic", 0.044715), cubic, cubic)
		c.VADDPS_BCST(f32("one", 1), cubic, cubic)
		c.VMULPS_BCST(f32("geluLinear", 1.59576912160573071), v, v)
		c.VMULPS(cubic, v, v)
	})
}

// gateVectors is how many vectors a gate has in hand: the steps of one wait for
// each other.
const gateVectors = 4

// gate generates dst = dst/(1+exp(-u))*x, where inner turns dst into u, for 64
// elements at once.
func gate(name, doc string, inner func(v vec)) {
	function(name, "vecArgs", doc)
	o := args()
	dst, x, n := o.load("dst"), o.load("x"), o.load("n")
	e := newExp16()
	c.Label("elements")
	u := zmms(gateVectors)
	for i, v := range u {
		c.VMOVUPS(at(dst, 64*i), v)
		inner(v)
		c.VPXORD_BCST(data("sign", 1<<31), v, v)
	}
	e.exp(u)
	for i, v := range u {
		out := c.ZMM()
		c.VADDPS_BCST(f32("one", 1), v, v)
		c.VMOVUPS(at(dst, 64*i), out)
		c.VDIVPS(v, out, out)
		c.VMULPS(at(x, 64*i), out, out)
		c.VMOVUPS(out, at(dst, 64*i))
	}
	c.ADDQ(op.U32(64*gateVectors), dst)
	c.ADDQ(op.U32(64*gateVectors), x)
	c.SUBQ(op.U8(16*gateVectors), n)
	c.JNZ(op.LabelRef("elements"))
	leave()
}

// exp16 is expF32 of package kernel on 16 lanes, with what its steps need in
// registers.
type exp16 struct{ most, least, log2e, round, ln2Hi, ln2Lo, p5, p4, p3, p2, p1, p0, one vec }

func newExp16() *exp16 {
	constant := func(name string, v float64) vec {
		z := c.ZMM()
		c.VBROADCASTSS(f32(name, float32(v)), z)
		return z
	}
	return &exp16{
		most: constant("expMax", 89), least: constant("expMin", -104),
		log2e: constant("log2e", math.Log2E), round: constant("roundAdd", 3<<22),
		ln2Hi: constant("ln2Hi", 0.693359375), ln2Lo: constant("ln2Lo", -2.12194440054690583e-4),
		p5: constant("expP5", 1.9875691500e-4), p4: constant("expP4", 1.3981999507e-3),
		p3: constant("expP3", 8.3334519073e-3), p2: constant("expP2", 4.1665795894e-2),
		p1: constant("expP1", 1.6666665459e-1), p0: constant("expP0", 5.0000001201e-1),
		one: constant("one", 1),
	}
}

// exp replaces each x, all step by step. The last step scales by a power of two
// with one rounding, which is what the two products of expF32 come to: the first
// is exact.
func (e *exp16) exp(x []vec) {
	n, p, t := zmms(len(x)), zmms(len(x)), zmms(len(x))
	each := func(f func(x, n, p, t vec)) {
		for i := range x {
			f(x[i], n[i], p[i], t[i])
		}
	}
	// MIN and MAX return their second source (avo's first operand) for NaNs.
	each(func(x, n, p, t vec) { c.VMINPS(x, e.most, x) })
	each(func(x, n, p, t vec) { c.VMAXPS(x, e.least, x) })
	each(func(x, n, p, t vec) { c.VMULPS(e.log2e, x, n) })
	each(func(x, n, p, t vec) { c.VADDPS(e.round, n, n) })
	each(func(x, n, p, t vec) { c.VSUBPS(e.round, n, n) })
	each(func(x, n, p, t vec) { c.VMULPS(e.ln2Hi, n, t) })
	each(func(x, n, p, t vec) { c.VSUBPS(t, x, x) })
	each(func(x, n, p, t vec) { c.VMULPS(e.ln2Lo, n, t) })
	each(func(x, n, p, t vec) { c.VSUBPS(t, x, x) })
	each(func(x, n, p, t vec) { c.VMULPS(e.p5, x, p) })
	each(func(x, n, p, t vec) { c.VADDPS(e.p4, p, p) })
	for _, k := range []vec{e.p3, e.p2, e.p1, e.p0} {
		each(func(x, n, p, t vec) { c.VMULPS(x, p, p) })
		each(func(x, n, p, t vec) { c.VADDPS(k, p, p) })
	}
	each(func(x, n, p, t vec) { c.VMULPS(x, x, t) })
	each(func(x, n, p, t vec) { c.VMULPS(t, p, p) })
	each(func(x, n, p, t vec) { c.VADDPS(x, p, p) })
	each(func(x, n, p, t vec) { c.VADDPS(e.one, p, p) })
	each(func(x, n, p, t vec) { c.VSCALEFPS(n, p, x) })
}

package main

import (
	"math"

	op "github.com/mmcloughlin/avo/operand"
)

// exp is expF32 of package kernel, step by step, with the constants in registers
// where there are enough of those.
type exp struct {
	width
	most, least, log2e, round, ln2Hi, ln2Lo, p5, p4, p3, p2, p1, p0, one op.Op
}

func (w width) newExp() *exp {
	constant := func(name string, v float64) op.Op {
		if w.lanes == 16 {
			return w.repeated(name, math.Float32bits(float32(v)))
		}
		return w.memory(name, v)
	}
	return &exp{
		width: w, most: constant("expMax", 89), least: constant("expMin", -104),
		log2e: constant("log2e", math.Log2E), round: constant("roundAdd", 3<<22),
		ln2Hi: constant("ln2Hi", 0.693359375), ln2Lo: constant("ln2Lo", -2.12194440054690583e-4),
		p5: constant("expP5", 1.9875691500e-4), p4: constant("expP4", 1.3981999507e-3),
		p3: constant("expP3", 8.3334519073e-3), p2: constant("expP2", 4.1665795894e-2),
		p1: constant("expP1", 1.6666665459e-1), p0: constant("expP0", 5.0000001201e-1),
		one: constant("one", 1),
	}
}

// of is the exponential function of each x. The steps of one wait for each other,
// so those of several are interleaved.
func (e *exp) of(x ...vec) []vec {
	each := func(f func(i int)) {
		for i := range x {
			f(i)
		}
	}
	// MIN and MAX return their second source (avo's first operand) for NaNs, so
	// the limit isn't the one in memory.
	limit := func(o op.Op) op.Op {
		if m, ok := o.(op.Mem); ok {
			v := e.vec()
			c.VMOVUPS(m, v)
			return v
		}
		return o
	}
	n := len(x)
	r, t, f, p := e.vecs(n), e.vecs(n), e.vecs(n), e.vecs(n)
	most := limit(e.most)
	each(func(i int) { c.VMINPS(x[i], most, r[i]) })
	least := limit(e.least)
	each(func(i int) { c.VMAXPS(r[i], least, r[i]) })
	each(func(i int) { c.VMULPS(e.log2e, r[i], t[i]) })
	each(func(i int) { c.VADDPS(e.round, t[i], t[i]) })
	each(func(i int) { c.VSUBPS(e.round, t[i], f[i]) })
	each(func(i int) { c.VMULPS(e.ln2Hi, f[i], p[i]) })
	each(func(i int) { c.VSUBPS(p[i], r[i], r[i]) })
	each(func(i int) { c.VMULPS(e.ln2Lo, f[i], p[i]) })
	each(func(i int) { c.VSUBPS(p[i], r[i], r[i]) })
	each(func(i int) { c.VMULPS(e.p5, r[i], p[i]) })
	each(func(i int) { c.VADDPS(e.p4, p[i], p[i]) })
	for _, k := range []op.Op{e.p3, e.p2, e.p1, e.p0} {
		each(func(i int) { c.VMULPS(r[i], p[i], p[i]) })
		each(func(i int) { c.VADDPS(k, p[i], p[i]) })
	}
	square := e.vecs(n)
	each(func(i int) { c.VMULPS(r[i], r[i], square[i]) })
	each(func(i int) { c.VMULPS(square[i], p[i], p[i]) })
	each(func(i int) { c.VADDPS(r[i], p[i], p[i]) })
	each(func(i int) { c.VADDPS(e.one, p[i], p[i]) })
	if e.lanes == 16 {
		// One rounding, which is what the two products below come to: the first
		// is exact.
		each(func(i int) { c.VSCALEFPS(f[i], p[i], p[i]) })
		return p
	}
	power, half := e.vecs(n), e.vecs(n)
	each(func(i int) { c.VPSUBD(e.round, t[i], power[i]) })
	each(func(i int) { c.VPSRAD(op.U8(1), power[i], half[i]) })
	each(func(i int) { c.VPSUBD(half[i], power[i], power[i]) })
	for _, k := range [][]vec{half, power} {
		each(func(i int) { c.VPADDD(data("bias", 127, 127, 127, 127, 127, 127, 127, 127), k[i], k[i]) })
		each(func(i int) { c.VPSLLD(op.U8(23), k[i], k[i]) })
		each(func(i int) { c.VMULPS(k[i], p[i], p[i]) })
	}
	return p
}

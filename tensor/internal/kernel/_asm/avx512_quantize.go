package main

import (
	"math"

	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// foldFour folds the 16 lanes of each of four vectors into a lane of 128 bits:
// the halves of 16, then those of 8.
func foldFour(v []vec, fold func(...op.Op)) vec {
	return foldPairs(foldHalves(v[0], v[1], 0x44, 0xee, fold), foldHalves(v[2], v[3], 0x44, 0xee, fold), fold)
}

// foldPairs folds the eight lanes of each of four halves, as foldFour does.
func foldPairs(ab, cd vec, fold func(...op.Op)) vec { return foldHalves(ab, cd, 0x88, 0xdd, fold) }

func foldHalves(a, b vec, lo, hi uint8, fold func(...op.Op)) vec {
	l, h := c.ZMM(), c.ZMM()
	c.VSHUFF64X2(op.U8(lo), b, a, l)
	c.VSHUFF64X2(op.U8(hi), b, a, h)
	fold(h, l, l)
	return l
}

// foldLanes folds the four dwords of each lane of 128 bits, i and i+2 first; all
// four become the result.
func foldLanes(v vec, fold func(...op.Op)) {
	t := zmms(2)
	for i, order := range []uint8{0x4e, 0xb1} {
		c.VPSHUFD(op.U8(order), v, t[i])
		fold(t[i], v, v)
	}
}

// quantizeAVX512 is quantizeBlock over the blocks of a token, four at once: a lane
// of 128 bits for each in what is folded.
func quantizeAVX512() {
	function("quantizeAVX512", "quantArgs", "quantises a token's blocks of 32, at least four.")
	o := args()
	x, blocks := o.load("x"), o.load("blocks")
	q, qStep := o.load("q"), o.load("qStep")
	d4, sStep := o.load("scales"), o.load("sStep")
	n4, nStep := o.load("fix"), o.load("fixStep")
	s4 := o.load("offset")
	c.ADDQ(d4, s4)
	to := func(first, step reg.GPVirtual) *strided { return newStrided(first, step, 4) }
	qs, ds, ss, ns := to(q, qStep), to(d4, sStep), to(s4, sStep), to(n4, nStep)

	constant := wide16.repeated
	abs, bytes, least := constant("abs", 0x7fffffff), constant("ones", 0x01010101), constant("minScale", 0x00800000)
	one, most, order := constant("one", math.Float32bits(1)), constant("most", math.Float32bits(127)), c.ZMM()
	c.VMOVDQU32(data("packOrder16", 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), order)
	zero := zeroed()

	// scale sets a scale for each of four blocks at x and its inverse, and ok where
	// it is a normal number: others are outside one range of bits.
	scale := func(x reg.GPVirtual) (d, inv vec, ok reg.OpmaskVirtual) {
		m := zmms(8)
		for i := range m {
			c.VPANDD(at(x, 64*i), abs, m[i])
		}
		for i := range 4 {
			c.VPMAXUD(m[2*i+1], m[2*i], m[i])
		}
		d, inv, ok = foldFour(m[:4], c.VPMAXUD), c.ZMM(), c.K()
		foldLanes(d, c.VPMAXUD)
		c.VDIVPS(most, d, d)
		above := c.ZMM()
		c.VPSUBD(least, d, above)
		c.VPCMPUD_BCST(op.U8(1), data("normals", 0x7f000000), above, ok)
		c.VDIVPS_Z(d, one, ok, inv)
		return d, inv, ok
	}
	nextD, nextInv, nextOK := scale(x)

	c.Label("blocks")
	d, inv, ok := c.ZMM(), c.ZMM(), c.K()
	c.VMOVDQA64(nextD, d)
	c.VMOVDQA64(nextInv, inv)
	c.KMOVW(nextOK, ok)
	v := zmms(8)
	for i := range v {
		c.VMOVUPS(at(x, 64*i), v[i])
	}
	c.KORTESTW(ok, ok)
	c.JNC(op.LabelRef("unusual"))

	// The next blocks' scales don't wait for these blocks. The last four begin
	// where they must, and are then computed again.
	c.Label("round")
	step := c.GP64()
	c.SUBQ(op.U8(4), blocks)
	c.MOVQ(op.U32(4), step)
	c.CMPQ(blocks, op.U8(4))
	c.CMOVQLT(blocks, step)
	c.SHLQ(op.U8(7), step)
	c.ADDQ(step, x)
	c.SHRQ(op.U8(7), step)
	d2, inv2, ok2 := scale(x)
	c.VMOVDQA64(d2, nextD)
	c.VMOVDQA64(inv2, nextInv)
	c.KMOVW(ok2, nextOK)

	fits, packed := zmms(4), zmms(2)
	for i := range fits {
		factor, n, p := c.ZMM(), zmms(2), zmms(2)
		c.VSHUFF32X4(op.U8(0x55*i), inv, inv, factor)
		for h := range n {
			scaled := v[2*i+h]
			c.VMULPS(factor, scaled, scaled) // x/d
			c.VCVTPS2DQ(scaled, n[h])        // q
			c.VCVTDQ2PS(n[h], p[h])
			c.VMULPS(p[h], scaled, p[h])
		}
		c.VADDPS(p[1], p[0], p[0])
		fits[i] = p[0]
		c.VPACKSSDW(n[1], n[0], v[i])
	}
	// Bytes are multiplied and added as they lie: a block is a half.
	sums, squares := zmms(2), zmms(2)
	for i, p := range packed {
		c.VPACKSSWB(v[2*i+1], v[2*i], p)
		c.VPERMD(p, order, p)
		c.VMOVDQU(p.AsY(), qs.at(2*i, 0))
		c.VEXTRACTI64X4(op.U8(1), p, qs.at(2*i+1, 0))
		c.VMOVDQA64(zero, sums[i])
		c.VPDPBUSD(p, bytes, sums[i])
		c.VPABSB(p, p)
		c.VMOVDQA64(zero, squares[i])
		c.VPDPBUSD(p, p, squares[i])
	}
	fit := foldFour(fits, c.VADDPS)
	foldLanes(fit, c.VADDPS)
	sum, square := foldPairs(sums[0], sums[1], c.VPADDD), foldPairs(squares[0], squares[1], c.VPADDD)
	both, high := c.ZMM(), c.ZMM() // sum, square, sum, square
	c.VPUNPCKLDQ(square, sum, both)
	c.VPUNPCKHDQ(square, sum, high)
	c.VPADDD(high, both, both)
	c.VPSHUFD(op.U8(0x4e), both, high)
	c.VPADDD(high, both, both)

	// Where the scale is zero or not finite, so is its product with zero.
	s := c.ZMM()
	c.VCVTDQ2PS(both, s)
	c.VMOVSHDUP(s, high)
	c.VDIVPS_Z(high, fit, ok, fit)
	c.VMULPS(fit, d, d)
	c.VMULPS(d, s, s)
	c.VPSLLD(op.U8(7), both, both)
	c.VPSUBD(both, zero, both)
	for _, result := range []struct {
		of vec
		to *strided
	}{{d, ds}, {s, ss}, {both, ns}} {
		for i := range 4 {
			lane := result.of.AsX()
			if i > 0 {
				lane = c.XMM()
				c.VEXTRACTF32X4(op.U8(i), result.of, lane)
			}
			c.VMOVSS(lane, result.to.at(i, 0))
		}
	}
	for _, p := range []*strided{qs, ds, ss, ns} {
		by := c.GP64()
		c.MOVQ(step, by)
		c.IMULQ(p.step, by)
		for _, b := range p.base {
			c.ADDQ(by, b)
		}
	}
	c.TESTQ(blocks, blocks)
	c.JZ(op.LabelRef("done"))
	c.MOVQ(op.U32(4), step)
	c.CMPQ(blocks, step)
	c.CMOVQLT(step, blocks)
	c.JMP(op.LabelRef("blocks"))
	c.Label("done")
	leave()

	// A block without a scale has zeros.
	c.Label("unusual")
	bits := c.GP32()
	c.KMOVW(ok, bits)
	for i, name := range []string{"second", "third", "fourth", "round"} {
		c.TESTL(op.U32(1<<(4*i)), bits)
		c.JNZ(op.LabelRef(name))
		c.VPXORD(v[2*i], v[2*i], v[2*i])
		c.VPXORD(v[2*i+1], v[2*i+1], v[2*i+1])
		if i == 3 {
			c.JMP(op.LabelRef(name))
		} else {
			c.Label(name)
		}
	}
}

package main

import (
	"fmt"

	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// What a block of keys looks like; package kernel has the same numbers.
const (
	blockKeys = 32
	scoreRow  = 4 * blockKeys // bytes of a query's scores
	oneBits   = 0x3f800000
)

// attention generates the three passes over a block of keys and values: for up
// to three queries at once, as that is what 16 registers hold.
func attention() {
	for _, f := range []string{"F32", "F16"} {
		for n := 1; n <= 3; n++ {
			scores(f, n)
		}
	}
	softmax()
	for _, f := range []string{"F32", "F16"} {
		for n := 1; n <= 3; n++ {
			weigh(f, n)
		}
	}
}

// scores generates the products of nq queries with groups of four keys. A
// product has 8 lanes, which are added up at the end: i and i+2, i and i+1,
// then the halves.
func scores(f string, nq int) {
	function(fmt.Sprintf("scores%sx%dAVX2", f, nq), "attendArgs",
		fmt.Sprintf("multiplies %d queries with the block's keys of %s.", nq, f))
	o := args()
	query, row := rowBytes(o, "F32"), rowBytes(o, f)
	keys, out, groups := o.load("keys"), o.load("scores"), o.load("n")
	c.ADDQ(op.U8(3), groups)
	c.SHRQ(op.U8(2), groups)
	r, d := newStrided(keys, row, 4), c.GP64()

	c.Label("group")
	o = args()
	x := newStrided(o.load("q"), query, nq)
	c.MOVQ(o.at("d"), d)
	acc := make([][]vec, nq)
	for i := range acc {
		acc[i] = ymms(4)
		for _, a := range acc[i] {
			c.VXORPS(a, a, a)
		}
	}
	c.Label("elements")
	xs := ymms(nq)
	for i := range xs {
		c.VMOVUPS(x.at(i, 0), xs[i])
	}
	for j := range 4 {
		k := c.YMM()
		wide8.fetch(f, r.at(j, 0), 0, k)
		for i := range xs {
			c.VFMADD231PS(k, xs[i], acc[i][j])
		}
	}
	r.advance(8 * elementBytes(f))
	x.advance(32)
	c.SUBQ(op.U8(8), d)
	c.JNZ(op.LabelRef("elements"))
	for i, a := range acc {
		c.VMOVUPS(wide8.sumFour(a), at(out, scoreRow*i))
	}
	c.ADDQ(op.U8(16), out)
	// The keys lie one after the other: the first one's end is the second's start.
	for range 3 {
		c.ADDQ(row, keys)
	}
	r.spread()
	c.DECQ(groups)
	c.JNZ(op.LabelRef("group"))
	leave()
}

// rowBytes is the size of d elements.
func rowBytes(o operands, f string) reg.GPVirtual {
	r := o.load("d")
	c.SHLQ(op.U8(elementBytes(f)/2), r) // 2 or 4 bytes
	return r
}

// softmax generates the online softmax over the scores of a block: see
// foldScores of package kernel, whose steps it repeats.
func softmax() {
	function("softmaxAVX2", "attendArgs", "turns the block's scores into weights.")
	o := args()
	row, tops, sums, factors := o.load("scores"), o.load("tops"), o.load("sums"), o.load("factors")
	queries := o.load("queries")
	limit, lanes := c.YMM(), c.YMM()
	c.VPBROADCASTD(o.at("n"), limit)
	c.VMOVDQU(data("iota", 0, 1, 2, 3, 4, 5, 6, 7), lanes)
	none := repeated("minusInf", 0xff800000)

	c.Label("query")
	v := ymms(4)
	place := c.YMM()
	c.VMOVDQA(lanes, place)
	for i := range v {
		valid := c.YMM()
		c.VPCMPGTD(place, limit, valid)
		c.VMOVUPS(at(row, 32*i), v[i])
		c.VBLENDVPS(valid, v[i], none, v[i])
		if i < 3 {
			c.VPADDD(data("eights", 8, 8, 8, 8, 8, 8, 8, 8), place, place)
		}
	}
	before, m, b := c.YMM(), c.YMM(), c.YMM()
	c.VBROADCASTSS(at(tops, 0), before)
	c.VMAXPS(before, v[0], m) // the second source (first here) where v is NaN
	c.VMAXPS(before, v[1], b)
	c.VMAXPS(m, v[2], m)
	c.VMAXPS(b, v[3], b)
	c.VMAXPS(m, b, m)
	x, t := c.XMM(), c.XMM()
	c.VEXTRACTF128(op.U8(1), m, x)
	c.VMAXPS(x, m.AsX(), x)
	c.VMOVHLPS(x, x, t)
	c.VMAXPS(t, x, x)
	c.VMOVSHDUP(x, t)
	c.VMAXSS(t, x, x)
	c.VMOVSS(x, at(tops, 0))
	top := c.YMM()
	c.VBROADCASTSS(x, top)
	c.MOVL(op.U32(oneBits), at(factors, 0))
	c.VUCOMISS(before.AsX(), x)
	c.JEQ(op.LabelRef("weights"))
	c.VSUBPS(top, before, before)
	c.VMOVSS(exp(before)[0].AsX(), at(factors, 0))
	c.Label("weights")
	for i := 0; i < len(v); i += 2 {
		c.VSUBPS(top, v[i], v[i])
		c.VSUBPS(top, v[i+1], v[i+1])
		copy(v[i:], exp(v[i:i+2]...))
		c.VMOVUPS(v[i], at(row, 32*i))
		c.VMOVUPS(v[i+1], at(row, 32*i+32))
	}
	c.VADDPS(v[1], v[0], v[0])
	c.VADDPS(v[3], v[2], v[2])
	c.VADDPS(v[2], v[0], v[0])
	total := horizontal(v[0])
	c.VMOVSS(at(sums, 0), t)
	c.VMULSS(at(factors, 0), t, t)
	c.VADDSS(total, t, t)
	c.VMOVSS(t, at(sums, 0))
	c.ADDQ(op.I32(scoreRow), row)
	for _, p := range []reg.GPVirtual{tops, sums, factors} {
		c.ADDQ(op.U8(4), p)
	}
	c.DECQ(queries)
	c.JNZ(op.LabelRef("query"))
	leave()
}

// horizontal adds lane i and i+4, i and i+2, i and i+1.
func horizontal(v vec) vec {
	x, t := c.XMM(), c.XMM()
	c.VEXTRACTF128(op.U8(1), v, x)
	c.VADDPS(x, v.AsX(), x)
	c.VMOVHLPS(x, x, t)
	c.VADDPS(t, x, x)
	c.VMOVSHDUP(x, t)
	c.VADDSS(t, x, x)
	return x
}

// weigh generates acc = acc*factor + sum over j of weight[j]*values[j], j
// ascending, one FMA an element, for nq queries: for as many elements at once
// as the registers hold.
func weigh(f string, nq int) {
	function(fmt.Sprintf("weigh%sx%dAVX2", f, nq), "attendArgs",
		fmt.Sprintf("adds the block's weighted values of %s to the sums of %d queries.", f, nq))
	o := args()
	values, acc, left := o.load("values"), o.load("acc"), o.load("d")
	query, row := rowBytes(o, "F32"), rowBytes(o, f)
	for _, m := range []int{[]int{8, 6, 4}[nq-1], 1} {
		label := fmt.Sprintf("chunk%d", m)
		c.Label(label)
		c.CMPQ(left, op.I32(8*m))
		c.JLT(op.LabelRef("after" + label))
		o = args()
		p, count, factors, from := o.load("scores"), o.load("n"), o.load("factors"), c.GP64()
		to := newStrided(acc, query, nq)
		c.MOVQ(values, from)
		sums := make([][]vec, nq)
		for i := range sums {
			sums[i] = ymms(m)
			factor := c.YMM()
			c.VBROADCASTSS(at(factors, 4*i), factor)
			for e, s := range sums[i] {
				c.VMULPS(to.at(i, 32*e), factor, s)
			}
		}
		c.Label("value" + label)
		w := ymms(nq)
		for i := range w {
			c.VBROADCASTSS(at(p, scoreRow*i), w[i])
		}
		for e := range m {
			v := c.YMM()
			wide8.fetch(f, at(from, 0), e, v)
			for i := range w {
				c.VFMADD231PS(v, w[i], sums[i][e])
			}
		}
		c.ADDQ(op.U8(4), p)
		c.ADDQ(row, from)
		c.DECQ(count)
		c.JNZ(op.LabelRef("value" + label))
		for i := range sums {
			for e, s := range sums[i] {
				c.VMOVUPS(s, to.at(i, 32*e))
			}
		}
		c.ADDQ(op.I32(8*m*elementBytes(f)), values)
		c.ADDQ(op.I32(32*m), acc)
		c.SUBQ(op.I32(8*m), left)
		c.JMP(op.LabelRef(label))
		c.Label("after" + label)
	}
	leave()
}

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
	scaleLen  = 32            // elements of a key that share a scale in Q8
	scaleRow  = 2 * blockKeys // bytes of such scales of a block's keys
	oneBits   = 0x3f800000
)

// pageFormats are what keys and values lie in.
var pageFormats = []string{"F32", "F16", "Q8"}

// attention generates the three passes over a block of keys and values, for so many
// queries at once as the registers hold.
func attention() {
	for _, f := range pageFormats {
		for _, n := range []int{1, 2, 3} {
			wide8.scores(f, n)
		}
	}
	softmax()
	for _, f := range pageFormats {
		for _, n := range []int{1, 2, 3} {
			most := []int{8, 6, 4}[n-1]
			if f == "Q8" {
				most = []int{8, 4, 4}[n-1] // whole scales
			}
			wide8.weigh(f, n, most)
		}
	}
}

// attention16 generates them for AVX-512.
func attention16() {
	for _, f := range pageFormats {
		for _, n := range []int{1, 2, 3, 4, 6, 8, 12} {
			wide16.scores(f, n)
		}
	}
	softmax16()
	for _, f := range pageFormats {
		for _, n := range []int{1, 2, 3, 4, 6} {
			wide16.weigh(f, n, 4)
		}
	}
}

// scores generates the products of nq queries with a block's keys, which are the
// lanes: one FMA for each element after the other. In Q8 the sums over the elements
// that share a scale are multiplied by it and added up.
func (w width) scores(f string, nq int) {
	function(fmt.Sprintf("scores%sx%d%s", f, nq, w.suffix), "attendArgs",
		fmt.Sprintf("multiplies %d queries with the block's keys of %s.", nq, f))
	o := args()
	x := newStrided(o.load("q"), rowBytes(o, "F32"), nq)
	keys, out, d := o.load("keys"), o.load("scores"), o.load("d")
	left := d // in the loop over elements
	var scales reg.GPVirtual
	if f == "Q8" {
		scales, left = o.load("keyScales"), c.GP64()
	}
	acc := make([][]vec, nq)
	for i := range acc {
		acc[i] = w.vecs(blockKeys / w.lanes)
	}
	clearAll := func() {
		for i := range acc {
			for _, a := range acc[i] {
				w.zero(a)
			}
		}
	}
	storeAll := func() {
		for i := range acc {
			for j, a := range acc[i] {
				c.VMOVUPS(a, at(out, scoreRow*i+w.bytes()*j))
			}
		}
	}
	clearAll()
	if f == "Q8" {
		storeAll()
		c.Label("scale")
		c.MOVQ(op.U32(scaleLen), left)
	}
	const unroll = 4
	c.Label("elements")
	for e := range unroll {
		var xs []vec
		if w.lanes == 8 {
			xs = ymms(nq)
			for i := range xs {
				c.VBROADCASTSS(x.at(i, 4*e), xs[i])
			}
		}
		row := at(keys, e*blockKeys*elementBytes(f))
		for j := range acc[0] {
			k := w.vec()
			w.fetch(f, row, j, k)
			for i := range acc {
				if xs != nil {
					c.VFMADD231PS(k, xs[i], acc[i][j])
				} else {
					c.VFMADD231PS_BCST(x.at(i, 4*e), k, acc[i][j])
				}
			}
		}
	}
	c.ADDQ(op.I32(unroll*blockKeys*elementBytes(f)), keys)
	x.advance(4 * unroll)
	c.SUBQ(op.U8(unroll), left)
	c.JNZ(op.LabelRef("elements"))
	if f == "Q8" {
		for j := range acc[0] {
			s := w.vec()
			w.fetch("F16", at(scales, 0), j, s)
			for i := range acc {
				c.VFMADD213PS(at(out, scoreRow*i+w.bytes()*j), s, acc[i][j])
			}
		}
		storeAll()
		clearAll()
		c.ADDQ(op.U8(scaleRow), scales)
		c.SUBQ(op.U8(scaleLen), d)
		c.JNZ(op.LabelRef("scale"))
	} else {
		storeAll()
	}
	leave()
}

// rowBytes is the size of d elements.
func rowBytes(o operands, f string) reg.GPVirtual {
	r := o.load("d")
	c.SHLQ(op.U8(elementBytes(f)/2), r) // 1, 2 or 4 bytes
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
	none, exp := wide8.repeated("minusInf", 0xff800000), wide8.newExp()

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
	x, t := wide8.horizontal(m, c.VMAXPS, c.VMAXSS), c.XMM()
	c.VMOVSS(x, at(tops, 0))
	top := c.YMM()
	c.VBROADCASTSS(x, top)
	c.MOVL(op.U32(oneBits), at(factors, 0))
	c.VUCOMISS(before.AsX(), x)
	c.JEQ(op.LabelRef("weights"))
	c.VSUBPS(top, before, before)
	c.VMOVSS(exp.of(before)[0].AsX(), at(factors, 0))
	c.Label("weights")
	for i := 0; i < len(v); i += 2 {
		c.VSUBPS(top, v[i], v[i])
		c.VSUBPS(top, v[i+1], v[i+1])
		copy(v[i:], exp.of(v[i:i+2]...))
		c.VMOVUPS(v[i], at(row, 32*i))
		c.VMOVUPS(v[i+1], at(row, 32*i+32))
	}
	c.VADDPS(v[1], v[0], v[0])
	c.VADDPS(v[3], v[2], v[2])
	c.VADDPS(v[2], v[0], v[0])
	total := wide8.horizontal(v[0], c.VADDPS, c.VADDSS)
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

// weigh generates acc = acc*factor + sum over j of weight[j]*values[j], j
// ascending, one FMA an element, for nq queries: for most vectors of elements at
// once, then for one. In Q8 the weights are multiplied by the scales first, for whole
// scales of elements.
func (w width) weigh(f string, nq, most int) {
	function(fmt.Sprintf("weigh%sx%d%s", f, nq, w.suffix), "attendArgs",
		fmt.Sprintf("adds the block's weighted values of %s to the sums of %d queries.", f, nq))
	o := args()
	values, acc, left := o.load("values"), o.load("acc"), o.load("d")
	query, row := rowBytes(o, "F32"), rowBytes(o, f)
	least := 1
	var scales reg.GPVirtual
	if f == "Q8" {
		least, scales = scaleLen/w.lanes, o.load("valueScales")
	}
	sizes := []int{most}
	if most > least {
		sizes = append(sizes, least)
	}
	for _, m := range sizes {
		label := fmt.Sprintf("chunk%d", m)
		c.Label(label)
		c.CMPQ(left, op.I32(w.lanes*m))
		c.JLT(op.LabelRef("after" + label))
		o = args()
		p, count, factors, from := o.load("scores"), o.load("n"), o.load("factors"), c.GP64()
		// Vectors that share a weight, how many such groups there are, and where a
		// query's weights are.
		shared, groups := m, 1
		if f == "Q8" {
			shared, groups = least, m/least
			p = w.scaleWeights(o, p, scales, nq, groups)
		}
		weight := func(i, g int) op.Mem { return at(p, scoreRow*(i*groups+g)) }
		c.ADDQ(o.at("skip"), p)
		to := newStrided(acc, query, nq)
		c.MOVQ(values, from)
		sums := make([][]vec, nq)
		for i := range sums {
			sums[i] = w.vecs(m)
			factor := w.vec()
			c.VBROADCASTSS(at(factors, 4*i), factor)
			for e, s := range sums[i] {
				c.VMULPS(to.at(i, w.bytes()*e), factor, s)
			}
		}
		c.Label("value" + label)
		for g := range groups {
			weights := w.vecs(nq)
			for i := range weights {
				c.VBROADCASTSS(weight(i, g), weights[i])
			}
			for e := g * shared; e < (g+1)*shared; e++ {
				v := w.vec()
				w.fetch(f, at(from, 0), e, v)
				for i := range weights {
					c.VFMADD231PS(v, weights[i], sums[i][e])
				}
			}
		}
		c.ADDQ(op.U8(4), p)
		c.ADDQ(row, from)
		c.DECQ(count)
		c.JNZ(op.LabelRef("value" + label))
		for i := range sums {
			for e, s := range sums[i] {
				c.VMOVUPS(s, to.at(i, w.bytes()*e))
			}
		}
		c.ADDQ(op.I32(w.lanes*m*elementBytes(f)), values)
		c.ADDQ(op.I32(w.bytes()*m), acc)
		c.SUBQ(op.I32(w.lanes*m), left)
		c.JMP(op.LabelRef(label))
		c.Label("after" + label)
	}
	leave()
}

// scaleWeights generates the products of nq queries' weights p with the scales of
// the next groups of elements, and moves scales on. The products lie
// [query][group][key].
func (w width) scaleWeights(o operands, p, scales reg.GPVirtual, nq, groups int) reg.GPVirtual {
	scaled := o.load("scaled")
	for g := range groups {
		for j := range blockKeys / w.lanes {
			s := w.vec()
			w.fetch("F16", at(scales, scaleRow*g), j, s)
			for i := range nq {
				product := w.vec()
				c.VMULPS(at(p, scoreRow*i+w.bytes()*j), s, product)
				c.VMOVUPS(product, at(scaled, scoreRow*(i*groups+g)+w.bytes()*j))
			}
		}
	}
	c.ADDQ(op.U8(scaleRow*groups), scales)
	return scaled
}

package main

import (
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// softmax16 generates the online softmax for 16 lanes: see foldScores of package
// kernel, whose steps it repeats, each for all queries before the next one.
func softmax16() {
	function("softmaxAVX512", "attendArgs", "turns the block's scores into weights.")
	s := softmaxLoops{exp: wide16.newExp(), none: wide16.repeated("minusInf", 0xff800000)}
	o := args()
	n, bits := o.load("n"), c.GP64()
	c.MOVQ(op.I32(-1), bits)
	c.BZHIQ(n, bits, bits)
	for i := range s.valid {
		s.valid[i] = c.K()
		c.KMOVW(bits.As32(), s.valid[i])
		c.SHRQ(op.U8(16), bits)
	}
	s.each("top", s.raise)
	s.rescale()
	s.each("weight", s.weigh)
	leave()
}

type softmaxLoops struct {
	exp   *exp
	none  vec
	valid [2]reg.OpmaskVirtual // which of the block's keys count

	row, tops, sums, factors reg.GPVirtual
}

// each loops over the queries, two at a time where there are two: the steps of one
// wait for each other.
func (s *softmaxLoops) each(name string, body func(queries int)) {
	o := args()
	s.row, s.tops, s.sums, s.factors = o.load("scores"), o.load("tops"), o.load("sums"), o.load("factors")
	left := o.load("queries")
	for _, n := range []int{2, 1} {
		label := []string{"", "One", "Two"}[n]
		c.Label(name + label)
		c.CMPQ(left, op.U8(n))
		c.JLT(op.LabelRef("after_" + name + label))
		body(n)
		c.ADDQ(op.I32(scoreRow*n), s.row)
		for _, p := range []reg.GPVirtual{s.tops, s.sums, s.factors} {
			c.ADDQ(op.U8(4*n), p)
		}
		c.SUBQ(op.U8(n), left)
		c.JMP(op.LabelRef(name + label))
		c.Label("after_" + name + label)
	}
}

// scores loads those of a query.
func (s *softmaxLoops) scores(q int) []vec {
	x := zmms(2)
	for h, v := range x {
		c.VMOVDQA64(s.none, v)
		c.VMOVUPS(at(s.row, scoreRow*q+64*h), s.valid[h], v)
	}
	return x
}

// raise sets the tops, and the factors to what they were less what they are.
func (s *softmaxLoops) raise(queries int) {
	before, top := zmms(queries), zmms(queries)
	for q := range queries {
		c.VBROADCASTSS(at(s.tops, 4*q), before[q])
		// MAX returns its second source (avo's first operand) where the other is NaN.
		x := s.scores(q)
		c.VMAXPS(before[q], x[0], top[q])
		c.VMAXPS(top[q], x[1], top[q])
	}
	for step, lanes := range []uint8{0x4e, 0xb1, 0x4e, 0xb1} {
		t := zmms(queries)
		for q := range t {
			if step < 2 {
				c.VSHUFF32X4(op.U8(lanes), top[q], top[q], t[q])
			} else {
				c.VPERMILPS(op.U8(lanes), top[q], t[q])
			}
			c.VMAXPS(t[q], top[q], top[q])
		}
	}
	for q := range queries {
		less, same := c.XMM(), c.K()
		c.VMOVSS(top[q].AsX(), at(s.tops, 4*q))
		c.VCMPPS(op.U8(0), top[q], before[q], same)
		c.VSUBSS(top[q].AsX(), before[q].AsX(), less)
		c.VPXORD(less, less, same, less) // no change, even where both are infinite
		c.VMOVSS(less, at(s.factors, 4*q))
	}
}

// rescale makes factors of the differences and multiplies the sums by them, for 16
// queries at once.
func (s *softmaxLoops) rescale() {
	o := args()
	sums, factors, left, bits := o.load("sums"), o.load("factors"), o.load("queries"), c.GP64()
	c.Label("rescale")
	c.MOVQ(op.I32(-1), bits)
	c.BZHIQ(left, bits, bits)
	some := c.K()
	c.KMOVW(bits.As32(), some)
	x, sum := c.ZMM(), c.ZMM()
	c.VMOVUPS_Z(at(factors, 0), some, x)
	x = s.exp.of(x)[0]
	c.VMOVUPS(x, some, at(factors, 0))
	c.VMOVUPS_Z(at(sums, 0), some, sum)
	c.VMULPS(x, sum, sum)
	c.VMOVUPS(sum, some, at(sums, 0))
	c.ADDQ(op.U8(64), factors)
	c.ADDQ(op.U8(64), sums)
	c.SUBQ(op.U8(16), left)
	c.JG(op.LabelRef("rescale"))
}

// weigh makes weights of the scores and adds them to the sums.
func (s *softmaxLoops) weigh(queries int) {
	var x []vec
	for q := range queries {
		top, scores := c.ZMM(), s.scores(q)
		c.VBROADCASTSS(at(s.tops, 4*q), top)
		for _, v := range scores {
			c.VSUBPS(top, v, v)
		}
		x = append(x, scores...)
	}
	x = s.exp.of(x...)
	for q := range queries {
		halves := ymms(2)
		for h := range halves {
			v := x[2*q+h]
			c.VMOVUPS(v, at(s.row, scoreRow*q+64*h))
			c.VEXTRACTF64X4(op.U8(1), v, halves[h])
			c.VADDPS(halves[h], v.AsY(), halves[h])
		}
		c.VADDPS(halves[1], halves[0], halves[0])
		total := wide16.horizontal(halves[0], c.VADDPS, c.VADDSS)
		c.VADDSS(at(s.sums, 4*q), total, total)
		c.VMOVSS(total, at(s.sums, 4*q))
	}
}

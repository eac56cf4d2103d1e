package main

import (
	"fmt"

	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// strided addresses n things that are step apart, with a base for each three.
type strided struct {
	base []reg.GPVirtual
	step reg.GPVirtual
}

func newStrided(first, step reg.GPVirtual, n int) *strided {
	s := &strided{[]reg.GPVirtual{first}, step}
	for i := 3; i < n; i += 3 {
		s.base = append(s.base, c.GP64())
	}
	s.spread()
	return s
}

func (s *strided) spread() {
	for i := 1; i < len(s.base); i++ {
		c.LEAQ(op.Mem{Base: s.base[i-1], Index: s.step, Scale: 2}, s.base[i])
		c.ADDQ(s.step, s.base[i])
	}
}

func (s *strided) at(i, disp int) op.Mem {
	m := op.Mem{Base: s.base[i/3], Disp: disp}
	if i %= 3; i > 0 {
		m.Index, m.Scale = s.step, uint8(i)
	}
	return m
}

func (s *strided) advance(n int) {
	for _, b := range s.base {
		c.ADDQ(op.I32(n), b)
	}
}

// width is the vector width that a float kernel is generated for. Whatever it
// is, a product has 16 lanes: a vector of 16, or two of 8.
type width struct {
	suffix string
	lanes  int
	vec    func() vec
}

var (
	wide8  = width{"AVX2", 8, func() vec { return c.YMM() }}
	wide16 = width{"AVX512", 16, func() vec { return c.ZMM() }}
)

func (w width) bytes() int { return 4 * w.lanes }

// vecs returns n registers.
func (w width) vecs(n int) []vec {
	v := make([]vec, n)
	for i := range v {
		v[i] = w.vec()
	}
	return v
}

func (w width) zero(v vec) {
	if w.lanes == 16 {
		c.VPXORD(v, v, v)
	} else {
		c.VXORPS(v, v, v)
	}
}

// fetch loads lanes elements i*lanes and up of a vector of 2- or 4-byte floats
// at m.
func (w width) fetch(f string, m op.Mem, i int, v vec) {
	if f == "F16" {
		c.VCVTPH2PS(m.Offset(2*w.lanes*i), v)
	} else {
		c.VMOVUPS(m.Offset(4*w.lanes*i), v)
	}
}

func elementBytes(f string) int {
	if f == "F16" {
		return 2
	}
	return 4
}

// sum adds the 16 lanes in v (lane i and i+8, then i and i+4, and so on) into
// the first of the XMM register it returns.
func (w width) sum(v []vec) reg.Register {
	y, x, t := c.YMM(), c.XMM(), c.XMM()
	if w.lanes == 16 {
		c.VEXTRACTF64X4(op.U8(1), v[0], y)
		c.VADDPS(y, v[0].AsY(), y)
	} else {
		c.VADDPS(v[1], v[0], y)
	}
	if w.lanes == 16 {
		c.VEXTRACTF32X4(op.U8(1), y, x)
	} else {
		c.VEXTRACTF128(op.U8(1), y, x)
	}
	c.VADDPS(x, y.AsX(), x)
	c.VMOVHLPS(x, x, t)
	c.VADDPS(t, x, x)
	c.VMOVSHDUP(x, t)
	c.VADDSS(t, x, x)
	return x
}

// dot generates the product of groups of nr rows with nt tokens.
func dot(w width, f string, nr, nt int) {
	function(fmt.Sprintf("dot%sr%dt%d%s", f, nr, nt, w.suffix), "dotArgs",
		fmt.Sprintf("multiplies groups of %d rows of %s with %d tokens.", nr, f, nt))
	o := args()
	groups, out := o.load("groups"), o.load("out")
	r := newStrided(o.load("w"), o.load("row"), nr)
	token, n := o.load("token"), c.GP64()

	c.Label("group")
	o = args()
	x := newStrided(o.load("x"), token, nt)
	c.MOVQ(o.at("n"), n)
	parts := 16 / w.lanes
	acc := make([][][]vec, nr)
	for i := range acc {
		acc[i] = make([][]vec, nt)
		for t := range acc[i] {
			acc[i][t] = w.vecs(parts)
			for _, a := range acc[i][t] {
				w.zero(a)
			}
		}
	}
	c.Label("elements")
	for h := range parts {
		if nr > nt {
			xs := w.vecs(nt)
			for t := range xs {
				w.fetch("F32", x.at(t, 0), h, xs[t])
			}
			for i := range nr {
				v := w.vec()
				w.fetch(f, r.at(i, 0), h, v)
				for t := range xs {
					c.VFMADD231PS(v, xs[t], acc[i][t][h])
				}
			}
			continue
		}
		ws := w.vecs(nr)
		for i := range ws {
			w.fetch(f, r.at(i, 0), h, ws[i])
		}
		for t := range nt {
			v := w.vec()
			w.fetch("F32", x.at(t, 0), h, v)
			for i := range ws {
				c.VFMADD231PS(v, ws[i], acc[i][t][h])
			}
		}
	}
	r.advance(16 * elementBytes(f))
	x.advance(64)
	c.SUBQ(op.U8(16), n)
	c.JNZ(op.LabelRef("elements"))

	to := c.GP64()
	c.MOVQ(out, to)
	for t := range nt {
		for i := range nr {
			c.VMOVSS(w.sum(acc[i][t]), at(to, 4*i))
		}
		if t < nt-1 {
			c.ADDQ(args().at("stride"), to)
		}
	}
	c.ADDQ(op.U8(4*nr), out)
	// The rows lie one after the other: the first row's end is the second's
	// start, and nr-1 rows on is the next group.
	for range nr - 1 {
		c.ADDQ(r.step, r.base[0])
	}
	r.spread()
	c.DECQ(groups)
	c.JNZ(op.LabelRef("group"))
	leave()
}

package main

import (
	"fmt"
	"math"
	"slices"

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

// width is the vector width that a float kernel is generated for: a product has
// as many lanes.
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

// repeated is a register with v in each lane.
func (w width) repeated(name string, v uint32) vec {
	r := w.vec()
	c.VPBROADCASTD(data(name, v), r)
	return r
}

// memory is read-only memory with v in as many places as there are lanes.
func (w width) memory(name string, v float64) op.Mem {
	return data(fmt.Sprint(name, w.lanes), slices.Repeat([]uint32{math.Float32bits(float32(v))}, w.lanes)...)
}

func (w width) zero(v vec) {
	if w.lanes == 16 {
		c.VPXORD(v, v, v)
	} else {
		c.VXORPS(v, v, v)
	}
}

// fetch loads lanes elements i*lanes and up of a vector of floats or, for Q8, of
// int8 at m.
func (w width) fetch(f string, m op.Mem, i int, v vec) {
	switch f {
	case "Q8":
		c.VPMOVSXBD(m.Offset(w.lanes*i), v)
		c.VCVTDQ2PS(v, v)
	case "F16":
		c.VCVTPH2PS(m.Offset(2*w.lanes*i), v)
	case "BF16":
		c.VPMOVZXWD(m.Offset(2*w.lanes*i), v)
		c.VPSLLD(op.U8(16), v, v)
	default:
		c.VMOVUPS(m.Offset(4*w.lanes*i), v)
	}
}

func elementBytes(f string) int {
	switch f {
	case "F32":
		return 4
	case "Q8":
		return 1
	}
	return 2
}

// sumFour adds up the lanes of each of four vectors: the halves of 16, then i
// and i+2, i and i+1, and then the halves of 8.
func (w width) sumFour(v []vec) reg.Register {
	a := make([]vec, 4)
	for i := range a {
		a[i] = v[i].AsY().(vec)
		if w.lanes == 16 {
			a[i] = c.YMM()
			c.VEXTRACTF64X4(op.U8(1), v[i], a[i])
			c.VADDPS(a[i], v[i].AsY(), a[i])
		}
	}
	var pairs [2]vec
	for h := range pairs {
		lo, hi := c.YMM(), c.YMM()
		c.VUNPCKLPS(a[2*h+1], a[2*h], lo) // 0 1 of both, interleaved
		c.VUNPCKHPS(a[2*h+1], a[2*h], hi) // 2 3
		c.VADDPS(hi, lo, lo)
		pairs[h] = lo
	}
	lo, hi := c.YMM(), c.YMM()
	c.VUNPCKLPD(pairs[1], pairs[0], lo)
	c.VUNPCKHPD(pairs[1], pairs[0], hi)
	c.VADDPS(hi, lo, lo)
	half := w.upper(lo)
	c.VADDPS(half, lo.AsX(), half)
	return half
}

// upper is the second half of eight lanes.
func (w width) upper(v vec) vec {
	x := c.XMM()
	if w.lanes == 16 {
		c.VEXTRACTF32X4(op.U8(1), v, x) // reaches the upper 16 registers
	} else {
		c.VEXTRACTF128(op.U8(1), v, x)
	}
	return x
}

// horizontal folds eight lanes: i and i+4, i and i+2, i and i+1.
func (w width) horizontal(v vec, fold, last func(...op.Op)) vec {
	x, t := w.upper(v), c.XMM()
	fold(x, v.AsX(), x)
	c.VMOVHLPS(x, x, t)
	fold(t, x, x)
	c.VMOVSHDUP(x, t)
	last(t, x, x)
	return x
}

// dot generates the product of groups of nr rows with nt tokens. One token
// waits for the rows from memory, and prefetches them.
func dot(w width, f string, nr, nt int) {
	function(fmt.Sprintf("dot%sr%dt%d%s", f, nr, nt, w.suffix), "dotArgs",
		fmt.Sprintf("multiplies groups of %d rows of %s with %d tokens.", nr, f, nt))
	o := args()
	groups, out := o.load("groups"), o.load("out")
	first := o.load("w")
	var ahead prefetcher
	if nt == 1 {
		ahead = newPrefetcher(o, first)
	}
	r := newStrided(first, o.load("row"), nr)
	token, n := o.load("token"), c.GP64()

	c.Label("group")
	o = args()
	x := newStrided(o.load("x"), token, nt)
	c.MOVQ(o.at("n"), n)
	acc := make([][]vec, nt) // [token][row]
	for t := range acc {
		acc[t] = w.vecs(nr)
		for _, a := range acc[t] {
			w.zero(a)
		}
	}
	c.Label("elements")
	if size := nr * w.lanes * elementBytes(f); nt == 1 && size >= 64 {
		ahead.fetch(size)
	}
	if nr > nt {
		xs := w.vecs(nt)
		for t := range xs {
			w.fetch("F32", x.at(t, 0), 0, xs[t])
		}
		for i := range nr {
			v := w.vec()
			w.fetch(f, r.at(i, 0), 0, v)
			for t := range xs {
				c.VFMADD231PS(v, xs[t], acc[t][i])
			}
		}
	} else {
		ws := w.vecs(nr)
		for i := range ws {
			w.fetch(f, r.at(i, 0), 0, ws[i])
		}
		for t := range nt {
			v := w.vec()
			w.fetch("F32", x.at(t, 0), 0, v)
			for i := range ws {
				c.VFMADD231PS(v, ws[i], acc[t][i])
			}
		}
	}
	r.advance(w.lanes * elementBytes(f))
	x.advance(w.bytes())
	c.SUBQ(op.U8(w.lanes), n)
	c.JNZ(op.LabelRef("elements"))

	to := c.GP64()
	c.MOVQ(out, to)
	for t, a := range acc {
		if nr == 1 {
			c.VMOVSS(w.sumFour([]vec{a[0], a[0], a[0], a[0]}), at(to, 0))
		}
		for i := 0; i+4 <= nr; i += 4 {
			c.VMOVUPS(w.sumFour(a[i:i+4]), at(to, 4*i))
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

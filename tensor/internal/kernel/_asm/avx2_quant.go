package main

import (
	"fmt"

	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// vec is short for what vector instructions work on.
type vec = reg.VecVirtual

func ymms(n int) []vec {
	v := make([]vec, n)
	for i := range v {
		v[i] = c.YMM()
	}
	return v
}

// quantizeAVX2 is quantizeBlock over the blocks of a token.
func quantizeAVX2() {
	function("quantizeAVX2", "quantArgs", "quantises a token's blocks of 32.")
	o := args()
	x, blocks, q, scales, fix := o.load("x"), o.load("blocks"), o.load("q"), o.load("scales"), o.load("fix")
	qStep, sStep, fixStep, offset := o.load("qStep"), o.load("sStep"), o.load("fixStep"), o.load("offset")
	abs := wide8.repeated("abs", 0x7fffffff)
	order := c.YMM()
	c.VMOVDQU(data("packOrder", 0, 4, 1, 5, 2, 6, 3, 7), order)
	one, most := c.XMM(), c.XMM()
	c.VMOVSS(f32("one", 1), one)
	c.VMOVSS(f32("most", 127), most)

	c.Label("block")
	v, m := ymms(4), ymms(4)
	for i := range v {
		c.VMOVUPS(at(x, 32*i), v[i])
		c.VPAND(abs, v[i], m[i])
	}
	c.VPMAXSD(m[1], m[0], m[0])
	c.VPMAXSD(m[3], m[2], m[2])
	c.VPMAXSD(m[2], m[0], m[0])
	top := reduce(m[0], c.VPMAXSD)
	bits := c.GP32()
	c.VMOVD(top, bits)
	c.CMPL(bits, op.U32(0x7f800000))
	c.JAE(op.LabelRef("nonfinite"))
	d, inv := c.XMM(), c.XMM()
	c.VDIVSS(most, top, d)
	c.VMOVD(d, bits)
	c.CMPL(bits, op.U32(0x00800000))
	c.JB(op.LabelRef("nothing"))
	c.VDIVSS(d, one, inv)
	factor := c.YMM()
	c.VBROADCASTSS(inv, factor)
	for i := range v {
		c.VMULPS(factor, v[i], m[i]) // x/d
		c.VCVTPS2DQ(m[i], v[i])      // q
		p := c.YMM()
		c.VCVTDQ2PS(v[i], p)
		c.VMULPS(p, m[i], m[i])
	}
	c.VADDPS(m[2], m[0], m[0])
	c.VADDPS(m[3], m[1], m[1])
	c.VADDPS(m[1], m[0], m[0])
	fit := reduce(m[0], c.VADDPS)
	sum, other := c.YMM(), c.YMM()
	c.VPADDD(v[1], v[0], sum)
	c.VPADDD(v[3], v[2], other)
	c.VPADDD(other, sum, sum)
	total := reduce(sum, c.VPADDD)
	c.VPACKSSDW(v[1], v[0], v[0])
	c.VPACKSSDW(v[3], v[2], v[2])
	c.VPMADDWD(v[0], v[0], sum)
	c.VPMADDWD(v[2], v[2], other)
	c.VPADDD(other, sum, sum)
	squares := reduce(sum, c.VPADDD)
	c.VCVTDQ2PS(squares, squares)
	c.VDIVSS(squares, fit, fit)
	c.VMULSS(fit, d, d)
	c.VPACKSSWB(v[2], v[0], v[0])
	c.VPERMD(v[0], order, v[0])
	c.VMOVDQU(v[0], at(q, 0))
	s := c.XMM()
	c.VCVTDQ2PS(total, s)
	c.VMULSS(d, s, s)
	n := c.GP32()
	c.VMOVD(total, n)
	c.SHLL(op.U8(7), n)
	c.NEGL(n)

	c.Label("store")
	c.VMOVSS(d, at(scales, 0))
	c.VMOVSS(s, op.Mem{Base: scales, Index: offset, Scale: 1})
	c.MOVL(n, at(fix, 0))
	c.ADDQ(op.U8(128), x)
	c.ADDQ(qStep, q)
	c.ADDQ(sStep, scales)
	c.ADDQ(fixStep, fix)
	c.DECQ(blocks)
	c.JNZ(op.LabelRef("block"))
	leave()

	c.Label("nonfinite")
	c.VMOVSS(data("nan", 0x7fc00000), d)
	c.JMP(op.LabelRef("empty"))
	c.Label("nothing")
	c.VPXOR(d, d, d)
	c.Label("empty")
	zero := c.YMM()
	c.VPXOR(zero, zero, zero)
	c.VMOVDQU(zero, at(q, 0))
	c.VMOVAPS(d, s)
	c.XORL(n, n)
	c.JMP(op.LabelRef("store"))
}

// reduce folds the eight dwords of y into the first of an XMM register.
func reduce(y vec, fold func(...op.Op)) vec {
	x, t := c.XMM(), c.XMM()
	c.VEXTRACTI128(op.U8(1), y, x)
	fold(y.AsX(), x, x)
	c.VPSHUFD(op.U8(0x4e), x, t)
	fold(t, x, x)
	c.VPSHUFD(op.U8(0xb1), x, t)
	fold(t, x, x)
	return x
}

// transposeAVX2 turns v, where lane l of v[i] holds four dwords of row 4l+i,
// into vectors that hold dword j of the eight rows in order.
func transposeAVX2(v []vec) {
	t := ymms(4)
	c.VPUNPCKLDQ(v[1], v[0], t[0])
	c.VPUNPCKHDQ(v[1], v[0], t[1])
	c.VPUNPCKLDQ(v[3], v[2], t[2])
	c.VPUNPCKHDQ(v[3], v[2], t[3])
	c.VPUNPCKLQDQ(t[2], t[0], v[0])
	c.VPUNPCKHQDQ(t[2], t[0], v[1])
	c.VPUNPCKLQDQ(t[3], t[1], v[2])
	c.VPUNPCKHQDQ(t[3], t[1], v[3])
}

// transposeAddAVX2 adds up the four dwords that each row has in v: the sums of
// the eight rows in order.
func transposeAddAVX2(v []vec, add func(...op.Op)) vec {
	t := ymms(4)
	c.VPUNPCKLDQ(v[1], v[0], t[0])
	c.VPUNPCKHDQ(v[1], v[0], t[1])
	c.VPUNPCKLDQ(v[3], v[2], t[2])
	c.VPUNPCKHDQ(v[3], v[2], t[3])
	add(t[1], t[0], t[0])
	add(t[3], t[2], t[2])
	c.VPUNPCKLQDQ(t[2], t[0], t[1])
	c.VPUNPCKHQDQ(t[2], t[0], t[3])
	add(t[3], t[1], t[1])
	return t[1]
}

// inOrder and paired are orders of eight rows.
var (
	inOrder = [8]int{0, 1, 2, 3, 4, 5, 6, 7}
	paired  = [8]int{0, 1, 4, 5, 2, 3, 6, 7}
)

// loadRowsAVX2 loads 16 bytes of each of eight rows, as transposeAVX2 takes
// them.
func loadRowsAVX2(r *rows, order [8]int, first, off int) []vec {
	v := ymms(4)
	for i := range v {
		// Not a load of 16 bytes: avo would think the rest of v[i] in use before.
		c.VBROADCASTI128(r.at(first+order[i], off), v[i])
	}
	for i := range v {
		c.VINSERTI128(op.U8(1), r.at(first+order[4+i], off), v[i], v[i])
	}
	return v
}

// scalesQ41AVX2 loads d and m of eight rows, in paired order: rows 0, 1, 4, 5,
// 2, 3, 6, 7, as two shuffles leave them.
func scalesQ41AVX2(r *rows, first int) (d, m vec) {
	var pairs [2]vec // d and m of four rows, side by side
	for h := range pairs {
		x := c.XMM()
		c.VMOVD(r.at(first+4*h, 0), x)
		for i := 1; i < 4; i++ {
			// 16 bytes of which dword i is the row's first: the others before it
			// are of the row above.
			c.VPBLENDD(op.U8(1<<i), r.at(first+4*h+i, -4*i), x, x)
		}
		pairs[h] = c.YMM()
		c.VCVTPH2PS(x, pairs[h])
	}
	d, m = c.YMM(), c.YMM()
	c.VSHUFPS(op.U8(0x88), pairs[1], pairs[0], d)
	c.VSHUFPS(op.U8(0xdd), pairs[1], pairs[0], m)
	return d, m
}

// unpair brings eight dwords from paired order into that of the rows, and the
// other way round.
func unpair(v vec) { c.VPERMQ(op.U8(0xd8), v, v) }

// scalesQ80AVX2 loads d of eight rows.
func scalesQ80AVX2(r *rows, first int) vec {
	x, d := c.XMM(), c.YMM()
	c.VMOVDQU(r.at(first, 0), x)
	for i := 1; i < 8; i++ {
		c.VPBLENDW(op.U8(1<<i), r.at(first+i, -2*i), x, x) // as in scalesQ41AVX2
	}
	c.VCVTPH2PS(x, d)
	return d
}

// unpackAVX2 unpacks a group of 16 rows into a panel.
func unpackAVX2() {
	function("unpackQ41AVX2", "mulArgs", "unpacks a group of Q4_1 rows.")
	unpackLoop(q41Bytes, func(r *rows, panel reg.GPVirtual, low vec) {
		for h := range 2 {
			v := loadRowsAVX2(r, inOrder, 8*h, 4)
			transposeAVX2(v)
			for j := range v {
				t := c.YMM()
				c.VPAND(low, v[j], t)
				c.VMOVDQU(t, at(panel, 64*j+32*h))
				c.VPSRLW(op.U8(4), v[j], v[j])
				c.VPAND(low, v[j], v[j])
				c.VMOVDQU(v[j], at(panel, 64*(4+j)+32*h))
			}
			d, m := scalesQ41AVX2(r, 8*h)
			unpair(d)
			unpair(m)
			c.VMOVUPS(d, at(panel, panelD+32*h))
			c.VMOVUPS(m, at(panel, panelM+32*h))
		}
	})
	function("unpackQ80AVX2", "mulArgs", "unpacks a group of Q8_0 rows; the bytes stay signed.")
	unpackLoop(q80Bytes, func(r *rows, panel reg.GPVirtual, _ vec) {
		for h := range 2 {
			for half := range 2 {
				v := loadRowsAVX2(r, inOrder, 8*h, 2+16*half)
				transposeAVX2(v)
				for j := range v {
					c.VMOVDQU(v[j], at(panel, 64*(4*half+j)+32*h))
				}
			}
			c.VMOVUPS(scalesQ80AVX2(r, 8*h), at(panel, panelD+32*h))
		}
	})
}

func unpackLoop(block int, body func(r *rows, panel reg.GPVirtual, low vec)) {
	o := args()
	w := o.load("w")
	ahead := newPrefetcher(o, w)
	blocks, panel := o.load("blocks"), o.load("panel")
	r := newRows(w, o.load("row"), 16)
	low := wide8.repeated("lowNibbles", 0x0f0f0f0f)
	c.Label("block")
	ahead.fetch(16 * block)
	body(r, panel, low)
	r.advance(block)
	c.ADDQ(op.U32(panelBytes), panel)
	c.DECQ(blocks)
	c.JNZ(op.LabelRef("block"))
	leave()
}

// panelKind is what the bytes of a panel are, as far as tiles differ in it.
type panelKind struct {
	name    string
	signed  bool // int8, not small uint8
	small   bool // at most 15, so that the sums of a block fit int16
	offsets bool // a second product, of m with s
	halves  bool // d is for the first 16 elements of a block, m the same for the others
}

// panels are the kinds, in the names of formats that have them where only one
// has a kernel of its own.
var panels = []panelKind{
	{name: "Q41", small: true, offsets: true},
	{name: "Q80", signed: true},
	{name: "Wide", offsets: true},
	{name: "Halves", signed: true, halves: true},
}

// tileAVX2 multiplies a panel with n tokens. The integer sums take the
// registers; the float accumulators live in memory.
func (f panelKind) tileAVX2(n int) {
	function(fmt.Sprintf("tile%sx%dAVX2", f.name, n), "mulArgs", fmt.Sprintf("multiplies a panel of %s rows with %d tokens.", f.name, n))
	o := args()
	panel, q, scales := o.load("panel"), o.load("q"), o.load("scales")
	acc, blocks := o.load("acc"), o.load("blocks")
	qStep, sStep, offset := o.load("qStep"), o.load("sStep"), o.load("offset")
	zero := c.YMM()
	c.VPXOR(zero, zero, zero)
	for i := range 2 * n {
		c.VMOVUPS(zero, at(acc, 32*i))
	}
	ones := wide8.repeated("ones", 0x00010001)

	c.Label("block")
	part := func(from, to, scale int) {
		sums := f.sumsAVX2(n, panel, q, ones, from, to)
		f.scaleAVX2(n, panel, scales, offset, acc, ones, sums, scale)
	}
	if f.halves {
		part(0, 4, panelD)
		part(4, 8, panelM)
	} else {
		part(0, 8, panelD)
	}
	c.ADDQ(op.U32(panelBytes), panel)
	c.ADDQ(qStep, q)
	c.ADDQ(sStep, scales)
	c.DECQ(blocks)
	c.JNZ(op.LabelRef("block"))
	o = args()
	out, stride := o.load("out"), o.load("stride")
	for t := range n {
		for h := range 2 {
			v := c.YMM()
			c.VMOVUPS(at(acc, 64*t+32*h), v)
			c.VMOVUPS(v, at(out, 32*h))
		}
		c.ADDQ(stride, out)
	}
	leave()
}

// sumsAVX2 has the integer sums of the dwords [from, to) of a block, two vectors
// a token.
func (f panelKind) sumsAVX2(n int, panel, q reg.GPVirtual, ones vec, from, to int) []vec {
	sums := ymms(2 * n)
	for j := from; j < to; j++ {
		w := ymms(2)
		for h := range w {
			c.VMOVDQU(at(panel, 64*j+32*h), w[h])
		}
		size := w
		if f.signed {
			size = ymms(2)
			for h := range w {
				c.VPABSB(w[h], size[h])
			}
		}
		for t := range n {
			a := c.YMM()
			c.VPBROADCASTD(at(q, 32*t+4*j), a)
			for h := range w {
				sum := sums[2*t+h]
				to := sum
				if j > from {
					to = c.YMM()
				}
				if f.small {
					// Eight products of 15*127 twice fit int16.
					c.VPMADDUBSW(a, w[h], to)
					if j > from {
						c.VPADDW(to, sum, sum)
					}
					continue
				}
				if f.signed {
					c.VPSIGNB(w[h], a, to)
					c.VPMADDUBSW(to, size[h], to)
				} else {
					c.VPMADDUBSW(a, w[h], to)
				}
				c.VPMADDWD(ones, to, to)
				if j > from {
					c.VPADDD(to, sum, sum)
				}
			}
		}
	}
	return sums
}

// scaleAVX2 adds the sums, scaled, to the accumulators.
func (f panelKind) scaleAVX2(n int, panel, scales, offset, acc reg.GPVirtual, ones vec, sums []vec, scale int) {
	for t := range n {
		d, s := c.YMM(), c.YMM()
		c.VBROADCASTSS(at(scales, 4*t), d)
		if f.offsets {
			c.VBROADCASTSS(op.Mem{Base: scales, Index: offset, Scale: 1, Disp: 4 * t}, s)
		}
		for h := range 2 {
			sum, dd, to := sums[2*t+h], c.YMM(), c.YMM()
			if f.small {
				c.VPMADDWD(ones, sum, sum)
			}
			c.VMULPS(at(panel, scale+32*h), d, dd)
			c.VMOVUPS(at(acc, 64*t+32*h), to)
			c.VCVTDQ2PS(sum, sum)
			c.VFMADD231PS(sum, dd, to)
			if f.offsets {
				c.VFMADD231PS(at(panel, panelM+32*h), s, to)
			}
			c.VMOVUPS(to, at(acc, 64*t+32*h))
		}
	}
}

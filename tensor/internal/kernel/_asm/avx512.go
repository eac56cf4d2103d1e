package main

import (
	"fmt"

	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// avx512 generates the kernels for CPUs with AVX-512 (F, BW, DQ, VL) and VNNI.
// Other elementwise operations stay with AVX2: they wait for memory.
func avx512() {
	for _, f := range []quant{q41, q80} {
		f.unpack()
		for n := 1; n <= 16; n++ {
			f.tile(n)
		}
		f.stream()
		for n := 2; n <= 16; n++ {
			f.fused(n)
		}
	}
	quantizeAVX512()
	wide16.gates(4)
	attention16()
	for _, f := range []string{"F32", "F16"} {
		dot(wide16, f, 8, 1)
		dot(wide16, f, 1, 1)
		for n := 2; n <= 6; n++ {
			dot(wide16, f, 4, n)
			dot(wide16, f, 1, n)
		}
	}
	dot(wide16, "BF16", 8, 1)
	dot(wide16, "BF16", 1, 1)
}

// quant is a quantised format, as far as the kernels of AVX-512 differ in it.
type quant struct {
	name    string
	bytes   int // of a block
	offsets bool
	pattern uint32 // low nibbles, or the sign bits that make int8 uint8
}

var (
	q41 = quant{"Q41", q41Bytes, true, 0x0f0f0f0f}
	q80 = quant{"Q80", q80Bytes, false, 0x80808080}
)

func zmms(n int) []vec { return wide16.vecs(n) }

// zeroed is a register for sums to begin from. Moves of it are free, whereas not
// every CPU knows that an exclusive or of 512 bits doesn't wait for its operands.
func zeroed() vec {
	z := c.ZMM()
	c.VPXORD(z, z, z)
	return z
}

// begin starts a function and loads its constant.
func (f quant) begin(name, doc string) vec {
	function(name, "mulArgs", doc)
	return wide16.repeated(f.name+"pattern", f.pattern)
}

// laneMasks are the opmasks of the second, third and fourth dword.
func laneMasks() [4]reg.OpmaskVirtual {
	var k [4]reg.OpmaskVirtual
	for i := 1; i < 4; i++ {
		k[i] = c.K()
		r := c.GP32()
		c.MOVL(op.U32(1<<i), r)
		c.KMOVW(r, k[i])
	}
	return k
}

// load16 loads 16 bytes of each of the 16 rows: lane l of v[i] has row 4l+i.
func load16(r *rows, off int) []vec {
	v := zmms(4)
	for i := range v {
		c.VBROADCASTI32X4(r.at(i, off), v[i])
	}
	for l := 1; l < 4; l++ {
		for i := range v {
			c.VINSERTI32X4(op.U8(l), r.at(4*l+i, off), v[i], v[i])
		}
	}
	return v
}

// transpose turns what load16 gives into dword j of the 16 rows in order.
func transpose(v []vec) []vec {
	t, u := zmms(4), zmms(4)
	c.VPUNPCKLDQ(v[1], v[0], t[0])
	c.VPUNPCKHDQ(v[1], v[0], t[1])
	c.VPUNPCKLDQ(v[3], v[2], t[2])
	c.VPUNPCKHDQ(v[3], v[2], t[3])
	c.VPUNPCKLQDQ(t[2], t[0], u[0])
	c.VPUNPCKHQDQ(t[2], t[0], u[1])
	c.VPUNPCKLQDQ(t[3], t[1], u[2])
	c.VPUNPCKHQDQ(t[3], t[1], u[3])
	return u
}

// scales loads d, and m where there is one, of the 16 rows. The first dword of
// a block has both; masked broadcasts are the fastest way to gather them.
func (f quant) scales(r *rows, k [4]reg.OpmaskVirtual) (d, m vec) {
	four := func(of ...int) vec {
		x := c.YMM()
		c.VPBROADCASTD(r.at(of[0], 0), x)
		for i := 1; i < 4; i++ {
			c.VPBROADCASTD(r.at(of[i], 0), k[i], x.AsX())
		}
		return x
	}
	var pairs [2]vec
	for h := range pairs {
		i := 2 * h // the order that the shuffles below bring into the rows'
		pairs[h] = four(i, i+1, i+4, i+5)
		c.VINSERTI32X4(op.U8(1), four(i+8, i+9, i+12, i+13).AsX(), pairs[h], pairs[h])
	}
	d, m = c.ZMM(), c.ZMM()
	for h, p := range pairs {
		pairs[h] = c.ZMM()
		c.VCVTPH2PS(p, pairs[h])
	}
	c.VSHUFPS(op.U8(0x88), pairs[1], pairs[0], d)
	if f.offsets {
		c.VSHUFPS(op.U8(0xdd), pairs[1], pairs[0], m)
	}
	return d, m
}

// bytes8 loads a block of the 16 rows as uint8: bytes 4j..4j+3 in vector j.
func (f quant) bytes8(r *rows, pattern vec) []vec {
	if f.offsets {
		lo, hi := transpose(load16(r, 4)), zmms(4)
		for i := range lo {
			c.VPSRLW(op.U8(4), lo[i], hi[i])
			c.VPANDD(pattern, lo[i], lo[i])
			c.VPANDD(pattern, hi[i], hi[i])
		}
		return append(lo, hi...)
	}
	v := append(transpose(load16(r, 2)), transpose(load16(r, 18))...)
	for i := range v {
		c.VPXORD(pattern, v[i], v[i])
	}
	return v
}

func (f quant) unpack() {
	pattern := f.begin("unpack"+f.name+"AVX512", "unpacks a group of rows as uint8.")
	o := args()
	w := o.load("w")
	ahead := newPrefetcher(o, w)
	blocks, panel := o.load("blocks"), o.load("panel")
	r := newRows(w, o.load("row"), 16)
	k := laneMasks()
	c.Label("block")
	ahead.fetch(16 * f.bytes)
	for j, v := range f.bytes8(r, pattern) {
		c.VMOVDQU64(v, at(panel, 64*j))
	}
	d, m := f.scales(r, k)
	c.VMOVUPS(d, at(panel, panelD))
	if f.offsets {
		c.VMOVUPS(m, at(panel, panelM))
	}
	r.advance(f.bytes)
	c.ADDQ(op.U32(panelBytes), panel)
	c.DECQ(blocks)
	c.JNZ(op.LabelRef("block"))
	leave()
}

// tokens is a walk over the blocks of a tile of n tokens, which are side by
// side: steps and the distance from d to s are constants.
type tokens struct {
	n              int
	q, scales, fix reg.GPVirtual
}

func (f quant) tokens(o operands, n int) tokens {
	t := tokens{n: n, q: o.load("q"), scales: o.load("scales")}
	if !f.offsets {
		t.fix = o.load("fix")
	}
	return t
}

func (f quant) advance(t tokens) {
	c.ADDQ(op.I32(32*t.n), t.q)
	c.ADDQ(op.I32(8*t.n), t.scales)
	if !f.offsets {
		c.ADDQ(op.I32(4*t.n), t.fix)
	}
}

// multiply adds a block's products with each token to acc. Two tokens are
// interleaved, each with two sums: less leaves the multipliers waiting, more brings
// nothing.
func (f quant) multiply(t tokens, w []vec, d, m, zero vec, acc []vec) {
	sums, scales := zmms(2), zmms(2)
	for first := 0; first < t.n; first += 2 {
		if t.n-first == 1 {
			sums = sums[:1]
		}
		for i, s := range sums {
			if f.offsets {
				c.VMOVDQA64(zero, s)
			} else {
				c.VPBROADCASTD(at(t.fix, 4*(first+i)), s)
			}
		}
		others := zmms(len(sums))
		for _, s := range others {
			c.VMOVDQA64(zero, s)
		}
		for j := 0; j < len(w); j += 2 {
			for i := range sums {
				c.VPDPBUSD_BCST(at(t.q, 32*(first+i)+4*j), w[j], sums[i])
				c.VPDPBUSD_BCST(at(t.q, 32*(first+i)+4*j+4), w[j+1], others[i])
			}
		}
		for i, s := range sums {
			c.VPADDD(others[i], s, s)
		}
		for i := range sums {
			c.VMULPS_BCST(at(t.scales, 4*(first+i)), d, scales[i])
		}
		for _, s := range sums {
			c.VCVTDQ2PS(s, s)
		}
		for i, s := range sums {
			c.VFMADD231PS(s, scales[i], acc[first+i])
		}
		if f.offsets {
			for i := range sums {
				c.VFMADD231PS_BCST(at(t.scales, 4*(t.n+first+i)), m, acc[first+i])
			}
		}
	}
}

// store writes the accumulators to out, a stride apart.
func store(acc []vec, out reg.GPVirtual) {
	to := c.GP64()
	c.MOVQ(out, to)
	for i, a := range acc {
		c.VMOVUPS(a, at(to, 0))
		if i < len(acc)-1 {
			c.ADDQ(args().at("stride"), to)
		}
	}
}

// tile multiplies a panel with a tile of n tokens.
func (f quant) tile(n int) {
	function(fmt.Sprintf("tile%sx%dAVX512", f.name, n), "mulArgs", fmt.Sprintf("multiplies a panel with a tile of %d tokens.", n))
	o := args()
	panel, blocks := o.load("panel"), o.load("blocks")
	t := f.tokens(o, n)
	acc, zero := zmms(n), zeroed()
	for _, a := range acc {
		c.VMOVDQA64(zero, a)
	}
	c.Label("block")
	w, d, m := zmms(8), c.ZMM(), c.ZMM()
	for j := range w {
		c.VMOVDQU64(at(panel, 64*j), w[j])
	}
	c.VMOVUPS(at(panel, panelD), d)
	if f.offsets {
		c.VMOVUPS(at(panel, panelM), m)
	}
	f.multiply(t, w, d, m, zero, acc)
	f.advance(t)
	c.ADDQ(op.U32(panelBytes), panel)
	c.DECQ(blocks)
	c.JNZ(op.LabelRef("block"))
	store(acc, args().load("out"))
	leave()
}

// fused multiplies groups of rows with a tile of n tokens, unpacking them in
// registers.
func (f quant) fused(n int) {
	pattern := f.begin(fmt.Sprintf("fused%sx%dAVX512", f.name, n), fmt.Sprintf("multiplies groups of rows with a tile of %d tokens.", n))
	k := laneMasks()
	o := args()
	w, out, groups := o.load("w"), o.load("out"), o.load("groups")
	ahead := newPrefetcher(o, w)
	r := newRows(w, o.load("row"), 16)
	zero := zeroed()

	c.Label("group")
	o = args()
	t, blocks := f.tokens(o, n), o.load("blocks")
	acc := zmms(n)
	for _, a := range acc {
		c.VMOVDQA64(zero, a)
	}
	c.Label("block")
	ahead.fetch(16 * f.bytes)
	d, m := f.scales(r, k)
	f.multiply(t, f.bytes8(r, pattern), d, m, zero, acc)
	r.advance(f.bytes)
	f.advance(t)
	c.DECQ(blocks)
	c.JNZ(op.LabelRef("block"))
	store(acc, out)
	c.ADDQ(op.U8(64), out)
	r.nextGroup()
	c.DECQ(groups)
	c.JNZ(op.LabelRef("group"))
	leave()
}

// stream multiplies groups of rows with one token, by vectors of 256 bits: that many
// rows are loaded into a vector by one insertion, the dearest part here.
func (f quant) stream() {
	function("stream"+f.name+"AVX512", "mulArgs", "multiplies groups of rows with one token.")
	pattern, zero := wide8.repeated(f.name+"pattern", f.pattern), c.YMM()
	c.VPXORD(zero, zero, zero)
	if f.offsets {
		streamLoopAVX2(q41Bytes, stored, func(r *rows, q [2]vec) vec {
			lo, hi, sums := loadRowsAVX2(r, paired, 0, 4), ymms(4), ymms(4)
			for i := range lo {
				c.VPSRLW(op.U8(4), lo[i], hi[i])
				c.VPAND(pattern, lo[i], lo[i])
				c.VPAND(pattern, hi[i], hi[i])
				c.VMOVDQA64(zero, sums[i])
				c.VPDPBUSD(q[0], lo[i], sums[i])
				c.VPDPBUSD(q[1], hi[i], sums[i])
			}
			return transposeAddAVX2(sums, c.VPADDD)
		})
		return
	}
	streamLoopAVX2(q80Bytes, corrected, func(r *rows, q [2]vec) vec {
		sums := ymms(4)
		for half := range q {
			for i, w := range loadRowsAVX2(r, inOrder, 0, 2+16*half) {
				c.VPXOR(pattern, w, w)
				if half == 0 {
					c.VMOVDQA64(zero, sums[i])
				}
				c.VPDPBUSD(q[half], w, sums[i])
			}
		}
		return transposeAddAVX2(sums, c.VPADDD)
	})
}

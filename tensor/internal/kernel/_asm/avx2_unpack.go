package main

import (
	"fmt"

	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// unpacking is the unpacking of a format into a panel, as portable Go does it in
// Format.numbers and Format.scales.
type unpacking struct {
	name   string
	bytes  int // of a block as the format stores it
	blocks int // of 32 elements in that
	// half unpacks eight of the 16 rows, from first on.
	half func(u *unpacker, first int)
}

// unpacker is what a half needs.
type unpacker struct {
	r     *rows
	panel reg.GPVirtual
}

// load is 16 bytes of each of eight rows at off, transposed: dword j of the rows
// in vector j.
func (u *unpacker) load(first, off int) []vec {
	v := loadRowsAVX2(u.r, inOrder, first, off)
	transposeAVX2(v)
	return v
}

// dwords is the dword at off of each of eight rows.
func (u *unpacker) dwords(first, off int) vec {
	var four [2]vec
	for h := range four {
		four[h] = c.XMM()
		c.VMOVD(u.r.at(first+4*h, off), four[h])
		for i := 1; i < 4; i++ {
			// Not a blend with 16 bytes of memory, as in scalesQ41AVX2: at the first
			// row's start they would begin before it.
			c.VPINSRD(op.U8(i), u.r.at(first+4*h+i, off), four[h], four[h])
		}
	}
	y := c.YMM()
	c.VINSERTI128(op.U8(1), four[1], four[0].AsY(), y)
	return y
}

// store puts dword j of block b of eight rows into the panel.
func (u *unpacker) store(v vec, first, b, j int) {
	c.VMOVDQU(v, at(u.panel, panelBytes*b+64*j+4*first))
}

// scale puts the scales of block b of eight rows into the panel: panelD or panelM
// is where.
func (u *unpacker) scale(v vec, first, b, where int) {
	c.VMOVUPS(v, at(u.panel, panelBytes*b+where+4*first))
}

// f16 is the float16 at off of each of eight rows.
func (u *unpacker) f16(first, off int) vec {
	x, d := c.XMM(), c.YMM()
	c.VPXOR(x, x, x)
	for i := range 8 {
		c.VPINSRW(op.U8(i), u.r.at(first+i, off), x, x)
	}
	c.VCVTPH2PS(x, d)
	return d
}

// f16s is the two float16 at off.
func (u *unpacker) f16s(first, off int) (d, m vec) {
	both := u.dwords(first, off)
	part := func() vec {
		v, x := c.YMM(), c.XMM()
		c.VPAND(in8("words", 0x0000ffff), both, v)
		c.VEXTRACTI128(op.U8(1), v, x)
		c.VPACKUSDW(x, v.AsX(), x)
		c.VCVTPH2PS(x, v)
		return v
	}
	d = part()
	c.VPSRLD(op.U8(16), both, both)
	return d, part()
}

// field is the bits of each dword that mask names once it is shifted down, as a
// float.
func field(v vec, shift int, mask op.Mem) vec {
	t := c.YMM()
	c.VPSRLD(op.U8(shift), v, t)
	c.VPAND(mask, t, t)
	c.VCVTDQ2PS(t, t)
	return t
}

// signed is byte i of each dword as a float.
func signedByte(v vec, i int) vec {
	t := c.YMM()
	c.VPSLLD(op.U8(24-8*i), v, t)
	c.VPSRAD(op.U8(24), t, t)
	c.VCVTDQ2PS(t, t)
	return t
}

// times stores d*v as a scale.
func (u *unpacker) times(d, v vec, first, b, where int) {
	c.VMULPS(d, v, v)
	u.scale(v, first, b, where)
}

// bits is the field of a few bits of each byte of v, which mask names once it is
// shifted down; v itself stays.
func bits(v vec, shift int, mask op.Mem) vec {
	t := c.YMM()
	if shift == 0 {
		c.VPAND(mask, v, t)
		return t
	}
	c.VPSRLW(op.U8(shift), v, t)
	c.VPAND(mask, t, t)
	return t
}

// in8 is read-only memory with the dword eight times.
func in8(name string, v uint32) op.Mem { return data(name, v, v, v, v, v, v, v, v) }

func nibbleMask() op.Mem { return in8("nibbles8", 0x0f0f0f0f) }
func pairMask() op.Mem   { return in8("pairs8", 0x03030303) }

// raised moves the field to the bits from up on.
func raised(v vec, up int) vec {
	c.VPSLLW(op.U8(up), v, v)
	return v
}

// nibbles stores the nibbles of 16 bytes at off as block b, after what change
// makes of dword j of them.
func (u *unpacker) nibbles(first, off, b int, change func(v vec, j int)) {
	v := u.load(first, off)
	for j := range v {
		lo, hi := bits(v[j], 0, nibbleMask()), bits(v[j], 4, nibbleMask())
		if change != nil {
			change(lo, j)
			change(hi, 4+j)
		}
		u.store(lo, first, b, j)
		u.store(hi, first, b, 4+j)
	}
}

// fifths adds the fifth bits, which are the dword at off of each row.
func (u *unpacker) fifths(first, off int) func(v vec, j int) {
	all := u.dwords(first, off)
	spread := [4]op.Mem{} // byte j/2 of each dword, four times
	for i := range spread {
		n := uint32(i) * 0x01010101
		spread[i] = data("spread"+string(rune('0'+i)), n, n+0x04040404, n+0x08080808, n+0x0c0c0c0c, n, n+0x04040404, n+0x08080808, n+0x0c0c0c0c)
	}
	masks := [2]op.Mem{in8("bitsLow", 0x08040201), in8("bitsHigh", 0x80402010)}
	return func(v vec, j int) {
		t := c.YMM()
		c.VPSHUFB(spread[j/2], all, t)
		c.VPAND(masks[j%2], t, t)
		c.VPCMPEQB(masks[j%2], t, t)
		c.VPAND(in8("sixteens", 0x10101010), t, t)
		c.VPOR(t, v, v)
	}
}

// table replaces nibbles by what they stand for.
func table(name string, values [4]uint32) func(v vec, j int) {
	m := data(name, append(values[:], values[:]...)...)
	return func(v vec, _ int) {
		t := c.YMM()
		c.VMOVDQU(m, t)
		c.VPSHUFB(v, t, v)
	}
}

func iq4nl() func(v vec, j int) {
	return table("iq4nl", [4]uint32{0xbfad9881, 0xf6eaddcf, 0x26190d01, 0x71594535})
}

// unpackings are in the order of package kernel's formats.
var unpackings = []unpacking{
	{"Q40", 18, 1, func(u *unpacker, first int) {
		u.nibbles(first, 2, 0, nil)
		u.centred(first, -8)
	}},
	{"Q50", 22, 1, func(u *unpacker, first int) {
		u.nibbles(first, 6, 0, u.fifths(first, 2))
		u.centred(first, -16)
	}},
	{"Q51", 24, 1, func(u *unpacker, first int) {
		u.nibbles(first, 8, 0, u.fifths(first, 4))
		d, m := u.f16s(first, 0)
		u.scale(d, first, 0, panelD)
		u.scale(m, first, 0, panelM)
	}},
	{"IQ4NL", 18, 1, func(u *unpacker, first int) {
		u.nibbles(first, 2, 0, iq4nl())
		u.scale(u.f16(first, 0), first, 0, panelD)
	}},
	{"IQ4XS", 136, 8, unpackIQ4XS},
	{"MXFP4", 17, 1, unpackMXFP4},
	{"Q2K", 84, 8, unpackQ2K},
	{"Q2KMins", 84, 8, unpackQ2KMins},
	{"Q3K", 110, 8, unpackQ3K},
	{"Q4K", 144, 8, unpackQ4K},
	{"Q5K", 176, 8, unpackQ5K},
	{"Q6K", 210, 8, unpackQ6K},
}

// centred stores the scale at the start of a block, and zero times it.
func (u *unpacker) centred(first int, zero float64) {
	d := u.f16(first, 0)
	u.scale(d, first, 0, panelD)
	u.times(d, eightOf(zero), first, 0, panelM)
}

func eightOf(v float64) vec {
	t := c.YMM()
	c.VMOVUPS(wide8.memory(fmt.Sprintf("minus%dx", int(-v)), v), t)
	return t
}

func unpackIQ4XS(u *unpacker, first int) {
	for b := range 8 {
		u.nibbles(first, 8+16*b, b, iq4nl())
	}
	d, high, low := u.f16(first, 0), u.dwords(first, 0), u.dwords(first, 4)
	c.VPSRLD(op.U8(16), high, high)
	for b := range 8 {
		s, t := c.YMM(), c.YMM()
		c.VPSRLD(op.U8(4*b), low, s)
		c.VPAND(in8("low4", 15), s, s)
		c.VPSRLD(op.U8(2*b), high, t)
		c.VPAND(in8("low2", 3), t, t)
		c.VPSLLD(op.U8(4), t, t)
		c.VPOR(t, s, s)
		c.VPSUBD(in8("thirtytwo", 32), s, s)
		c.VCVTDQ2PS(s, s)
		u.times(d, s, first, b, panelD)
	}
}

func unpackMXFP4(u *unpacker, first int) {
	u.nibbles(first, 1, 0, table("fp4", [4]uint32{0x03020100, 0x0c080604, 0xfdfeff00, 0xf4f8fafc}))
	e, d, small, large := u.dwords(first, 0), c.YMM(), c.YMM(), c.YMM()
	c.VPAND(in8("low8", 255), e, e)
	c.VPSUBD(in8("dwordOnes", 1), e, d)
	c.VPCMPGTD(in8("dwordOnes", 1), e, large)
	c.VPSLLD(op.U8(23), d, d)
	c.VMOVDQU(in8("subnormal", 0x00200000), small)
	c.VPSLLVD(e, small, small)
	c.VPBLENDVB(large, d, small, d)
	u.scale(d, first, 0, panelD)
}

// scalesK stores the scales and mins of Q4_K and Q5_K.
func (u *unpacker) scalesK(first int) {
	d, dmin := u.f16s(first, 0)
	c.VXORPS(in8("signs", 0x80000000), dmin, dmin)
	low, mins, high := u.dwords(first, 4), u.dwords(first, 8), u.dwords(first, 12)
	for _, part := range []struct {
		d, v  vec
		shift int
		where int
	}{{d, low, 0, panelD}, {dmin, mins, 4, panelM}} {
		last := bits(high, part.shift, nibbleMask())
		c.VPOR(raised(bits(part.v, 6, pairMask()), 4), last, last)
		c.VPAND(in8("low6", 0x3f3f3f3f), part.v, part.v)
		for b := range 4 {
			u.times(part.d, field(part.v, 8*b, in8("low8", 255)), first, b, part.where)
			u.times(part.d, field(last, 8*b, in8("low8", 255)), first, 4+b, part.where)
		}
	}
}

// scales16 stores sixteen int8 scales, which the dwords of four vectors have.
func (u *unpacker) scales16(v []vec, d vec, first int) {
	for i := range 16 {
		u.times(d, signedByte(v[i/4], i%4), first, i/2, []int{panelD, panelM}[i%2])
	}
}

func unpackQ4K(u *unpacker, first int) {
	for i := range 8 {
		v := u.load(first, 16+16*i)
		for j := range v {
			u.store(bits(v[j], 0, nibbleMask()), first, i/2*2, i%2*4+j)
			u.store(bits(v[j], 4, nibbleMask()), first, i/2*2+1, i%2*4+j)
		}
	}
	u.scalesK(first)
}

func unpackQ5K(u *unpacker, first int) {
	fifth := in8("ones8", 0x01010101)
	for half := range 2 {
		high := u.load(first, 16+16*half)
		for i := range 4 {
			v := u.load(first, 48+32*i+16*half)
			for j := range v {
				for k := range 2 {
					b := 2*i + k
					q := bits(v[j], 4*k, nibbleMask())
					c.VPOR(raised(bits(high[j], b, fifth), 4), q, q)
					u.store(q, first, b, 4*half+j)
				}
			}
		}
	}
	u.scalesK(first)
}

func unpackQ6K(u *unpacker, first int) {
	for i := range 4 { // half of the blocks, half of their elements
		n, half := i/2, i%2
		high := u.load(first, 128+32*n+16*half)
		for k := range 2 {
			low := u.load(first, 64*n+32*k+16*half)
			for j := range low {
				for _, b := range []int{k, k + 2} {
					q := bits(low[j], 4*(b/2), nibbleMask())
					c.VPOR(raised(bits(high[j], 2*b, pairMask()), 4), q, q)
					c.VPSUBB(in8("thirtytwos", 0x20202020), q, q)
					u.store(q, first, 4*n+b, 4*half+j)
				}
			}
		}
	}
	u.scales16(u.load(first, 192), u.f16(first, 208), first)
}

// inWords and inBytes repeat byte i of each dword in its two words, or four bytes.
func inWords(v vec, i int) vec {
	pattern := uint32(i) * 0x00010001
	return shuffled(v, fmt.Sprintf("inWords%d", i), func(at uint32) uint32 { return 0x80008000 | pattern + at*0x00010001 })
}

func inBytes(v vec, i int) vec {
	pattern := uint32(i) * 0x01010101
	return shuffled(v, fmt.Sprintf("inBytes%d", i), func(at uint32) uint32 { return pattern + at*0x01010101 })
}

// shuffled takes bytes of v for each dword, which begins at byte at of its lane.
func shuffled(v vec, name string, from func(at uint32) uint32) vec {
	var dwords []uint32
	for i := range uint32(8) {
		dwords = append(dwords, from(i%4*4))
	}
	t := c.YMM()
	c.VPSHUFB(data(name, dwords...), v, t)
	return t
}

func unpackQ2K(u *unpacker, first int) {
	scales := u.load(first, 0)
	for i := range scales {
		c.VPAND(nibbleMask(), scales[i], scales[i])
	}
	for n := range 2 {
		for half := range 2 {
			v := u.load(first, 16+32*n+16*half)
			for i := range 4 {
				b := 4*n + i
				s := inWords(scales[(2*b+half)/4], (2*b+half)%4)
				for j := range v {
					q := bits(v[j], 2*i, pairMask())
					c.VPMULLW(s, q, q) // no byte gets more than 3*15
					u.store(q, first, b, 4*half+j)
				}
			}
		}
	}
	d := u.f16(first, 80)
	for b := range 8 {
		u.scale(d, first, b, panelD)
	}
}

func unpackQ2KMins(u *unpacker, first int) {
	mins := u.load(first, 0)
	for i := range mins {
		c.VPSRLW(op.U8(4), mins[i], mins[i])
		c.VPAND(nibbleMask(), mins[i], mins[i])
	}
	for i := range 16 {
		m := inBytes(mins[i/4], i%4)
		for j := range 4 {
			u.store(m, first, i/2, i%2*4+j)
		}
	}
	d := u.f16(first, 82)
	c.VXORPS(in8("signs", 0x80000000), d, d)
	for b := range 8 {
		u.scale(d, first, b, panelD)
	}
}

func unpackQ3K(u *unpacker, first int) {
	third := in8("ones8", 0x01010101)
	for half := range 2 {
		high := u.load(first, 16*half)
		for n := range 2 {
			v := u.load(first, 32+32*n+16*half)
			for j := range v {
				for i := range 4 {
					b := 4*n + i
					q := bits(v[j], 2*i, pairMask())
					c.VPOR(raised(bits(high[j], b, third), 2), q, q)
					c.VPSUBB(in8("fours", 0x04040404), q, q)
					u.store(q, first, b, 4*half+j)
				}
			}
		}
	}
	low, high := []vec{u.dwords(first, 96), u.dwords(first, 100)}, u.dwords(first, 104)
	scales := make([]vec, 4)
	for i := range scales {
		scales[i] = bits(low[i%2], i/2*4, nibbleMask())
		c.VPOR(raised(bits(high, 2*i, pairMask()), 4), scales[i], scales[i])
		c.VPSUBB(in8("thirtytwos", 0x20202020), scales[i], scales[i])
	}
	u.scales16(scales, u.f16(first, 108), first)
}

// unpackAVX2 unpacks a group of 16 rows into a panel.
func (f unpacking) unpackAVX2() {
	function("unpack"+f.name+"AVX2", "mulArgs", "unpacks a group of "+f.name+" rows.")
	o := args()
	w := o.load("w")
	ahead := newPrefetcher(o, w)
	blocks, panel := o.load("blocks"), o.load("panel")
	u := &unpacker{newRows(w, o.load("row"), 16), panel}
	c.Label("block")
	ahead.fetch(16 * f.bytes)
	f.half(u, 0)
	f.half(u, 8)
	u.r.advance(f.bytes)
	c.ADDQ(op.U32(f.blocks*panelBytes), panel)
	c.SUBQ(op.U8(f.blocks), blocks)
	c.JNZ(op.LabelRef("block"))
	leave()
}

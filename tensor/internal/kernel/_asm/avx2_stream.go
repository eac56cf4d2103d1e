package main

import (
	"fmt"

	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// streamAVX2 multiplies groups of rows with one token, straight from memory.
func streamAVX2() {
	function("streamQ41AVX2", "mulArgs", "multiplies groups of Q4_1 rows with one token.")
	low, ones := wide8.repeated("lowNibbles", 0x0f0f0f0f), wide8.repeated("ones", 0x00010001)
	streamLoopAVX2(q41Bytes, stored, func(r *rows, q [2]vec) vec { return nibbleDotAVX2(r, paired, 4, q, low, ones) })
	function("streamQ40AVX2", "mulArgs", "multiplies groups of Q4_0 rows with one token.")
	low, ones = wide8.repeated("lowNibbles", 0x0f0f0f0f), wide8.repeated("ones", 0x00010001)
	streamLoopAVX2(18, eighth, func(r *rows, q [2]vec) vec { return nibbleDotAVX2(r, inOrder, 2, q, low, ones) })
	function("streamQ50AVX2", "mulArgs", "multiplies groups of Q5_0 rows with one token.")
	low, ones = wide8.repeated("lowNibbles", 0x0f0f0f0f), wide8.repeated("ones", 0x00010001)
	streamLoopAVX2(22, sixteenth, func(r *rows, q [2]vec) vec { return fifthDotAVX2(r, q, low, ones) })
	function("streamQ80AVX2", "mulArgs", "multiplies groups of Q8_0 rows with one token.")
	ones = wide8.repeated("ones", 0x00010001)
	streamLoopAVX2(q80Bytes, noOffset, func(r *rows, q [2]vec) vec {
		var v [2][]vec
		for half := range v {
			v[half] = loadRowsAVX2(r, inOrder, 0, 2+16*half)
			for _, w := range v[half] {
				signed := c.YMM()
				c.VPSIGNB(w, q[half], signed)
				c.VPABSB(w, w)
				c.VPMADDUBSW(signed, w, w)
				c.VPMADDWD(ones, w, w)
			}
		}
		for i := range v[0] {
			c.VPADDD(v[1][i], v[0][i], v[0][i])
		}
		return transposeAddAVX2(v[0], c.VPADDD)
	})
}

// offset says what a stream adds to a block's product besides d*q.
type offset int

const (
	noOffset  offset = iota
	stored           // m, as Q4_1 has it; rows are in paired order
	eighth           // -8*d
	sixteenth        // -16*d
	corrected        // nothing, but fix to its integer, of numbers that are 128 too large
)

// streamLoopAVX2 is the frame of a stream, eight rows at a time: dot gives the
// integer products of their blocks with the halves of the token's.
func streamLoopAVX2(block int, more offset, dot func(r *rows, q [2]vec) vec) {
	o := args()
	w, out, groups := o.load("w"), o.load("out"), o.load("groups")
	ahead := newPrefetcher(o, w)
	r := newRows(w, o.load("row"), 8)
	c.SHLQ(op.U8(1), groups)

	c.Label("group")
	o = args()
	q, scales, blocks := o.load("q"), o.load("scales"), o.load("blocks")
	var fix reg.GPVirtual
	if more == corrected {
		fix = o.load("fix")
	}
	acc := c.YMM()
	c.VXORPS(acc, acc, acc)
	c.Label("block")
	ahead.fetch(8 * block)
	var halves [2]vec
	for i := range halves {
		halves[i] = c.YMM()
		c.VBROADCASTI128(at(q, 16*i), halves[i])
	}
	sum := dot(r, halves)
	if more == corrected {
		c.VPADDD_BCST(at(fix, 0), sum, sum)
		c.ADDQ(op.U8(4), fix)
	}
	c.VCVTDQ2PS(sum, sum)
	var d, m vec
	switch more {
	case stored:
		d, m = scalesQ41AVX2(r, 0)
	case eighth, sixteenth:
		d, m = scalesQ80AVX2(r, 0), c.YMM()
		c.VMULPS(wide8.memory(fmt.Sprintf("minus%dx", 8*(more-stored)), float64(-8*int(more-stored))), d, m)
	default:
		d = scalesQ80AVX2(r, 0)
	}
	da := c.YMM()
	c.VBROADCASTSS(at(scales, 0), da)
	c.VMULPS(da, d, d)
	c.VFMADD231PS(sum, d, acc)
	if m != nil {
		sa := c.YMM()
		c.VBROADCASTSS(at(scales, 4), sa) // one token: s is next to d
		c.VFMADD231PS(sa, m, acc)
	}
	r.advance(block)
	c.ADDQ(op.U8(32), q)
	c.ADDQ(op.U8(8), scales)
	c.DECQ(blocks)
	c.JNZ(op.LabelRef("block"))
	if more == stored {
		unpair(acc)
	}
	c.VMOVUPS(acc, at(out, 0))
	c.ADDQ(op.U8(32), out)
	r.nextGroup()
	c.DECQ(groups)
	c.JNZ(op.LabelRef("group"))
	leave()
}

// nibbleDotAVX2 is the product of nibbles, 16 bytes of each row at off: all the
// sums of pairs of a row fit int16, 8 products of 15*127 twice.
func nibbleDotAVX2(r *rows, order [8]int, off int, q [2]vec, low, ones vec) vec {
	lo, hi := loadRowsAVX2(r, order, 0, off), ymms(4)
	for i := range lo {
		c.VPSRLW(op.U8(4), lo[i], hi[i])
		c.VPAND(low, lo[i], lo[i])
		c.VPAND(low, hi[i], hi[i])
		c.VPMADDUBSW(q[0], lo[i], lo[i])
		c.VPMADDUBSW(q[1], hi[i], hi[i])
		c.VPADDW(hi[i], lo[i], lo[i])
	}
	sum := transposeAddAVX2(lo, c.VPADDW)
	c.VPMADDWD(ones, sum, sum)
	return sum
}

// fifthDotAVX2 is the product of Q5_0's numbers.
func fifthDotAVX2(r *rows, q [2]vec, low, ones vec) vec {
	spread := [2]op.Mem{ // bytes 2 and 3, 4 and 5 of a block, eight times each
		data("spreadLow", 0x02020202, 0x02020202, 0x03030303, 0x03030303, 0x02020202, 0x02020202, 0x03030303, 0x03030303),
		data("spreadHigh", 0x04040404, 0x04040404, 0x05050505, 0x05050505, 0x04040404, 0x04040404, 0x05050505, 0x05050505),
	}
	mask := data("bitOfByte", 0x08040201, 0x80402010, 0x08040201, 0x80402010, 0x08040201, 0x80402010, 0x08040201, 0x80402010)
	sums := make([]vec, 4)
	for i := range sums {
		load := func(off int) vec {
			v := c.YMM()
			c.VBROADCASTI128(r.at(i, off), v)
			c.VINSERTI128(op.U8(1), r.at(4+i, off), v, v)
			return v
		}
		lo, hi, head := load(6), c.YMM(), load(0)
		c.VPSRLW(op.U8(4), lo, hi)
		for h, v := range []vec{lo, hi} {
			t := c.YMM()
			c.VPAND(low, v, v)
			c.VPSHUFB(spread[h], head, t)
			c.VPAND(mask, t, t)
			c.VPCMPEQB(mask, t, t)
			c.VPAND(in8("sixteens", 0x10101010), t, t)
			c.VPOR(t, v, v)
			c.VPMADDUBSW(q[h], v, v)
		}
		c.VPADDW(hi, lo, lo) // 31*127 four times
		c.VPMADDWD(ones, lo, lo)
		sums[i] = lo
	}
	return transposeAddAVX2(sums, c.VPADDD)
}

// superStreamAVX2 is the frame of a stream of K-quants, eight rows at a time: body
// adds the products of 256 elements to acc. The panel has room for the scales of
// eight rows.
func superStreamAVX2(name string, bytes int, body func(u *unpacker, q, scales reg.GPVirtual, acc vec)) {
	function("stream"+name+"AVX2", "mulArgs", "multiplies groups of "+name+" rows with one token.")
	o := args()
	w, out, groups := o.load("w"), o.load("out"), o.load("groups")
	ahead := newPrefetcher(o, w)
	r := newRows(w, o.load("row"), 8)
	c.SHLQ(op.U8(1), groups)
	u := &unpacker{r, o.load("panel")}
	acc := c.YMM()

	c.Label("group")
	o = args()
	q, scales, blocks := o.load("q"), o.load("scales"), o.load("blocks")
	c.VXORPS(acc, acc, acc)
	c.Label("block")
	ahead.fetch(8 * bytes)
	body(u, q, scales, acc)
	r.advance(bytes)
	c.ADDQ(op.U32(256), q)
	c.ADDQ(op.U8(64), scales)
	c.SUBQ(op.U8(8), blocks)
	c.JNZ(op.LabelRef("block"))
	c.VMOVUPS(acc, at(out, 0))
	c.ADDQ(op.U8(32), out)
	r.nextGroup()
	c.DECQ(groups)
	c.JNZ(op.LabelRef("group"))
	leave()
}

// load8 loads 16 bytes of each of eight rows: lanes of rows i and 4+i.
func (u *unpacker) load8(i, off int) vec {
	v := c.YMM()
	c.VBROADCASTI128(u.r.at(i, off), v)
	c.VINSERTI128(op.U8(1), u.r.at(4+i, off), v, v)
	return v
}

// addScaled adds the eight rows' sums, from pairs that fit int16 all together,
// times the scale at place of the panel and that of the activations of block b.
func (u *unpacker) addScaled(acc vec, sums []vec, scales reg.GPVirtual, b, place int) {
	sum, d := transposeAddAVX2(sums, c.VPADDW), c.YMM()
	c.VPMADDWD(in8("ones16", 0x00010001), sum, sum)
	c.VCVTDQ2PS(sum, sum)
	c.VBROADCASTSS(at(scales, 8*b), d)
	c.VMULPS(at(u.panel, panelBytes*b+place), d, d)
	c.VFMADD231PS(sum, d, acc)
}

func streamQ4KAVX2() {
	superStreamAVX2("Q4K", 144, func(u *unpacker, q, scales reg.GPVirtual, acc vec) {
		u.scalesK(0)
		for pair := range 4 {
			var sums [2][]vec // of the low nibbles' block and of the high ones'
			for half := range 2 {
				var qs [2]vec
				for i := range qs {
					qs[i] = c.YMM()
					c.VBROADCASTI128(at(q, 64*pair+32*i+16*half), qs[i])
				}
				for i := range 4 {
					lo, hi := u.load8(i, 16+32*pair+16*half), c.YMM()
					c.VPSRLW(op.U8(4), lo, hi)
					for k, v := range []vec{lo, hi} {
						c.VPAND(nibbleMask(), v, v)
						c.VPMADDUBSW(qs[k], v, v)
						if half == 0 {
							sums[k] = append(sums[k], v)
						} else {
							c.VPADDW(v, sums[k][i], sums[k][i])
						}
					}
				}
			}
			for k := range sums {
				b := 2*pair + k
				u.addScaled(acc, sums[k], scales, b, panelD)
				s := c.YMM()
				c.VBROADCASTSS(at(scales, 8*b+4), s)
				c.VFMADD231PS(at(u.panel, panelBytes*b+panelM), s, acc)
			}
		}
	})
}

// streamQ6KAVX2 takes the numbers as they are, from 0 to 63, and subtracts 32
// times the activations from the sums of pairs.
func streamQ6KAVX2() {
	superStreamAVX2("Q6K", 210, func(u *unpacker, q, scales reg.GPVirtual, acc vec) {
		u.scales16(u.load(0, 192), u.f16(0, 208), 0)
		// The blocks in their order, and the halves of each, as portable Go adds them.
		for b := range 8 {
			n, k := b/4, b%4
			for half := range 2 {
				qs, less := c.YMM(), c.YMM()
				c.VBROADCASTI128(at(q, 32*b+16*half), qs)
				c.VMOVDQU(in8("thirtytwos", 0x20202020), less)
				c.VPMADDUBSW(qs, less, less)
				sums := make([]vec, 4)
				for i := range sums {
					v := bits(u.load8(i, 64*n+32*(k%2)+16*half), 4*(k/2), nibbleMask())
					c.VPOR(raised(bits(u.load8(i, 128+32*n+16*half), 2*k, pairMask()), 4), v, v)
					c.VPMADDUBSW(qs, v, v)
					c.VPSUBW(less, v, v) // 32*127 twice: four of them fit int16
					sums[i] = v
				}
				u.addScaled(acc, sums, scales, b, []int{panelD, panelM}[half])
			}
		}
	})
}

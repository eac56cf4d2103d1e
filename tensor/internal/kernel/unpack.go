package kernel

import (
	"encoding/binary"
	"math"
)

// The formats with blocks of 32 elements. Bytes are taken four at a time, as
// panels have them.
//
// Source: ggml-common.h and dequantize_row_* of ggml-quants.c, in
// https://github.com/ggml-org/ggml.

// scales reads the scales of one block as the format stores it. A switch, not
// functions in the table, so that blocks stay on the stack.
func (f Format) scales(plane int, w []byte, to *[maxBlocks]block) {
	switch f {
	case Q8_0, IQ4NL:
		to[0].d = readF16(w)
	case Q4_1, Q5_1:
		to[0].d, to[0].m = readF16(w), readF16(w[2:])
	case Q4_0, Q5_0:
		to[0].d = readF16(w)
		to[0].m = -float32(layouts[f].zero) * to[0].d
	case IQ4XS:
		scalesIQ4XS(w, to)
	case MXFP4:
		to[0].d = scaleMXFP4(w[0])
	case Q2K:
		scalesQ2K(plane, w, to)
	case Q3K:
		scalesQ3K(w, to)
	case Q4K, Q5K:
		scalesK(w, to)
	case Q6K:
		scalesQ6K(w, to)
	}
}

// numbers reads the numbers of one block as the format stores it.
func (f Format) numbers(plane int, w []byte, to *[maxBlocks]block) {
	switch f {
	case Q8_0:
		for j := range to[0].q {
			to[0].q[j] = u32(w[2+4*j:])
		}
	case Q4_1:
		nibblesOf(&to[0].q, w[4:20])
	case Q4_0:
		nibblesOf(&to[0].q, w[2:18])
	case Q5_0:
		nibblesOf(&to[0].q, w[6:22])
		fifths(&to[0].q, u32(w[2:]))
	case Q5_1:
		nibblesOf(&to[0].q, w[8:24])
		fifths(&to[0].q, u32(w[4:]))
	case IQ4NL:
		lookup(&to[0].q, w[2:18], iq4nlPairs)
	case IQ4XS:
		for b := range to {
			lookup(&to[b].q, w[8+16*b:], iq4nlPairs)
		}
	case MXFP4:
		lookup(&to[0].q, w[1:17], fp4Pairs)
	case Q2K:
		numbersQ2K(plane, w, to)
	case Q3K:
		numbersQ3K(w, to)
	case Q4K:
		numbersQ4K(w, to)
	case Q5K:
		numbersQ5K(w, to)
	case Q6K:
		numbersQ6K(w, to)
	}
}

// unpack reads one block as the format stores it: the first plane, or the second
// of formats that have two.
func (f Format) unpack(plane int, w []byte, to *[maxBlocks]block) {
	f.scales(plane, w, to)
	f.numbers(plane, w, to)
}

func u32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }

const (
	lowNibbles = 0x0f0f0f0f
	lowBits    = 0x01010101
	lowPairs   = 0x03030303
)

// nibblesOf fills q from 16 bytes: byte i holds elements i (low nibble) and i+16.
func nibblesOf(q *[8]uint32, w []byte) {
	for j := range 4 {
		c := u32(w[4*j:])
		q[j], q[4+j] = c&lowNibbles, c>>4&lowNibbles
	}
}

// fifths adds the fifth bit of each element, bit i of b, to q.
func fifths(q *[8]uint32, b uint32) {
	for j := range q {
		// Four bits spread over four bytes, then the lowest of each.
		q[j] |= (b >> (4 * j) & 15) * 0x00204081 & lowBits << 4
	}
}

// iq4nl is what the nibbles of IQ4_NL stand for: kvalues_iq4nl of ggml-common.h.
var iq4nl = [16]int8{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}

// fp4 is what the nibbles of MXFP4 stand for, doubled to be whole.
//
// Source: OCP Microscaling Formats 1.0, E2M1.
var fp4 = [16]int8{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}

// pairsOf is a table for two nibbles at once.
func pairsOf(values [16]int8) *[256]uint16 {
	var t [256]uint16
	for c := range t {
		t[c] = uint16(uint8(values[c&15])) | uint16(uint8(values[c>>4]))<<8
	}
	return &t
}

var iq4nlPairs, fp4Pairs = pairsOf(iq4nl), pairsOf(fp4)

// lookup fills q from 16 bytes of nibbles by way of a table.
func lookup(q *[8]uint32, w []byte, table *[256]uint16) {
	for j := range 4 {
		var lo, hi uint32
		for i, c := range w[4*j : 4*j+4] {
			v := uint32(table[c])
			lo |= v & 0xff << (8 * i)
			hi |= v >> 8 << (8 * i)
		}
		q[j], q[4+j] = lo, hi
	}
}

// scalesIQ4XS: d, then the upper two and the lower four bits of eight scales,
// d*(scale-32).
func scalesIQ4XS(w []byte, to *[maxBlocks]block) {
	d, high := readF16(w), binary.LittleEndian.Uint16(w[2:])
	for b := range to {
		scale := w[4+b/2]>>(4*(b%2))&15 | byte(high>>(2*b)&3)<<4
		to[b].d = d * float32(int(scale)-32)
	}
}

// scaleMXFP4 is half of 2^(e-127), as fp4 has twice the numbers.
func scaleMXFP4(e byte) float32 {
	if e < 2 {
		return math.Float32frombits(0x00200000 << e) // subnormal
	}
	return math.Float32frombits(uint32(e-1) << 23)
}

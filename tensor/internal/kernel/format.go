package kernel

import "fmt"

// BlockLen is the number of elements in a block of activations, and what the
// length of a weight row must be a multiple of in every format.
const BlockLen = 32

// Format is the layout of a weight row, as GGUF stores it.
type Format uint8

// The formats that the kernels take. Numbers are little-endian; d and m are
// float16. The quantised ones are described where they are unpacked.
const (
	F32  Format = iota // float32
	F16                // IEEE float16
	BF16               // the upper half of a float32
	Q8_0
	Q4_1
	Q4_0
	Q5_0
	Q5_1
	IQ4NL
	IQ4XS
	MXFP4
	Q2K
	Q3K
	Q4K
	Q5K
	Q6K
	formats
)

// layout is what a format is made of.
type layout struct {
	name   string
	bytes  int // of a block as the format stores it
	blocks int // of 32 elements in that
	kind   kind
	// zero is the q that stands for 0 in formats whose m is -zero*d.
	zero int8
	// planes is 2 where a weight is the sum of what two blocks say.
	planes int
}

// kind says what the numbers of an unpacked block stand for, and with that which
// kernels multiply it.
type kind uint8

const (
	plain   kind = iota // not quantised
	nibbles             // d*q + m, q from 0 to 15
	wide                // d*q + m, q from 0 to 31
	signed              // d*q, q an int8
	halves              // d*q for the first 16 elements, m*q for the others, q an int8
)

// block is 32 elements of a row, unpacked.
type block struct {
	q    [BlockLen / 4]uint32 // elements 4j..4j+3 in a byte each, the first lowest
	d, m float32
}

// layouts is the format table: a quantisation is one line here and its unpacking
// in Format.scales and Format.numbers.
var layouts = [formats]layout{
	F32:   {name: "F32", bytes: 128, blocks: 1},
	F16:   {name: "F16", bytes: 64, blocks: 1},
	BF16:  {name: "BF16", bytes: 64, blocks: 1},
	Q8_0:  {name: "Q8_0", bytes: 34, blocks: 1, kind: signed},
	Q4_1:  {name: "Q4_1", bytes: 20, blocks: 1, kind: nibbles},
	Q4_0:  {name: "Q4_0", bytes: 18, blocks: 1, kind: nibbles, zero: 8},
	Q5_0:  {name: "Q5_0", bytes: 22, blocks: 1, kind: wide, zero: 16},
	Q5_1:  {name: "Q5_1", bytes: 24, blocks: 1, kind: wide},
	IQ4NL: {name: "IQ4_NL", bytes: 18, blocks: 1, kind: signed},
	IQ4XS: {name: "IQ4_XS", bytes: 136, blocks: 8, kind: signed},
	MXFP4: {name: "MXFP4", bytes: 17, blocks: 1, kind: signed},
	Q2K:   {name: "Q2_K", bytes: 84, blocks: 8, kind: signed, planes: 2},
	Q3K:   {name: "Q3_K", bytes: 110, blocks: 8, kind: halves},
	Q4K:   {name: "Q4_K", bytes: 144, blocks: 8, kind: nibbles},
	Q5K:   {name: "Q5_K", bytes: 176, blocks: 8, kind: wide},
	Q6K:   {name: "Q6_K", bytes: 210, blocks: 8, kind: halves},
}

// maxBlocks is the largest number of blocks that a format stores as one.
const maxBlocks = 8

// String is the format's name in GGUF.
func (f Format) String() string {
	if f < formats {
		return layouts[f].name
	}
	return fmt.Sprintf("format %d", uint8(f))
}

// Quantised reports whether the format has blocks with scales, which
// [Set.MulQ] takes.
func (f Format) Quantised() bool { return f < formats && layouts[f].kind != plain }

// RowBytes is the number of bytes of a row of k elements. It panics where k
// isn't a whole number of the format's blocks above zero.
func (f Format) RowBytes(k int) int {
	if f >= formats {
		panic("kernel: unknown " + f.String())
	}
	l := &layouts[f]
	if k <= 0 || k%(BlockLen*l.blocks) != 0 {
		panic(fmt.Sprintf("kernel: a row of %d elements isn't whole blocks of %d", k, BlockLen*l.blocks))
	}
	return k / (BlockLen * l.blocks) * l.bytes
}

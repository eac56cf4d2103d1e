package kernel

import "fmt"

// BlockLen is the number of elements in a quantised block, and what the length
// of a weight row must be a multiple of in every format.
const BlockLen = 32

// Format is the layout of a weight row, as GGUF stores it.
type Format uint8

// The formats that the kernels take. Numbers are little-endian; d and m are
// float16.
const (
	F32   Format = iota // float32
	F16                 // IEEE float16
	Q8_0                // blocks of d and 32 int8: element i is d*q[i]
	Q4_1                // blocks of d, m and 16 bytes: byte i holds elements i (low nibble) and i+16 (high), each d*q+m
	Q4_0                // blocks of d and 16 bytes with nibbles as in Q4_1: d*(q-8)
	Q5_0                // blocks of d, 4 bytes with the fifth bit of each element and 16 with nibbles: d*(q-16)
	IQ4NL               // blocks of d and 16 bytes with nibbles that index a table of 16 int8: d*table[q]
	formats
)

var formatNames = [formats]string{"F32", "F16", "Q8_0", "Q4_1", "Q4_0", "Q5_0", "IQ4_NL"}

// blockBytes is what 32 elements of a row take.
var blockBytes = [formats]int{128, 64, 34, 20, 18, 22, 18}

// String is the format's name in GGUF.
func (f Format) String() string {
	if f < formats {
		return formatNames[f]
	}
	return fmt.Sprintf("format %d", uint8(f))
}

// Quantised reports whether the format has blocks with scales, which
// [Set.MulQ] takes.
func (f Format) Quantised() bool { return f >= Q8_0 && f < formats }

// RowBytes is the number of bytes of a row of k elements. It panics where k
// isn't a multiple of [BlockLen] above zero.
func (f Format) RowBytes(k int) int {
	if f >= formats {
		panic("kernel: unknown " + f.String())
	}
	if k <= 0 || k%BlockLen != 0 {
		panic(fmt.Sprintf("kernel: a row of %d elements isn't whole blocks of %d", k, BlockLen))
	}
	return k / BlockLen * blockBytes[f]
}

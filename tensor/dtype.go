package tensor

import "fmt"

// DType is the format of a tensor's elements, with GGUF's numbers.
//
// Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and the
// block definitions of ggml-common.h.
type DType uint32

// The formats that GGUF names. Most can be told apart and sized but not yet
// computed with; [DType.Computes] says which can.
const (
	F32    DType = 0
	F16    DType = 1
	Q4_0   DType = 2
	Q4_1   DType = 3
	Q5_0   DType = 6
	Q5_1   DType = 7
	Q8_0   DType = 8
	Q8_1   DType = 9
	Q2_K   DType = 10
	Q3_K   DType = 11
	Q4_K   DType = 12
	Q5_K   DType = 13
	Q6_K   DType = 14
	Q8_K   DType = 15
	IQ2XXS DType = 16
	IQ2XS  DType = 17
	IQ3XXS DType = 18
	IQ1S   DType = 19
	IQ4NL  DType = 20
	IQ3S   DType = 21
	IQ2S   DType = 22
	IQ4XS  DType = 23
	I8     DType = 24
	I16    DType = 25
	I32    DType = 26
	I64    DType = 27
	F64    DType = 28
	IQ1M   DType = 29
	BF16   DType = 30
	TQ1_0  DType = 34
	TQ2_0  DType = 35
	MXFP4  DType = 39
)

type format struct {
	name       string
	block      int // elements in a block
	blockBytes int
	computes   bool
}

var formats = map[DType]format{
	F32: {"F32", 1, 4, true}, F16: {"F16", 1, 2, true}, BF16: {"BF16", 1, 2, true}, F64: {"F64", 1, 8, false},
	I8: {"I8", 1, 1, false}, I16: {"I16", 1, 2, false}, I32: {"I32", 1, 4, false}, I64: {"I64", 1, 8, false},
	Q4_0: {"Q4_0", 32, 18, true}, Q4_1: {"Q4_1", 32, 20, true}, Q5_0: {"Q5_0", 32, 22, true}, Q5_1: {"Q5_1", 32, 24, true},
	Q8_0: {"Q8_0", 32, 34, true}, Q8_1: {"Q8_1", 32, 36, false},
	Q2_K: {"Q2_K", 256, 84, true}, Q3_K: {"Q3_K", 256, 110, true}, Q4_K: {"Q4_K", 256, 144, true},
	Q5_K: {"Q5_K", 256, 176, true}, Q6_K: {"Q6_K", 256, 210, true}, Q8_K: {"Q8_K", 256, 292, false},
	IQ2XXS: {"IQ2_XXS", 256, 66, false}, IQ2XS: {"IQ2_XS", 256, 74, false}, IQ3XXS: {"IQ3_XXS", 256, 98, false},
	IQ1S: {"IQ1_S", 256, 50, false}, IQ4NL: {"IQ4_NL", 32, 18, true}, IQ3S: {"IQ3_S", 256, 110, false},
	IQ2S: {"IQ2_S", 256, 82, false}, IQ4XS: {"IQ4_XS", 256, 136, true}, IQ1M: {"IQ1_M", 256, 56, false},
	TQ1_0: {"TQ1_0", 256, 54, false}, TQ2_0: {"TQ2_0", 256, 66, false}, MXFP4: {"MXFP4", 32, 17, true},
}

// String is the format's name in GGUF, or its number where it has none.
func (d DType) String() string {
	if f, ok := formats[d]; ok {
		return f.name
	}
	return fmt.Sprintf("type %d", uint32(d))
}

// Known reports whether the format's block size is known, so that a tensor of
// it can be measured.
func (d DType) Known() bool { _, ok := formats[d]; return ok }

// Computes reports whether the operations of this package take weights in the
// format.
func (d DType) Computes() bool { return formats[d].computes }

// Block is the number of elements in a block: 1 for plain numbers, 32 or 256
// for quantised formats, 0 for an unknown format.
func (d DType) Block() int { return formats[d].block }

// BlockBytes is the number of bytes of a block, 0 for an unknown format.
func (d DType) BlockBytes() int { return formats[d].blockBytes }

// RowBytes is the number of bytes of a row of n elements. It panics where n
// isn't a whole number of blocks: check a file's shapes with [DType.Fits].
func (d DType) RowBytes(n int) int {
	if !d.Fits(n) {
		panic(fmt.Sprintf("tensor: %d elements are not whole blocks of %v", n, d))
	}
	return n / d.Block() * d.BlockBytes()
}

// Fits reports whether n elements are a whole number of blocks.
func (d DType) Fits(n int) bool {
	b := d.Block()
	return b != 0 && n >= 0 && n%b == 0
}

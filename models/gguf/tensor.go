package gguf

import (
	"fmt"
	"math"
	"math/bits"

	"github.com/dunlin-go/dunlin/tensor"
)

// MaxDims is the number of dimensions that a tensor can have.
const MaxDims = 4

// TensorInfo describes one tensor of a file.
type TensorInfo struct {
	Name string
	Type tensor.DType
	// Shape is in GGUF's order: Shape[0] is the length of a row, whose elements
	// lie next to each other. Dimensions that the file doesn't give are 1.
	Shape [MaxDims]uint64
	NDims int // how many dimensions the file gives
	Part  int // which of the files it lies in, from 0
	// Offset is where the data begin, counted from the start of that file.
	Offset uint64
	// Bytes is the size of the data, 0 where the type is unknown.
	Bytes uint64
}

// Dims is the part of Shape that the file gives.
func (t TensorInfo) Dims() []uint64 { return t.Shape[:t.NDims] }

// Elements is the product of the dimensions.
func (t TensorInfo) Elements() uint64 {
	return t.Shape[0] * t.Shape[1] * t.Shape[2] * t.Shape[3]
}

// tensorBytes is the size of a tensor's data: 0 for an unknown type, never 0
// for a known one. It bounds the dimensions for every type.
func tensorBytes(t tensor.DType, dims []uint64) (uint64, error) {
	if len(dims) == 0 || len(dims) > MaxDims {
		return 0, fmt.Errorf("%w: %d dimensions, 1 to %d are possible", ErrFormat, len(dims), MaxDims)
	}
	elements := uint64(1)
	for _, d := range dims {
		if d == 0 {
			return 0, fmt.Errorf("%w: a dimension of %v is zero", ErrFormat, dims)
		}
		hi, lo := bits.Mul64(elements, d)
		if hi != 0 || lo > math.MaxInt64 {
			return 0, fmt.Errorf("%w: the product of the dimensions %v overflows", ErrFormat, dims)
		}
		elements = lo
	}
	if !t.Known() {
		return 0, nil
	}
	block := uint64(t.Block())
	if dims[0]%block != 0 {
		return 0, fmt.Errorf("%w: a row of %d elements is not a whole number of %v blocks of %d",
			ErrFormat, dims[0], t, block)
	}
	hi, lo := bits.Mul64(elements/block, uint64(t.BlockBytes()))
	if hi != 0 || lo > math.MaxInt64 {
		return 0, fmt.Errorf("%w: the size of %v in %v overflows", ErrFormat, dims, t)
	}
	return lo, nil
}

// alignUp is the least multiple of alignment, a power of two, that isn't below
// n. The caller knows that n is far from the end of the range.
func alignUp(n, alignment uint64) uint64 { return (n + alignment - 1) &^ (alignment - 1) }

// checkAlignment refuses what can't be a file's alignment.
func checkAlignment(a uint64) error {
	if a < minAlignment || a > maxAlignment || bits.OnesCount64(a) != 1 {
		return fmt.Errorf("%w: %s is %d, not a power of two from %d to %d",
			ErrFormat, alignmentKey, a, uint64(minAlignment), uint64(maxAlignment))
	}
	return nil
}

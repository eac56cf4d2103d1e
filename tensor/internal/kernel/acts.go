package kernel

import (
	"fmt"
	"math"
	"unsafe"
)

// TileTokens is the number of tokens in a tile of activations: what the widest
// kernel holds accumulators for at once.
const TileTokens = 16

// Acts are the activations of a batch of tokens, quantised to int8 in blocks of
// 32, as [Set.MulQ] reads them. A block has the numbers q = 127x / max|x| rounded
// to nearest even, the scale d = sum(xq) / sum(qq) that leaves them the least
// squared error, and s = d * sum(q), which meets the offsets of Q4_1 weights.
//
// The layout follows the kernels: tiles of 16 tokens (the last may have fewer),
// in a tile the blocks in order, in a block its tokens side by side. A kernel
// walks a tile forwards once for each group of rows.
//
// A block that holds a NaN or an infinity has NaN for d and s, so that every
// product with it is NaN and can be refused at the end. A block without a value
// of at least 127 times the smallest normal float32 counts as zero: 127/max|x|
// would not be finite.
type Acts struct {
	tokens, k int
	q         []int8    // [tile][block][token][32]
	scales    []float32 // [tile][block][d of each token, then s of each token]
	fix       []int32   // [tile][block][token], -128 * sum(q): undoes the offset of int8 weights taken as uint8
}

// ActsBytes is the memory that an Acts for so many tokens of k elements takes,
// math.MaxInt64 if that can't be counted.
func ActsBytes(tokens, k int) int64 {
	const perBlock = BlockLen + 3*4
	blocks := int64(k / BlockLen)
	if tokens < 0 || k < 0 || blocks > 0 && int64(tokens) > (math.MaxInt64-3*alignment)/perBlock/blocks {
		return math.MaxInt64
	}
	return int64(tokens)*blocks*perBlock + 3*alignment
}

// NewActs returns activations with room for tokens of k elements each, a
// multiple of [BlockLen].
func NewActs(tokens, k int) *Acts {
	a := new(Acts)
	a.Reset(tokens, k)
	return a
}

// Reset gives a another shape and makes its content undefined. Memory is only
// allocated where tokens*k is larger than ever before.
func (a *Acts) Reset(tokens, k int) {
	if tokens < 0 || k <= 0 || k%BlockLen != 0 {
		panic(fmt.Sprintf("kernel: activations of %d tokens of %d elements", tokens, k))
	}
	a.tokens, a.k = tokens, k
	blocks := tokens * (k / BlockLen)
	if cap(a.fix) < blocks {
		a.q = aligned[int8](blocks * BlockLen)
		a.scales = aligned[float32](blocks * 2)
		a.fix = aligned[int32](blocks)
	}
	a.q, a.scales, a.fix = a.q[:blocks*BlockLen], a.scales[:blocks*2], a.fix[:blocks]
}

// Tokens is the number of tokens.
func (a *Acts) Tokens() int { return a.tokens }

// K is the number of elements of a token.
func (a *Acts) K() int { return a.k }

// tile returns the first block of the tile that token t is in, counted over
// the whole of a (block b of the tile's token i is first + b*n + i), and the
// number n of tokens in the tile.
func (a *Acts) tile(t int) (first, n int) {
	t0 := t / TileTokens * TileTokens
	return t0 * (a.k / BlockLen), min(TileTokens, a.tokens-t0)
}

// alignment is a cache line, and the width of the widest vector.
const alignment = 64

// aligned returns n zeroed elements that start on a cache line.
func aligned[T int8 | int32 | float32](n int) []T {
	size := int(unsafe.Sizeof(*new(T)))
	s := make([]T, n+alignment/size-1)
	at := 0
	if len(s) > 0 {
		// Only the address is looked at; the heap doesn't move objects.
		at = int(-uintptr(unsafe.Pointer(unsafe.SliceData(s)))&(alignment-1)) / size
	}
	return s[at : at+n : at+n]
}

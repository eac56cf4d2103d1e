package kernel

import (
	"fmt"
	"math"
	"unsafe"
)

const (
	groupRows = 16 // rows that a kernel takes at once, as lanes
	panelRows = 4  // rows dequantised at once by MulF
	// panelFloats is the size, in float32, of a block of unpacked rows: 16 rows
	// of 32 bytes, 16 scales, 16 offsets. It also covers MulF's panelRows*32.
	panelFloats = groupRows * (BlockLen/4 + 2)
	tileFloats  = groupRows * TileTokens
)

// Scratch is the working memory of one worker in [Set.MulQ] and [Set.MulF]. It
// may not be used by two goroutines at once.
type Scratch struct {
	// Ahead is what the worker reads after the rows of the call.
	Ahead Ahead

	k     int       // the longest row
	panel []float32 // one group of rows, unpacked
	tile  []float32 // [token][row] outputs (and accumulators) of one group
	arch  archScratch
}

// Ahead is a hint. With one token, memory is the limit: prefetches run far ahead
// of the rows, and where those end they go on to what comes next.
type Ahead struct {
	Rest int    // bytes right after the rows of the call that come first
	Next []byte // then this; empty where it isn't known
}

// farAhead is how far ahead of the rows lines come into the outer caches, which
// keeps one token at the speed of memory.
const farAhead = 20 << 10

// idleAhead is how much of Next is worth fetching by a worker that waits: less
// than the second-level cache of any CPU with these kernels.
const idleAhead = 96 << 10

// Beyond is what the prefetches of a call that ends the rows don't reach: more
// for [Set.Prefetch].
func (a *Ahead) Beyond() []byte {
	if a.Rest > 0 || len(a.Next) <= farAhead {
		return nil
	}
	return a.Next[farAhead:min(idleAhead, len(a.Next))]
}

// Prefetch fetches the first KB of b into the outer caches and returns the rest. It
// reads nothing: b may have been unmapped.
func (s *Set) Prefetch(b []byte) (rest []byte) {
	n := min(1<<10, len(b))
	if n > 0 {
		s.impl.prefetch(b[:n])
	}
	return b[n:]
}

// PrefetchAll fetches all of x into the outer caches.
func PrefetchAll[T byte | uint16 | float32](s *Set, x []T) {
	b := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), len(x)*int(unsafe.Sizeof(*new(T))))
	for len(b) > 0 {
		b = s.Prefetch(b)
	}
}

// ScratchBytes is the memory that a Scratch for rows of up to maxK elements
// takes, math.MaxInt64 if that can't be counted.
func ScratchBytes(maxK int) int64 {
	const perBlock = 4 * panelFloats
	blocks := int64(maxK / BlockLen)
	if maxK < 0 || blocks > (math.MaxInt64-8*tileFloats-2*alignment)/perBlock {
		return math.MaxInt64
	}
	return blocks*perBlock + 8*tileFloats + 2*alignment
}

// NewScratch returns working memory for rows of up to maxK elements.
func NewScratch(maxK int) *Scratch {
	if maxK <= 0 || maxK%BlockLen != 0 {
		panic(fmt.Sprintf("kernel: scratch for rows of %d elements", maxK))
	}
	return &Scratch{
		k:     maxK,
		panel: aligned[float32](maxK / BlockLen * panelFloats),
		tile:  aligned[float32](2 * tileFloats), // outputs, then accumulators
	}
}

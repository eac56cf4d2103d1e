package kernel

import (
	"encoding/binary"
	"fmt"
)

// A block of keys or values in Q8_0 holds BlockKeys tokens of d elements, a multiple
// of [BlockLen]: first int8, [d][BlockKeys] for keys and [BlockKeys][d] for values,
// then float16 scales, [d/BlockLen][BlockKeys]. The scales of the keys that a kernel
// has as lanes fill a cache line, and all blocks begin on one.
//
// The numbers and scales are those of [Acts], with the scale rounded to float16: an
// element's value, their product, is exact in float32. A scale that is too large for
// float16 is NaN: with an infinite one a key's score may be minus infinity, and the key be
// forgotten.

// Q8Bytes is the size of a block of Q8_0.
func Q8Bytes(d int) int { return BlockKeys*d + q8ScaleBytes*(d/BlockLen) }

// q8ScaleBytes is the size of a block's scales for BlockLen elements.
const q8ScaleBytes = 2 * BlockKeys

// StoreKeyQ8 quantises x to key j of a block. It uses a, whatever is in it, as memory.
func (s *Set) StoreKeyQ8(block []byte, j int, x []float32, a *Acts) {
	s.storeQ8(block, j, x, a)
	for e, q := range a.q {
		block[e*BlockKeys+j] = byte(q)
	}
}

// StoreValueQ8 is [Set.StoreKeyQ8] for a value.
func (s *Set) StoreValueQ8(block []byte, j int, x []float32, a *Acts) {
	s.storeQ8(block, j, x, a)
	row := block[j*len(x) : (j+1)*len(x)]
	for e, q := range a.q {
		row[e] = byte(q)
	}
}

// storeQ8 quantises x into a and stores its scales.
func (s *Set) storeQ8(block []byte, j int, x []float32, a *Acts) {
	d := len(x)
	if j < 0 || j >= BlockKeys || len(block) != Q8Bytes(d) {
		panic(fmt.Sprintf("kernel: token %d of %d elements in a block of Q8_0 of %d bytes", j, d, len(block)))
	}
	a.Reset(1, d)
	s.Quantize(a, x, 0, 1)
	for b := range d / BlockLen {
		at := BlockKeys*d + q8ScaleBytes*b + 2*j
		binary.LittleEndian.PutUint16(block[at:], NoInfinity(f32to16(a.scales[2*b])))
	}
}

// AttendQ8 is [Set.AttendF32] for blocks of Q8_0.
func (s *Set) AttendQ8(qs *Queries, lo, hi int, keys, values []byte, from, to int) {
	if size := Q8Bytes(qs.d); qs.d%BlockLen != 0 || len(keys) != size || len(values) != size {
		panic(fmt.Sprintf("kernel: blocks of Q8_0 of %d and %d bytes for %d elements", len(keys), len(values), qs.d))
	}
	checkBlock(qs, lo, hi, len(keys), len(values), from, to)
	if lo < hi && from < to {
		s.impl.attendQ8(qs, lo, hi, keys, values, from, to)
	}
}

func (g generic) attendQ8(qs *Queries, lo, hi int, keys, values []byte, from, to int) {
	d := qs.d
	for e := range d {
		for j := range BlockKeys {
			qs.keys[e*BlockKeys+j] = valueQ8(keys, d, e*BlockKeys+j, e, j)
			qs.values[j*d+e] = valueQ8(values, d, j*d+e, e, j)
		}
	}
	g.attendF32(qs, lo, hi, qs.keys, qs.values, from, to)
}

// valueQ8 is element e of token j of a block, whose number is at place i.
func valueQ8(block []byte, d, i, e, j int) float32 {
	return float32(int8(block[i])) * readF16(block[BlockKeys*d+q8ScaleBytes*(e/BlockLen)+2*j:])
}

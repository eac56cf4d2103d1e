package kernel

import (
	"encoding/binary"
	"math"
)

// generic is the portable implementation: the plainest Go there is for each
// operation, and what the assembly is measured against. Products that must
// not be fused with a sum are converted explicitly, which the language defines
// as rounding.
type generic struct{}

// minScale is the smallest scale of activations: below, 1/d overflows.
const minScale = 0x1p-126

func (generic) quantize(a *Acts, x []float32, lo, hi int) {
	blocks := a.k / BlockLen
	for t := lo; t < hi; t++ {
		first, n := a.tile(t)
		i := t % TileTokens
		for b := range blocks {
			at := first + b*n
			d, sum := quantizeBlock((*[BlockLen]int8)(a.q[(at+i)*BlockLen:]), (*[BlockLen]float32)(x[t*a.k+b*BlockLen:]))
			a.scales[2*at+i] = d
			a.scales[2*at+n+i] = d * float32(sum)
			a.fix[at+i] = -128 * sum
		}
	}
}

// quantizeBlock sets q and returns the block's scale and the sum of q. The
// numbers are rounded with the scale max|x|/127; the scale is then the one that
// fits them best, sum(x*q)/sum(q*q), which leaves the least squared error.
func quantizeBlock(q *[BlockLen]int8, x *[BlockLen]float32) (d float32, sum int32) {
	// As integers, the bits of absolute values order like the values, with
	// infinity and then NaN above all of them.
	var top uint32
	for _, v := range x {
		top = max(top, math.Float32bits(v)&0x7fffffff)
	}
	d = math.Float32frombits(top) / 127
	if top >= 0x7f800000 || d < minScale {
		*q = [BlockLen]int8{}
		if top >= 0x7f800000 {
			return float32(math.NaN()), 0
		}
		return 0, 0
	}
	inv := 1 / d
	var products [BlockLen]float32
	squares := int32(0)
	for i, v := range x {
		scaled := float32(v * inv)
		n := int8(math.RoundToEven(float64(scaled)))
		q[i] = n
		sum += int32(n)
		squares += int32(n) * int32(n)
		products[i] = float32(scaled * float32(n))
	}
	for half := BlockLen / 2; half > 0; half /= 2 {
		for i := range half {
			products[i] += products[i+half]
		}
	}
	return d * (products[0] / float32(squares)), sum
}

func (generic) mulQ(f Format, w []byte, k, lo, hi int, a *Acts, out []float32, stride int, _ *Scratch) {
	row := f.RowBytes(k)
	for r := lo; r < hi; r++ {
		for t0 := 0; t0 < a.tokens; t0 += TileTokens {
			acc := mulTile(f, 0, w[r*row:(r+1)*row], a, t0)
			for plane := 1; plane < layouts[f].planes; plane++ {
				for i, v := range mulTile(f, plane, w[r*row:(r+1)*row], a, t0) {
					acc[i] += v
				}
			}
			for i := range min(TileTokens, a.tokens-t0) {
				out[(t0+i)*stride+r] = acc[i]
			}
		}
	}
}

// mulTile is the products of a plane of a row with the tokens of a tile.
func mulTile(f Format, plane int, w []byte, a *Acts, t0 int) (acc [TileTokens]float32) {
	l := &layouts[f]
	var blocks [maxBlocks]block
	first, n := a.tile(t0)
	for at := first; len(w) > 0; w = w[l.bytes:] {
		f.unpack(plane, w[:l.bytes], &blocks)
		for b := range blocks[:l.blocks] {
			w := &blocks[b]
			for i := range n {
				q := a.q[(at+i)*BlockLen:][:BlockLen]
				da, sa := a.scales[2*at+i], a.scales[2*at+n+i]
				if l.kind == halves {
					acc[i] = fma32(float32(dot(w.q[:4], q)), float32(w.d*da), acc[i])
					acc[i] = fma32(float32(dot(w.q[4:], q[16:])), float32(w.m*da), acc[i])
					continue
				}
				acc[i] = fma32(float32(dot(w.q[:], q)), float32(w.d*da), acc[i])
				if l.kind != signed {
					acc[i] = fma32(w.m, sa, acc[i])
				}
			}
			at += n
		}
	}
	return acc
}

// dot is the product of the bytes of w with as many numbers.
func dot(w []uint32, a []int8) (sum int32) {
	for j, v := range w {
		for i := range 4 {
			sum += int32(int8(v>>(8*i))) * int32(a[4*j+i])
		}
	}
	return sum
}

func (g generic) mulF(f Format, w []byte, k, lo, hi int, x []float32, tokens int, out []float32, stride int, sc *Scratch) {
	row := f.RowBytes(k)
	wide := sc.panel[:k]
	for r := lo; r < hi; r++ {
		g.dequantize(f, wide, w[r*row:(r+1)*row])
		for t := range tokens {
			out[t*stride+r] = dotF32(wide, x[t*k:(t+1)*k])
		}
	}
}

func (generic) dequantize(f Format, dst []float32, src []byte) {
	switch f {
	case F32:
		for i := range dst {
			dst[i] = readF32(src[4*i:])
		}
	case F16:
		for i := range dst {
			dst[i] = readF16(src[2*i:])
		}
	case BF16:
		for i := range dst {
			dst[i] = readBF16(src[2*i:])
		}
	default:
		widen(f, dst, src)
	}
}

// widen writes whole blocks as they are defined, with each operation rounded.
func widen(f Format, dst []float32, src []byte) {
	l := &layouts[f]
	var blocks [maxBlocks]block
	for ; len(dst) > 0; dst, src = dst[BlockLen*l.blocks:], src[l.bytes:] {
		if f == Q2K {
			widenQ2K(src[:l.bytes], dst)
			continue
		}
		f.unpack(0, src[:l.bytes], &blocks)
		for b := range blocks[:l.blocks] {
			w := &blocks[b]
			for i := range BlockLen {
				q, d := int8(w.q[i/4]>>(8*(i%4)))-l.zero, w.d
				if l.kind == halves && i >= BlockLen/2 {
					d = w.m
				}
				v := float32(float32(q) * d)
				if l.kind < signed && l.zero == 0 {
					v += w.m
				}
				dst[b*BlockLen+i] = v
			}
		}
	}
}

func readBF16(b []byte) float32 {
	return math.Float32frombits(uint32(binary.LittleEndian.Uint16(b)) << 16)
}

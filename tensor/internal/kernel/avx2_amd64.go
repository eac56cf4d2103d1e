//go:build !purego

package kernel

import "unsafe"

// avx2 is the implementation for CPUs with AVX2, FMA and F16C. Its methods take
// whole vectors to the assembly and leave tails to portable Go where that gives
// the same bits.
type avx2 struct{ generic }

// tilesAVX2 are the kernels that multiply panels of each kind.
var tilesAVX2 = map[kind][TileTokens + 1]func(*mulArgs){
	nibbles: {1: tileQ41x1AVX2, tileQ41x2AVX2, tileQ41x3AVX2, tileQ41x4AVX2},
	wide:    {1: tileWidex1AVX2, tileWidex2AVX2, tileWidex3AVX2, tileWidex4AVX2},
	signed:  {1: tileQ80x1AVX2, tileQ80x2AVX2, tileQ80x3AVX2, tileQ80x4AVX2},
	halves:  {1: tileHalvesx1AVX2, tileHalvesx2AVX2, tileHalvesx3AVX2, tileHalvesx4AVX2},
}

// unpackAVX2 unpacks the planes of each format.
var unpackAVX2 = map[Format][]func(*mulArgs){
	Q8_0: {unpackQ80AVX2}, Q4_0: {unpackQ40AVX2}, Q4_1: {unpackQ41AVX2}, Q5_0: {unpackQ50AVX2}, Q5_1: {unpackQ51AVX2},
	Q2K: {unpackQ2KAVX2, unpackQ2KMinsAVX2}, Q3K: {unpackQ3KAVX2}, Q4K: {unpackQ4KAVX2}, Q5K: {unpackQ5KAVX2}, Q6K: {unpackQ6KAVX2},
	IQ4NL: {unpackIQ4NLAVX2}, IQ4XS: {unpackIQ4XSAVX2}, MXFP4: {unpackMXFP4AVX2},
}

// quantAVX2 is every quantised format.
var quantAVX2 = func() (all [formats]quantKernels) {
	for f, unpack := range unpackAVX2 {
		all[f] = quantKernels{unpack: unpack, tile: tilesAVX2[layouts[f].kind], tokens: 4}
	}
	all[Q8_0].direct[1], all[Q4_1].direct[1] = streamQ80AVX2, streamQ41AVX2
	all[Q4_0].direct[1], all[Q5_0].direct[1], all[Q4K].direct[1], all[Q6K].direct[1] = streamQ40AVX2, streamQ50AVX2, streamQ4KAVX2, streamQ6KAVX2
	return all
}()

func (avx2) mulQ(f Format, w []byte, k, lo, hi int, a *Acts, out []float32, stride int, sc *Scratch) {
	quantAVX2[f].mul(f, w, k, lo, hi, a, out, stride, sc)
}

var floatAVX2 = floatKernels{
	f32: dotKernels{tokens: 3, by: [7]dotShape{
		1: {8, dotF32r8t1AVX2, dotF32r1t1AVX2},
		2: {4, dotF32r4t2AVX2, dotF32r1t2AVX2},
		3: {4, dotF32r4t3AVX2, dotF32r1t3AVX2},
	}},
	f16: dotKernels{tokens: 3, by: [7]dotShape{
		1: {8, dotF16r8t1AVX2, dotF16r1t1AVX2},
		2: {4, dotF16r4t2AVX2, dotF16r1t2AVX2},
		3: {4, dotF16r4t3AVX2, dotF16r1t3AVX2},
	}},
	bf16: dotKernels{tokens: 1, by: [7]dotShape{1: {8, dotBF16r8t1AVX2, dotBF16r1t1AVX2}}},
}

func (avx2) mulF(f Format, w []byte, k, lo, hi int, x []float32, tokens int, out []float32, stride int, sc *Scratch) {
	floatAVX2.mul(f, w, k, lo, hi, x, tokens, out, stride, sc)
}

// sumSquares is the dot product of x with itself; a tail comes last.
func (avx2) sumSquares(x []float32) float32 {
	var sum, part float32
	for n := chunk(len(x)); n > 0; n = chunk(len(x)) {
		dotF32r1t1AVX2(&dotArgs{w: ptr(x), row: 4 * n, groups: 1, x: ptr(x), n: n, out: unsafe.Pointer(&part)})
		sum += part
		x = x[n:]
	}
	return sum + dotF32(x, x)
}

func (g avx2) top(x []float32) (top float32, finite bool) {
	top, finite = x[0], true
	for n := chunk(len(x)); n > 0; n = chunk(len(x)) {
		var part [2]float32
		maxAVX2(&vecArgs{dst: unsafe.Pointer(&part), x: ptr(x), n: n})
		top, finite = max(top, part[0]), finite && part[1] == 0
		x = x[n:]
	}
	if len(x) == 0 {
		return top, finite
	}
	rest, ok := g.generic.top(x)
	return max(top, rest), finite && ok
}

// quantBlocks bounds the blocks of one call that quantises.
const quantBlocks = 1 << 10

func (avx2) quantize(a *Acts, x []float32, lo, hi int) {
	blocks := a.k / BlockLen
	var p quantArgs
	for t := lo; t < hi; t++ {
		for b := 0; b < blocks; b += quantBlocks {
			p.set(a, x, t, b, min(quantBlocks, blocks-b))
			quantizeAVX2(&p)
		}
	}
}

// set is the quantisation of some of token t's blocks, from b. The fields are set
// one by one, as reading back a copy would wait for their stores.
func (p *quantArgs) set(a *Acts, x []float32, t, b, blocks int) {
	first, n := a.tile(t)
	at, i := first+b*n, t%TileTokens
	p.x, p.blocks = ptr(x[t*a.k+b*BlockLen:]), blocks
	p.q, p.scales, p.fix = ptr(a.q[(at+i)*BlockLen:]), ptr(a.scales[2*at+i:]), ptr(a.fix[at+i:])
	p.qStep, p.sStep, p.fixStep, p.offset = BlockLen*n, 8*n, 4*n, 4*n
}

// vecCall bounds the elements of one call of the elementwise kernels.
const vecCall = 1 << 13

// chunk is how many of n elements the next call takes; portable Go gets what
// is left at the end.
func chunk(n int) int { return min(n&^(lanes-1), vecCall) }

func (g avx2) dequantize(f Format, dst []float32, src []byte) {
	for len(dst) > 0 {
		n := min(vecCall, len(dst))
		size := f.RowBytes(n)
		p := vecArgs{dst: ptr(dst), x: ptr(src), n: n}
		switch f {
		case Q8_0:
			dequantizeQ80AVX2(&p)
		case Q4_1:
			dequantizeQ41AVX2(&p)
		case F16:
			fromF16AVX2(&p)
		case BF16:
			fromBF16AVX2(&p)
		default:
			g.generic.dequantize(f, dst[:n], src[:size])
		}
		dst, src = dst[n:], src[size:]
	}
}

func (g avx2) toF16(dst []uint16, src []float32) {
	for n := chunk(len(src)); n > 0; n = chunk(len(src)) {
		toF16AVX2(&vecArgs{dst: ptr(dst), x: ptr(src), n: n})
		dst, src = dst[n:], src[n:]
	}
	g.generic.toF16(dst, src)
}

func (g avx2) fromF16(dst []float32, src []uint16) {
	for n := chunk(len(src)); n > 0; n = chunk(len(src)) {
		fromF16AVX2(&vecArgs{dst: ptr(dst), x: ptr(src), n: n})
		dst, src = dst[n:], src[n:]
	}
	g.generic.fromF16(dst, src)
}

func (g avx2) add(dst, src []float32) {
	for n := chunk(len(src)); n > 0; n = chunk(len(src)) {
		addAVX2(&vecArgs{dst: ptr(dst), x: ptr(src), n: n})
		dst, src = dst[n:], src[n:]
	}
	g.generic.add(dst, src)
}

func (g avx2) scaleBy(out, x, weight []float32, factor float32) {
	for n := chunk(len(x)); n > 0; n = chunk(len(x)) {
		scaleAVX2(&vecArgs{dst: ptr(out), x: ptr(x), y: ptr(weight), n: n, factor: factor})
		out, x, weight = out[n:], x[n:], weight[n:]
	}
	g.generic.scaleBy(out, x, weight, factor)
}

func (g avx2) siluGate(gate, up []float32) {
	for n := chunk(len(up)); n > 0; n = chunk(len(up)) {
		siluGateAVX2(&vecArgs{dst: ptr(gate), x: ptr(up), n: n})
		gate, up = gate[n:], up[n:]
	}
	g.generic.siluGate(gate, up)
}

func (g avx2) geluGate(gate, up []float32) {
	for n := chunk(len(up)); n > 0; n = chunk(len(up)) {
		geluGateAVX2(&vecArgs{dst: ptr(gate), x: ptr(up), n: n})
		gate, up = gate[n:], up[n:]
	}
	g.generic.geluGate(gate, up)
}

func (g avx2) ropePairs(x, cos, sin []float32) {
	for n := chunk(len(cos)); n > 0; n = chunk(len(cos)) {
		ropePairsAVX2(&vecArgs{dst: ptr(x), x: ptr(cos), y: ptr(sin), n: n})
		x, cos, sin = x[2*n:], cos[n:], sin[n:]
	}
	g.generic.ropePairs(x, cos, sin)
}

func (g avx2) ropeHalves(lo, hi, cos, sin []float32) {
	for n := chunk(len(cos)); n > 0; n = chunk(len(cos)) {
		ropeHalvesAVX2(&vecArgs{dst: ptr(lo), hi: ptr(hi), x: ptr(cos), y: ptr(sin), n: n})
		lo, hi, cos, sin = lo[n:], hi[n:], cos[n:], sin[n:]
	}
	g.generic.ropeHalves(lo, hi, cos, sin)
}

func (avx2) prefetch(b []byte) { prefetchAVX2(&vecArgs{x: ptr(b), n: len(b)}) }

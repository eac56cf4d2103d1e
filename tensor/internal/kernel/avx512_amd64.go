//go:build !purego

package kernel

// avx512 is the implementation for CPUs with AVX-512 and VNNI. What waits for
// memory anyway is avx2's.
type avx512 struct{ avx2 }

// quantAVX512 is every quantised format. Those that have no kernels of their own
// are unpacked as for AVX2. The tiles of Q4_1 take their panels where the numbers
// aren't negative: the int32 sums have room for more than nibbles.
var quantAVX512 = func() [formats]quantKernels {
	all := quantAVX2
	for f := range all {
		if k := layouts[f].kind; k == nibbles || k == wide {
			all[f].tile, all[f].tokens = tilesQ41AVX512, TileTokens
		}
	}
	all[Q8_0] = quantKernels{direct: fusedQ80AVX512, unpack: []func(*mulArgs){unpackQ80AVX512}, tile: tilesQ80AVX512, tokens: TileTokens}
	all[Q4_1] = quantKernels{direct: fusedQ41AVX512, unpack: []func(*mulArgs){unpackQ41AVX512}, tile: tilesQ41AVX512, tokens: TileTokens}
	return all
}()

var fusedQ80AVX512 = [TileTokens + 1]func(*mulArgs){
	1: streamQ80AVX512,
	fusedQ80x2AVX512, fusedQ80x3AVX512, fusedQ80x4AVX512, fusedQ80x5AVX512,
	fusedQ80x6AVX512, fusedQ80x7AVX512, fusedQ80x8AVX512, fusedQ80x9AVX512,
	fusedQ80x10AVX512, fusedQ80x11AVX512, fusedQ80x12AVX512, fusedQ80x13AVX512,
	fusedQ80x14AVX512, fusedQ80x15AVX512, fusedQ80x16AVX512,
}

var tilesQ80AVX512 = [TileTokens + 1]func(*mulArgs){
	1: tileQ80x1AVX512, tileQ80x2AVX512, tileQ80x3AVX512, tileQ80x4AVX512,
	tileQ80x5AVX512, tileQ80x6AVX512, tileQ80x7AVX512, tileQ80x8AVX512,
	tileQ80x9AVX512, tileQ80x10AVX512, tileQ80x11AVX512, tileQ80x12AVX512,
	tileQ80x13AVX512, tileQ80x14AVX512, tileQ80x15AVX512, tileQ80x16AVX512,
}

var fusedQ41AVX512 = [TileTokens + 1]func(*mulArgs){
	1: streamQ41AVX512,
	fusedQ41x2AVX512, fusedQ41x3AVX512, fusedQ41x4AVX512, fusedQ41x5AVX512,
	fusedQ41x6AVX512, fusedQ41x7AVX512, fusedQ41x8AVX512, fusedQ41x9AVX512,
	fusedQ41x10AVX512, fusedQ41x11AVX512, fusedQ41x12AVX512, fusedQ41x13AVX512,
	fusedQ41x14AVX512, fusedQ41x15AVX512, fusedQ41x16AVX512,
}

var tilesQ41AVX512 = [TileTokens + 1]func(*mulArgs){
	1: tileQ41x1AVX512, tileQ41x2AVX512, tileQ41x3AVX512, tileQ41x4AVX512,
	tileQ41x5AVX512, tileQ41x6AVX512, tileQ41x7AVX512, tileQ41x8AVX512,
	tileQ41x9AVX512, tileQ41x10AVX512, tileQ41x11AVX512, tileQ41x12AVX512,
	tileQ41x13AVX512, tileQ41x14AVX512, tileQ41x15AVX512, tileQ41x16AVX512,
}

func (avx512) mulQ(f Format, w []byte, k, lo, hi int, a *Acts, out []float32, stride int, sc *Scratch) {
	quantAVX512[f].mul(f, w, k, lo, hi, a, out, stride, sc)
}

var floatAVX512 = floatKernels{
	f32: dotKernels{tokens: 6, by: [7]dotShape{
		1: {8, dotF32r8t1AVX512, dotF32r1t1AVX512},
		2: {4, dotF32r4t2AVX512, dotF32r1t2AVX512},
		3: {4, dotF32r4t3AVX512, dotF32r1t3AVX512},
		4: {4, dotF32r4t4AVX512, dotF32r1t4AVX512},
		5: {4, dotF32r4t5AVX512, dotF32r1t5AVX512},
		6: {4, dotF32r4t6AVX512, dotF32r1t6AVX512},
	}},
	f16: dotKernels{tokens: 6, by: [7]dotShape{
		1: {8, dotF16r8t1AVX512, dotF16r1t1AVX512},
		2: {4, dotF16r4t2AVX512, dotF16r1t2AVX512},
		3: {4, dotF16r4t3AVX512, dotF16r1t3AVX512},
		4: {4, dotF16r4t4AVX512, dotF16r1t4AVX512},
		5: {4, dotF16r4t5AVX512, dotF16r1t5AVX512},
		6: {4, dotF16r4t6AVX512, dotF16r1t6AVX512},
	}},
	bf16: dotKernels{tokens: 1, by: [7]dotShape{1: {8, dotBF16r8t1AVX512, dotBF16r1t1AVX512}}},
}

func (avx512) mulF(f Format, w []byte, k, lo, hi int, x []float32, tokens int, out []float32, stride int, sc *Scratch) {
	floatAVX512.mul(f, w, k, lo, hi, x, tokens, out, stride, sc)
}

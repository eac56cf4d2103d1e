package kernel

// The K-quants, in blocks of 256 elements: eight of 32, or sixteen of 16, with
// scales of their own that are multiples of a common one.
//
// Source: https://github.com/ggml-org/llama.cpp/pull/1684; block_q*_K of
// ggml-common.h and dequantize_row_q*_K of ggml-quants.c.

// scalesK is for Q4_K and Q5_K: d, dmin and 12 bytes with eight scales and mins
// of 6 bits, d*scale and -dmin*min.
func scalesK(w []byte, to *[maxBlocks]block) {
	d, dmin := readF16(w), readF16(w[2:])
	w = w[4:16]
	for b := range 4 {
		to[b].d, to[b].m = d*float32(w[b]&63), -(dmin * float32(w[b+4]&63))
		scale, minimum := w[b+8]&15|w[b]>>6<<4, w[b+8]>>4|w[b+4]>>6<<4
		to[b+4].d, to[b+4].m = d*float32(scale), -(dmin * float32(minimum))
	}
}

// numbersQ4K: for each two blocks 32 bytes, with the first's elements in the low
// nibbles.
func numbersQ4K(w []byte, to *[maxBlocks]block) {
	for b := range to {
		qs := w[16+b/2*32:][:32]
		for j := range 8 {
			to[b].q[j] = u32(qs[4*j:]) >> (4 * (b % 2)) & lowNibbles
		}
	}
}

// numbersQ5K is Q4_K with 32 bytes before the nibbles, whose bits b are the fifth
// bits of block b.
func numbersQ5K(w []byte, to *[maxBlocks]block) {
	for b := range to {
		qh, qs := w[16:48], w[48+b/2*32:][:32]
		for j := range 8 {
			to[b].q[j] = u32(qs[4*j:])>>(4*(b%2))&lowNibbles | u32(qh[4*j:])>>b&lowBits<<4
		}
	}
}

// less subtracts n, up to 128, from each byte of q, of which none has more than
// 127.
func less(q uint32, n byte) uint32 { return (q | 0x80808080 - lowBits*uint32(n)) ^ 0x80808080 }

// scalesQ6K: 16 int8 scales and d, after the elements.
func scalesQ6K(w []byte, to *[maxBlocks]block) {
	d := readF16(w[208:])
	for b := range to {
		to[b].d, to[b].m = d*float32(int8(w[192+2*b])), d*float32(int8(w[193+2*b]))
	}
}

// numbersQ6K: 128 bytes with the elements' low nibbles and 64 with two further
// bits, q-32. The first half of each is for the first four blocks.
func numbersQ6K(w []byte, to *[maxBlocks]block) {
	for b := range to {
		n, i := b/4, b%4
		low, high := w[64*n+32*(i%2):][:32], w[128+32*n:][:32]
		for j := range 8 {
			to[b].q[j] = less(u32(low[4*j:])>>(4*(i/2))&lowNibbles|u32(high[4*j:])>>(2*i)&lowPairs<<4, 32)
		}
	}
}

// scalesQ3K: 16 scales of 6 bits in 12 bytes and d, after the elements,
// d*(scale-32).
func scalesQ3K(w []byte, to *[maxBlocks]block) {
	d := readF16(w[108:])
	scale := func(i int) float32 {
		return d * float32(int(w[96+i%8]>>(i/8*4)&15|w[104+i%4]>>(i/4*2)&3<<4)-32)
	}
	for b := range to {
		to[b].d, to[b].m = scale(2*b), scale(2*b+1)
	}
}

// numbersQ3K: 32 bytes whose bits b are the third bits of block b and 64 with two
// bits for each of four blocks, q-4.
func numbersQ3K(w []byte, to *[maxBlocks]block) {
	for b := range to {
		qs, third := w[32+b/4*32:][:32], w[:32]
		for j := range 8 {
			to[b].q[j] = less(u32(qs[4*j:])>>(b%4*2)&lowPairs|u32(third[4*j:])>>b&lowBits<<2, 4)
		}
	}
}

// Q2_K has 16 bytes with a scale in the low and a min in the high nibble, 64 with
// two bits for each of four blocks, d and dmin: d*scale*q - dmin*min. The
// sixteens of a block have scales and mins of their own, so it is taken as two
// blocks of whole numbers, scale*q with d, and min with -dmin.

func scalesQ2K(plane int, w []byte, to *[maxBlocks]block) {
	d := readF16(w[80:])
	if plane > 0 {
		d = -readF16(w[82:])
	}
	for b := range to {
		to[b].d = d
	}
}

func numbersQ2K(plane int, w []byte, to *[maxBlocks]block) {
	for b := range to {
		qs := w[16+b/4*32:][:32]
		for j := range 8 {
			s := uint32(w[2*b+j/4])
			if plane > 0 {
				to[b].q[j] = lowBits * (s >> 4)
			} else {
				to[b].q[j] = u32(qs[4*j:]) >> (b % 4 * 2) & lowPairs * (s & 15) // 3*15 fits a byte
			}
		}
	}
}

func widenQ2K(w []byte, dst []float32) {
	d, dmin := readF16(w[80:]), readF16(w[82:])
	for i := range dst[:256] {
		q := w[16+i/128*32+i%32] >> (i / 32 % 4 * 2) & 3
		s := w[i/16]
		dst[i] = float32(float32(d*float32(s&15))*float32(q)) - float32(dmin*float32(s>>4))
	}
}

package kernel

import (
	"encoding/binary"
	"math"
)

// f16to32 widens a float16. Signalling NaNs become quiet, as in hardware.
func f16to32(h uint16) float32 {
	sign, exp, man := uint32(h>>15)<<31, uint32(h>>10)&31, uint32(h)&1023
	switch exp {
	case 0: // zero or subnormal: man * 2^-24 is exact
		return math.Float32frombits(sign | math.Float32bits(float32(man)*(1.0/(1<<24))))
	case 31:
		if man != 0 {
			man |= 512
		}
		return math.Float32frombits(sign | 255<<23 | man<<13)
	}
	return math.Float32frombits(sign | (exp+127-15)<<23 | man<<13)
}

// f32to16 narrows to float16, to nearest with ties to even; what is too large
// becomes infinite, NaNs keep the top of their payload and become quiet.
func f32to16(f float32) uint16 {
	u := math.Float32bits(f)
	sign, a := uint16(u>>16)&0x8000, u&0x7fffffff
	switch {
	case a > 0x7f800000:
		return sign | 0x7e00 | uint16(a>>13)&0x3ff
	case a >= 0x47800000: // 65536 and up, Inf
		return sign | 0x7c00
	case a < 0x38800000: // below 2^-14: a float add aligns and rounds the subnormal
		return sign | uint16(math.Float32bits(math.Float32frombits(a)+0.5)-math.Float32bits(0.5))
	}
	// Rounding may carry into the exponent, up to infinity: both are right.
	return sign | uint16((a-(127-15)<<23+0xfff+a>>13&1)>>13)
}

// NoInfinity makes NaN of an infinite float16 and leaves other numbers as they are.
func NoInfinity(h uint16) uint16 {
	// One more in the exponent carries where all of its bits are set: in NaNs, too,
	// which that makes quiet.
	return h | (h&0x7c00+0x0400)>>6&0x0200
}

// readF16 reads the little-endian float16 at the start of b.
func readF16(b []byte) float32 { return f16to32(binary.LittleEndian.Uint16(b)) }

// readF32 reads the little-endian float32 at the start of b.
func readF32(b []byte) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(b)) }

package kernel

import "math"

// fma32 is x*y + z rounded once, as the FMA instructions do it.
//
// float32(math.FMA(...)) would round twice. The product of two float32 is exact
// in float64, so only the sum can be inexact, and rounding it to odd keeps what
// the second rounding has to know: on which side of a midpoint the true value
// lies.
func fma32(x, y, z float32) float32 {
	p, c := float64(float64(x)*float64(y)), float64(z)
	s := p + c
	u := math.Float64bits(s)
	// A second rounding errs only from a float32 midpoint. For results in the
	// normal range those have exactly this pattern in the 29 bits that go.
	const dropped, midpoint, minNormal = 1<<29 - 1, 1 << 28, (1023 - 126) << 52
	if u&dropped != midpoint && u&^(1<<63) >= minNormal {
		return float32(s)
	}
	cc := s - p
	err := (p - (s - cc)) + (c - cc) // exact: s + err is the true sum; NaN where s isn't finite
	if (err > 0 || err < 0) && u&1 == 0 {
		if (err > 0) == (s > 0) {
			u++
		} else {
			u--
		}
		s = math.Float64frombits(u)
	}
	return float32(s)
}

package kernel

import "math"

// The tanh form of GELU is x/(1+exp(-2u)) with u = sqrt(2/pi) * (x + 0.044715x^3).
const (
	geluLinear = 1.59576912160573071 // 2 * sqrt(2/pi)
	geluCubic  = 0.044715
)

// GELUGate sets gate[i] = gelu(gate[i]) * up[i], where gelu is the tanh
// approximation 0.5x * (1 + tanh(sqrt(2/pi) * (x + 0.044715x^3))).
//
// Source: Hendrycks and Gimpel 2016, https://arxiv.org/abs/1606.08415.
func (s *Set) GELUGate(gate, up []float32) {
	mustMatch("GELUGate", len(gate), len(up))
	s.impl.geluGate(gate, up)
}

func (generic) geluGate(gate, up []float32) {
	for i, x := range gate {
		gate[i] = geluF32(x) * up[i]
	}
}

// GELU sets x[i] = gelu(x[i]), the tanh approximation of [Set.GELUGate].
func (s *Set) GELU(x []float32) {
	for i, v := range x {
		x[i] = geluF32(v)
	}
}

// GELUErf sets x[i] = 0.5 * x[i] * (1 + erf(x[i] / sqrt(2))), GELU as it is
// defined.
func (s *Set) GELUErf(x []float32) {
	for i, v := range x {
		x[i] = float32(0.5 * float64(v) * math.Erfc(-float64(v)/math.Sqrt2))
	}
}

// geluF32 fuses no step, so that every set gives the same bits; _asm/gate.go
// repeats it.
func geluF32(x float32) float32 {
	u := float32(geluLinear*x) * (1 + float32(geluCubic*float32(x*x)))
	return x / (1 + expF32(-u))
}

// tanhSeries is where tanhF32 changes from the series to the exponential: each
// is within a few units in the last place on its side.
const tanhSeries = 0.25

// tanhF32 is the hyperbolic tangent, fused nowhere.
func tanhF32(x float32) float32 {
	if x > -tanhSeries && x < tanhSeries {
		// Taylor's series to x^9; the next term is under 2^-27 of x here.
		s := float32(x * x)
		p := float32(s*(62.0/2835)) - 17.0/315
		p = float32(p*s) + 2.0/15
		p = float32(p*s) - 1.0/3
		return x + float32(float32(x*s)*p)
	}
	return 1 - 2/(1+expF32(float32(2*x)))
}

// SoftCap sets x[i] = limit * tanh(x[i] / limit), which keeps what is finite within
// [-limit, limit]; a large element reaches the limit by rounding. What isn't finite
// becomes NaN, as a limit in its place would hide it. limit is finite and above zero.
//
// Source: Bello et al. 2016, https://arxiv.org/abs/1611.09940, as Gemma 2 has it
// (https://arxiv.org/abs/2408.00118).
func (s *Set) SoftCap(x []float32, limit float32) {
	for i, v := range x {
		if v-v != 0 {
			x[i] = float32(math.NaN())
			continue
		}
		x[i] = limit * tanhF32(v/limit)
	}
}

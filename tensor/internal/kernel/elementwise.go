package kernel

import (
	"fmt"
	"math"
)

// RMSNorm sets out[i] = x[i] / sqrt(mean(x^2)+eps) * weight[i], to NaN where the sum of
// squares is infinite. out may be x.
func (s *Set) RMSNorm(out, x, weight []float32, eps float32) {
	mustMatch("RMSNorm", len(out), len(x))
	mustMatch("RMSNorm", len(weight), len(x))
	if len(x) == 0 {
		return
	}
	mean := s.impl.sumSquares(x) / float32(len(x))
	s.impl.scaleBy(out, x, weight, normFactor(mean, eps))
}

// normFactor is 1/sqrt(mean+eps), but NaN of an infinite mean: 0 would make numbers like
// any others of what has overflowed.
func normFactor(mean, eps float32) float32 {
	if math.IsInf(float64(mean), 1) {
		return float32(math.NaN())
	}
	return float32(1 / math.Sqrt(float64(mean+eps)))
}

// argmaxPart is how many elements Argmax looks through for the largest one that it
// knows to be there.
const argmaxPart = 1 << 10

// Argmax is the index of the largest element, the lowest among equals; ok is false
// where x is empty or has a NaN or an infinity.
func (s *Set) Argmax(x []float32) (best int, ok bool) {
	var top float32
	for at := 0; at < len(x); at += argmaxPart {
		v, finite := s.impl.top(x[at:min(len(x), at+argmaxPart)])
		if !finite {
			return 0, false
		}
		if at == 0 || v > top {
			best, top = at, v
		}
	}
	for ; best < len(x); best++ {
		if x[best] == top {
			return best, true
		}
	}
	return 0, false
}

// SiLUGate sets gate[i] = silu(gate[i]) * up[i], where silu(x) = x/(1+exp(-x)).
func (s *Set) SiLUGate(gate, up []float32) {
	mustMatch("SiLUGate", len(gate), len(up))
	s.impl.siluGate(gate, up)
}

// Add adds src to dst.
func (s *Set) Add(dst, src []float32) {
	mustMatch("Add", len(dst), len(src))
	s.impl.add(dst, src)
}

// Scale multiplies x by factor.
func (s *Set) Scale(x []float32, factor float32) { rescale(x, factor) }

// RopePairs rotates the pairs (x[2i], x[2i+1]) by the angles whose cosines and
// sines are given. Elements beyond 2*len(cos) stay.
func (s *Set) RopePairs(x, cos, sin []float32) {
	checkRope(x, cos, sin)
	s.impl.ropePairs(x, cos, sin)
}

// RopeHalves is [Set.RopePairs] for the NeoX layout: the pairs are
// (x[i], x[i+len(cos)]).
func (s *Set) RopeHalves(x, cos, sin []float32) {
	checkRope(x, cos, sin)
	s.impl.ropeHalves(x[:len(cos)], x[len(cos):2*len(cos)], cos, sin)
}

func checkRope(x, cos, sin []float32) {
	if len(cos) != len(sin) || len(x) < 2*len(cos) {
		panic(fmt.Sprintf("kernel: rotation of %d elements by %d cosines and %d sines", len(x), len(cos), len(sin)))
	}
}

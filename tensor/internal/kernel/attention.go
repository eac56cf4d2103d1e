package kernel

import "fmt"

// ScoresF16 sets out[j] = scale * (q . key j) for n keys of len(q) float16
// each, one after the other.
func (s *Set) ScoresF16(q []float32, keys []uint16, n int, scale float32, out []float32) {
	out = checkScores(len(q), len(keys), n, out)
	if n > 0 {
		s.impl.scoresF16(q, keys[:n*len(q)], out)
		scaleAll(out, scale)
	}
}

// ScoresF32 is [Set.ScoresF16] for float32 keys.
func (s *Set) ScoresF32(q, keys []float32, n int, scale float32, out []float32) {
	out = checkScores(len(q), len(keys), n, out)
	if n > 0 {
		s.impl.scoresF32(q, keys[:n*len(q)], out)
		scaleAll(out, scale)
	}
}

func checkScores(d, keys, n int, out []float32) []float32 {
	if n < 0 || d == 0 || keys/d < n || len(out) < n {
		panic(fmt.Sprintf("kernel: scores of %d keys of %d from %d values into %d", n, d, keys, len(out)))
	}
	return out[:n]
}

func scaleAll(x []float32, by float32) {
	for i := range x {
		x[i] *= by
	}
}

// AccumulateF16 adds p[j] times value j to acc, in ascending j, for len(p)
// values of len(acc) float16 each, one after the other.
func (s *Set) AccumulateF16(p []float32, values []uint16, acc []float32) {
	if n := checkValues(len(p), len(values), len(acc)); n > 0 {
		s.impl.accumulateF16(p, values[:n], acc)
	}
}

// AccumulateF32 is [Set.AccumulateF16] for float32 values.
func (s *Set) AccumulateF32(p, values, acc []float32) {
	if n := checkValues(len(p), len(values), len(acc)); n > 0 {
		s.impl.accumulateF32(p, values[:n], acc)
	}
}

func checkValues(p, values, d int) int {
	if d == 0 || values/d < p {
		panic(fmt.Sprintf("kernel: weighted sum of %d values of %d from %d numbers", p, d, values))
	}
	return p * d
}

// ToF16 narrows src to float16, to nearest with ties to even.
func (s *Set) ToF16(dst []uint16, src []float32) {
	mustMatch("ToF16", len(dst), len(src))
	s.impl.toF16(dst, src)
}

// FromF16 widens src, which is exact.
func (s *Set) FromF16(dst []float32, src []uint16) {
	mustMatch("FromF16", len(dst), len(src))
	s.impl.fromF16(dst, src)
}

// Max returns the largest element, -Inf where there is none. NaNs are passed
// over: they show in what is computed from the elements.
func (s *Set) Max(x []float32) float32 { return s.impl.maximum(x) }

// ExpSum replaces each element by exp(x[i]-shift) and returns their sum.
func (s *Set) ExpSum(x []float32, shift float32) float32 { return s.impl.expSum(x, shift) }

func mustMatch(op string, a, b int) {
	if a != b {
		panic(fmt.Sprintf("kernel: %s of %d and %d elements", op, a, b))
	}
}

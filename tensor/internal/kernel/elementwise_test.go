package kernel

import (
	"fmt"
	"math"
	"testing"

	"github.com/dunlin-go/dunlin/internal/guard"
)

// TestArgmax compares with a plain loop, for every length and every place of the
// largest elements, and finds each kind of value that isn't finite wherever it is.
func TestArgmax(t *testing.T) {
	lengths := []int{1, 7, 15, 16, 17, 100, 1023, 1024, 1025, 5000}
	eachSet(t, func(t *testing.T, s *Set) {
		r := newRand(t)
		region := guard.New(t, 4*5000)
		if _, ok := s.Argmax(nil); ok {
			t.Error("nothing has a largest element")
		}
		for _, n := range lengths {
			for range 200 {
				x := place(region, normals(r, n), r.IntN(2) == 0)
				if r.IntN(3) == 0 {
					for i := range x {
						x[i] = float32(r.IntN(3) - 5) // many equals, none above zero
					}
				}
				want := 0
				for i, v := range x {
					if v > x[want] {
						want = i
					}
				}
				if got, ok := s.Argmax(x); !ok || got != want {
					t.Fatalf("Argmax of %d = %d, %v, want %d", n, got, ok, want)
				}
				x[r.IntN(n)] = edges[len(edges)-1-r.IntN(3)]
				if _, ok := s.Argmax(x); ok {
					t.Fatalf("Argmax of %d doesn't see what isn't finite", n)
				}
			}
		}
	})
}

// edges are values that elementwise operations could stumble over.
var edges = []float32{
	0, float32(math.Copysign(0, -1)), 1, -1, 88.7, 88.8, 89, 90, -87, -87.4, -88, -103, -103.9, -104, -105,
	1e30, -1e30, math.MaxFloat32, -math.MaxFloat32, 1e-40, -1e-40,
	float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()),
}

// TestElementwiseBits compares what gives the same bits in every set, for every
// length, on guarded memory.
func TestElementwiseBits(t *testing.T) {
	lengths := []int{8192 + 37, 16384}
	for n := range 258 {
		lengths = append(lengths, n)
	}
	if testing.Short() {
		lengths = []int{0, 1, 7, 8, 15, 16, 17, 31, 33, 47, 63, 64, 65, 127, 8192 + 63}
	}
	eachSet(t, func(t *testing.T, s *Set) {
		r := newRand(t)
		xr, yr := guard.New(t, 4*16384), guard.New(t, 4*16384)
		for _, n := range lengths {
			x, y := normals(r, n), normals(r, n)
			for i := range x {
				x[i] *= 30
				for _, v := range []*float32{&x[i], &y[i]} {
					if r.IntN(20) == 0 {
						*v = edges[r.IntN(len(edges))]
					}
				}
			}
			shift := float32(r.NormFloat64())
			for _, op := range []struct {
				name string
				run  func(s *Set, x, y []float32) float32
			}{
				{"SiLUGate", func(s *Set, x, y []float32) float32 { s.SiLUGate(x, y); return 0 }},
				{"GELUGate", func(s *Set, x, y []float32) float32 { s.GELUGate(x, y); return 0 }},
				{"GELU", func(s *Set, x, _ []float32) float32 { s.GELU(x); return 0 }},
				{"SoftCap", func(s *Set, x, _ []float32) float32 { s.SoftCap(x, 30); return 0 }},
				{"LayerNorm", func(s *Set, x, y []float32) float32 { s.LayerNorm(x, x, y, y, 1e-5); return 0 }},
				{"Add", func(s *Set, x, y []float32) float32 { s.Add(x, y); return 0 }},
				{"scale", func(s *Set, x, y []float32) float32 { s.impl.scaleBy(x, x, y, shift); return 0 }},
			} {
				want := append([]float32(nil), x...)
				wantResult := op.run(genericSet, want, y)
				start := r.IntN(2) == 0
				got := place(xr, x, start)
				gotResult := op.run(s, got, place(yr, y, start))
				what := fmt.Sprintf("%s of %d", op.name, n)
				mustSame(t, what, got, want)
				mustSame(t, what+": result", []float32{gotResult}, []float32{wantResult})
			}
		}
	})
}

// TestExp measures the exponential function against float64, in units in the
// last place of the result.
func TestExp(t *testing.T) {
	step := float32(0x1p-9)
	if testing.Short() {
		step = 0x1p-5
	}
	worst := 0.0
	for x := float32(-87.3); x < 88.72; x += step {
		exact := math.Exp(float64(x))
		ulp := math.Ldexp(1, math.Ilogb(exact)-23)
		worst = max(worst, math.Abs(float64(expF32(x))-exact)/ulp)
	}
	if worst > 2.5 {
		t.Errorf("exp errs by %.2f units in the last place, 2.5 are promised", worst)
	}
	for _, c := range []struct{ x, want float32 }{
		{0, 1},
		{float32(math.Copysign(0, -1)), 1},
		{88.73, float32(math.Inf(1))},
		{float32(math.Inf(1)), float32(math.Inf(1))},
		{-104, 0},
		{float32(math.Inf(-1)), 0},
		{float32(math.NaN()), float32(math.NaN())},
		{-100, float32(math.Exp(-100))},
	} {
		if got := expF32(c.x); !same(got, c.want) {
			t.Errorf("exp(%g) = %g, want %g", c.x, got, c.want)
		}
	}
}

func TestSiLUGate(t *testing.T) {
	eachSet(t, func(t *testing.T, s *Set) {
		r := newRand(t)
		x, up := normals(r, 100), normals(r, 100)
		gate := append([]float32(nil), x...)
		s.SiLUGate(gate, up)
		for i, v := range x {
			want := float64(v) / (1 + math.Exp(-float64(v))) * float64(up[i])
			// exp within 5 eps (2.5 units), then three roundings.
			if math.Abs(float64(gate[i])-want) > 9*eps*math.Abs(want) {
				t.Fatalf("silu(%g)*%g = %g, want %g", v, up[i], gate[i], want)
			}
		}
	})
}

// TestGELU measures both forms, and the hyperbolic tangent, against float64.
func TestGELU(t *testing.T) {
	s := genericSet
	for x := float32(-12); x < 12; x += 0x1p-7 {
		v := float64(x)
		u := math.Sqrt(2/math.Pi) * (v + 0.044715*v*v*v)
		tanh, erf, gate := []float32{x}, []float32{x}, []float32{x}
		s.GELU(tanh)
		s.GELUErf(erf)
		s.GELUGate(gate, []float32{1.5})
		want := v / (1 + math.Exp(-2*u))
		// An error of the exponent is one of the exponential, whose end is the last
		// finite number: 12 divided by that counts as zero.
		bound := (9+6*math.Abs(2*u))*eps*math.Abs(want) + 12/math.MaxFloat32
		if math.Abs(float64(tanh[0])-want) > bound {
			t.Fatalf("gelu(%g) = %g, want %g", x, tanh[0], want)
		}
		if gate[0] != tanh[0]*1.5 {
			t.Fatalf("the gate of %g is %g, want %g", x, gate[0], tanh[0]*1.5)
		}
		if want := 0.5 * v * math.Erfc(-v/math.Sqrt2); math.Abs(float64(erf[0])-want) > eps*math.Abs(want)+0x1p-126 {
			t.Fatalf("gelu(%g) = %g, want %g", x, erf[0], want)
		}
		bound = 4 * eps * math.Abs(math.Tanh(v))
		if math.Abs(v) >= tanhSeries {
			bound = 8 * eps // 1 less a quotient with the exponential's error
		}
		if got, want := float64(tanhF32(x)), math.Tanh(v); math.Abs(got-want) > bound {
			t.Fatalf("tanh(%g) = %g, want %g", x, got, want)
		}
	}
	for _, x := range edges {
		if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
			continue
		}
		got := []float32{x}
		s.GELU(got)
		want := float64(max(x, 0)) // beyond all doubt for large ones
		if math.Abs(float64(x)) > 20 && float64(got[0]) != want {
			t.Errorf("gelu(%g) = %g", x, got[0])
		}
		got[0] = x
		if s.SoftCap(got, 30); !(math.Abs(float64(got[0])) <= 30) || got[0]*x < 0 {
			t.Errorf("%g is capped to %g", x, got[0])
		}
	}
}

// TestUnusualStays gives each operation one element that isn't finite, each of them at
// each place: its result isn't finite either, or nobody would see that something went
// wrong. (Of minus infinity GELU and SiLU could say 0.)
func TestUnusualStays(t *testing.T) {
	ones := filled(100, 1)
	eachSet(t, func(t *testing.T, s *Set) {
		for name, run := range map[string]func(x []float32){
			"SiLUGate": func(x []float32) { s.SiLUGate(x, ones) },
			"GELUGate": func(x []float32) { s.GELUGate(x, ones) },
			"GELU":     func(x []float32) { s.GELU(x) },
			"GELUErf":  func(x []float32) { s.GELUErf(x) },
			"SoftCap":  func(x []float32) { s.SoftCap(x, 30) },
			"Scale":    func(x []float32) { s.Scale(x, 0) },
			"Add":      func(x []float32) { s.Add(x, ones) },
			"RMSNorm":  func(x []float32) { s.RMSNorm(x, x, ones, 1e-5) },
			"LayerNorm": func(x []float32) {
				s.LayerNorm(x, x, ones, ones, 1e-5)
			},
		} {
			for _, v := range edges[len(edges)-3:] {
				for i := range ones {
					x := filled(len(ones), 0.5)
					x[i] = v
					if run(x); x[i]-x[i] == 0 {
						t.Fatalf("%s makes %g of %g at place %d", name, x[i], v, i)
					}
				}
			}
		}
	})
}

// TestNormOverflows: where the sum of squares is infinite though no element is, the
// result isn't the zeros that its root's inverse would make.
func TestNormOverflows(t *testing.T) {
	eachSet(t, func(t *testing.T, s *Set) {
		for _, n := range []int{2, 64, 100} {
			ones, x, y := filled(n, 1), filled(n, 1), filled(n, 1)
			x[1], y[1] = 1e30, 1e30
			s.RMSNorm(x, x, ones, 1e-5)
			s.LayerNorm(y, y, ones, ones, 1e-5)
			for i := range n {
				if x[i]-x[i] == 0 || y[i]-y[i] == 0 {
					t.Fatalf("element %d of %d is %g, with the mean taken away %g", i, n, x[i], y[i])
				}
			}
		}
	})
}

func TestLayerNorm(t *testing.T) {
	r := newRand(t)
	for _, n := range []int{1, 3, 64, 577} {
		for _, shift := range []float32{0, 1000} {
			x, w, bias := normals(r, n), normals(r, n), normals(r, n)
			for i := range x {
				x[i] += shift
			}
			var mean, variance, size float64
			for _, v := range x {
				mean += float64(v) / float64(n)
				size += math.Abs(float64(v)) / float64(n)
			}
			for _, v := range x {
				variance += (float64(v) - mean) * (float64(v) - mean) / float64(n)
			}
			scale := 1 / math.Sqrt(variance+1e-5)
			out := make([]float32, n)
			genericSet.LayerNorm(out, x, w, bias, 1e-5)
			for i, v := range x {
				want := (float64(v) - mean) * scale * float64(w[i])
				// The mean is a sum of n; its error is one of each difference.
				bound := eps * (math.Abs(float64(w[i]))*scale*float64(n)/2*size + (float64(n)/2+6)*math.Abs(want) + math.Abs(float64(bias[i])))
				if math.Abs(float64(out[i])-want-float64(bias[i])) > bound {
					t.Fatalf("n=%d shift=%g: element %d is %g, want %g within %g", n, shift, i, out[i], want+float64(bias[i]), bound)
				}
			}
			plain := make([]float32, n)
			genericSet.LayerNorm(plain, x, w, nil, 1e-5)
			genericSet.Add(plain, bias)
			mustSame(t, "without a bias", plain, out)
		}
	}
}

func TestRMSNorm(t *testing.T) {
	eachSet(t, func(t *testing.T, s *Set) {
		r := newRand(t)
		for _, n := range []int{1, 15, 16, 64, 576, 8192 + 50} {
			x, w := place(guard.New(t, 4*n), normals(r, n), false), place(guard.New(t, 4*n), normals(r, n), false)
			out := make([]float32, n)
			s.RMSNorm(out, x, w, 1e-5)
			var sum float64
			for _, v := range x {
				sum += float64(v) * float64(v)
			}
			scale := 1 / math.Sqrt(sum/float64(n)+1e-5)
			for i, v := range x {
				want := float64(v) * scale * float64(w[i])
				// The root halves the sum's error; then four roundings.
				if math.Abs(float64(out[i])-want) > (float64(n)/2+5)*eps*math.Abs(want) {
					t.Fatalf("n=%d: element %d is %g, want %g", n, i, out[i], want)
				}
			}
			s.RMSNorm(x, x, w, 1e-5)
			mustSame(t, "in place", x, out)
		}
	})
}

// TestRope checks both layouts against the rotation matrix, and that they are
// each other's permutation.
func TestRope(t *testing.T) {
	r := newRand(t)
	const half = 5
	x := normals(r, 2*half+2)
	cos, sin := make([]float32, half), make([]float32, half)
	for i := range cos {
		s, c := math.Sincos(r.Float64() * 7)
		cos[i], sin[i] = float32(c), float32(s)
	}
	pairs, halves := append([]float32(nil), x...), append([]float32(nil), x...)
	for i := range half {
		halves[i], halves[i+half] = x[2*i], x[2*i+1]
	}
	genericSet.RopePairs(pairs, cos, sin)
	genericSet.RopeHalves(halves, cos, sin)
	for i := range half {
		mustBeClose(t, "first", pairs[2*i], []float32{x[2*i], x[2*i+1]}, []float32{cos[i], -sin[i]})
		mustBeClose(t, "second", pairs[2*i+1], []float32{x[2*i], x[2*i+1]}, []float32{sin[i], cos[i]})
		mustSame(t, "halves", []float32{halves[i], halves[i+half]}, pairs[2*i:2*i+2])
	}
	mustSame(t, "beyond", pairs[2*half:], x[2*half:])
	mustSame(t, "beyond", halves[2*half:], x[2*half:])
}

// TestRopeBits compares both layouts of every set with portable Go, bit for bit, on
// memory that faults outside the operands.
func TestRopeBits(t *testing.T) {
	eachSet(t, func(t *testing.T, s *Set) {
		r := newRand(t)
		regions := [3]*guard.Region{guard.New(t, 4*600), guard.New(t, 4*300), guard.New(t, 4*300)}
		for n := range 130 {
			for name, rotate := range map[string]func(s *Set, x, cos, sin []float32){"pairs": (*Set).RopePairs, "halves": (*Set).RopeHalves} {
				x, cos, sin := normals(r, 2*n+r.IntN(5)), normals(r, n), normals(r, n)
				want := append([]float32(nil), x...)
				rotate(genericSet, want, cos, sin)
				start := n%2 == 0
				got := place(regions[0], x, start)
				rotate(s, got, place(regions[1], cos, start), place(regions[2], sin, start))
				mustSame(t, fmt.Sprintf("%d %s", n, name), got, want)
			}
		}
	})
}

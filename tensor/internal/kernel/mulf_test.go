package kernel

import (
	"fmt"
	"math"
	"testing"

	"github.com/dunlin-go/dunlin/internal/guard"
)

// mustBeClose fails where got isn't the sum of the terms x[i]*y[i] within what
// n roundings can do, whatever the order: n * eps * sum|x[i]*y[i]|.
func mustBeClose(t testing.TB, what string, got float32, x, y []float32) {
	t.Helper()
	var exact, size float64
	for i, v := range x {
		exact += float64(v) * float64(y[i])
		size += math.Abs(float64(v) * float64(y[i]))
	}
	bound := float64(len(x)+1) * eps * size
	if !(math.Abs(float64(got)-exact) <= bound) {
		t.Fatalf("%s: %g, want %g within %g", what, got, exact, bound)
	}
}

// TestMulF holds the float products to float64 arithmetic on guarded memory.
func TestMulF(t *testing.T) {
	ks, tokens := []int{32, 64, 96, 576, 1536}, []int{1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 18, 20, 33}
	if testing.Short() {
		ks, tokens = []int{32, 96}, []int{1, 2, 3, 4, 5, 6, 7, 13}
	}
	eachSet(t, func(t *testing.T, s *Set) {
		r := newRand(t)
		sc := guardedScratch(t, 1536, false)
		wr, xr, or := guard.New(t, 50*F32.RowBytes(1536)), guard.New(t, 4*33*1536), guard.New(t, 4*33*53)
		for f := range formats {
			for i, k := range ks {
				if k = fit(f, k); i > 0 && k == fit(f, ks[i-1]) {
					continue
				}
				for _, n := range tokens {
					rows := 1 + r.IntN(50)
					lo := r.IntN(rows)
					hi := lo + 1 + r.IntN(rows-lo)
					start := r.IntN(2) == 0
					w := wr.End(rows * f.RowBytes(k))
					if start {
						w = wr.Start(len(w))
					}
					weights(r, f, w, usual)
					wide := make([]float32, rows*k)
					genericSet.Dequantize(f, wide, w)
					x := place(xr, normals(r, n*k), start)
					stride := rows + r.IntN(4)
					const untouched = 12345
					out := place(or, filled((n-1)*stride+hi, untouched), start)
					s.MulF(f, w, k, lo, hi, x, n, out, stride, sc)
					for i, v := range out {
						tok, row := i/stride, i%stride
						what := fmt.Sprintf("%v k=%d rows=[%d, %d) of %d: token %d of %d row %d", f, k, lo, hi, rows, tok, n, row)
						if row >= lo && row < hi {
							mustBeClose(t, what, v, wide[row*k:(row+1)*k], x[tok*k:(tok+1)*k])
						} else if v != untouched {
							t.Fatalf("%s was written", what)
						}
					}
				}
			}
		}
	})
}

// TestMulFUnusual gives one token an element that isn't finite, in a row of weights
// none of which is zero: its products aren't finite, those of other tokens are.
func TestMulFUnusual(t *testing.T) {
	const rows, k = 21, 96
	eachSet(t, func(t *testing.T, s *Set) {
		r := newRand(t)
		sc := NewScratch(k)
		for _, f := range []Format{F32, F16, BF16, Q8_0} {
			w := make([]byte, rows*f.RowBytes(k))
			weights(r, f, w, usual)
			for i := range w {
				if w[i] == 0 {
					w[i] = 1
				}
			}
			for _, n := range []int{1, 2, 3, 4, 5, 6, 7, 13} {
				for _, v := range edges[len(edges)-3:] {
					x, out := normals(r, n*k), make([]float32, n*rows)
					at := r.IntN(len(x))
					x[at] = v
					s.MulF(f, w, k, 0, rows, x, n, out, rows, sc)
					for i, got := range out {
						if finite := got-got == 0; finite != (i/rows != at/k) {
							t.Fatalf("%v: token %d of %d is %g, token %d has %g", f, i/rows, n, got, at/k, v)
						}
					}
				}
			}
		}
	})
}

func TestDequantize(t *testing.T) {
	eachSet(t, func(t *testing.T, s *Set) {
		r := newRand(t)
		for f := range formats {
			for _, k := range []int{32, 64, 96, 8192 + 32} {
				k = fit(f, k)
				for _, kind := range []scaleKind{usual, anything} {
					w := guard.New(t, f.RowBytes(k)).End(f.RowBytes(k))
					weights(r, f, w, kind)
					want, got := make([]float32, k), view[float32](guard.New(t, 4*k).End(4*k))
					genericSet.Dequantize(f, want, w)
					s.Dequantize(f, got, w)
					mustSame(t, fmt.Sprintf("%v k=%d", f, k), got, want)
				}
			}
		}
		// By hand: d=2, m=-1, elements 3 and 18 the nibbles of byte 3.
		w := make([]byte, Q4_1.RowBytes(32))
		w[1], w[3], w[4+3], w[4+2] = 0x40, 0xbc, 0x05, 0xf0
		out := make([]float32, 32)
		s.Dequantize(Q4_1, out, w)
		if out[3] != 9 || out[18] != 29 || out[0] != -1 {
			t.Errorf("Q4_1 elements 3, 18 and 0 are %g, %g, %g, want 9, 29, -1", out[3], out[18], out[0])
		}
		w = make([]byte, Q8_0.RowBytes(32))
		w[1], w[2], w[2+31] = 0x40, 0x80, 0x7f
		s.Dequantize(Q8_0, out, w)
		if out[0] != -256 || out[31] != 254 {
			t.Errorf("Q8_0 elements 0 and 31 are %g and %g, want -256 and 254", out[0], out[31])
		}
	})
}

// TestVectorSetsAgree compares what the assembly sets compute in the same order,
// down to one FMA: all but the float products, whose lanes are as many as a vector
// has.
func TestVectorSetsAgree(t *testing.T) {
	sets := Sets()[1:]
	if len(sets) < 2 {
		t.Skipf("needs two vector sets, has %v without %v", sets, Missing())
	}
	const n, d = BlockKeys, 80
	r := newRand(t)
	x, qs := normals(r, 2*d), NewQueries(1, d)
	keys, values := make([]uint16, n*d), make([]uint16, n*d)
	sets[0].ToF16(keys, normals(r, n*d))
	sets[0].ToF16(values, normals(r, n*d))
	var want []float32
	for i, s := range sets {
		got := make([]float32, 2*d)
		s.Begin(qs, 0, x[:d], 1)
		s.AttendF16(qs, 0, 1, keys, values, 3, n)
		s.End(&qs.States, 0, got[:d])
		s.RMSNorm(got[d:], x[:d], x[d:], 1e-5)
		if i == 0 {
			want = got
		}
		mustSame(t, fmt.Sprintf("%v and %v", s, sets[0]), got, want)
	}
}

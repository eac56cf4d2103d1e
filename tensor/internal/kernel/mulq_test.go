package kernel

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/dunlin-go/dunlin/internal/guard"
)

// TestMulQ compares every set with portable Go, bit for bit, on memory that
// faults outside the operands, and checks that nothing else is written.
func TestMulQ(t *testing.T) {
	ks, tokens := []int{32, 64, 96, 576, 1536}, []int{64, 100, 129}
	if testing.Short() {
		ks, tokens = []int{32, 96}, nil
	}
	for n := 1; n <= 40; n++ { // each number has kernels of its own
		tokens = append(tokens, n)
	}
	eachSet(t, func(t *testing.T, s *Set) {
		r := newRand(t)
		generic := genericSet
		scratches := [2]*Scratch{guardedScratch(t, 1536, true), guardedScratch(t, 1536, false)}
		wr, or := guard.New(t, 50*Q8_0.RowBytes(1536)), guard.New(t, 4*129*53)
		for _, f := range quantised {
			for i, k := range ks {
				if k = fit(f, k); i > 0 && k == fit(f, ks[i-1]) {
					continue
				}
				for i, n := range tokens {
					rows := groupRows + r.IntN(35)
					if r.IntN(5) == 0 {
						rows = 1 + r.IntN(groupRows)
					}
					lo := r.IntN(rows)
					if i%3 == 0 {
						lo = 0
					}
					hi := lo + 1 + r.IntN(rows-lo)
					if i%4 == 0 {
						hi = rows
					}
					start := r.IntN(2) == 0
					w := wr.End(rows * f.RowBytes(k))
					if start {
						w = wr.Start(len(w))
					}
					weights(r, f, w, usual)
					a := NewActs(n, k)
					x := normals(r, n*k)
					if r.IntN(4) == 0 { // an element that isn't finite makes NaN of all products
						x[r.IntN(len(x))] = edges[len(edges)-1-r.IntN(3)]
					}
					generic.Quantize(a, x, 0, n)
					a = guarded(t, a, start)
					stride := rows + r.IntN(4)
					untouched := filled((n-1)*stride+hi, 12345)
					want := append([]float32(nil), untouched...)
					generic.MulQ(f, w, k, lo, hi, a, want, stride, scratches[0])
					got, sc := place(or, untouched, start), scratches[i%2]
					sc.Ahead = Ahead{Rest: r.IntN(2) * r.IntN(1<<16), Next: [][]byte{nil, w}[r.IntN(2)]}
					s.MulQ(f, w, k, lo, hi, a, got, stride, sc)
					mustSame(t, fmt.Sprintf("%v k=%d tokens=%d rows=[%d, %d) of %d", f, k, n, lo, hi, rows), got, want)
				}
			}
		}
	})
}

// TestMulQExtremes meets the ends of the ranges: the integer sums must not
// saturate, and non-finite scales must come through as in portable Go.
func TestMulQExtremes(t *testing.T) {
	const rows, n = 19, 6
	sc := NewScratch(256)
	values := []byte{0x00, 0xff, 0x80, 0x7f, 0xf0, 0x0f} // int8 0, -1, -128, 127; nibbles 0 and 15
	eachSet(t, func(t *testing.T, s *Set) {
		r := newRand(t)
		for _, f := range quantised {
			k := fit(f, 96)
			for _, v := range values {
				for _, kind := range []scaleKind{usual, anything} {
					w := make([]byte, rows*f.RowBytes(k))
					weights(r, f, w, kind)
					for i := range w {
						at := i % layouts[f].bytes
						scale := slices.ContainsFunc(scalesAt[f], func(s int) bool { return at == s || at == s+1 })
						if !scale && (f != MXFP4 || at > 0) {
							w[i] = v
						}
					}
					// All 127, all -127, alternating, and at random.
					x := make([]float32, n*k)
					for i := range x {
						switch i / k {
						case 0:
							x[i] = 1
						case 1:
							x[i] = -1
						case 2:
							x[i] = float32(1 - 2*(i%2))
						default:
							x[i] = float32(1 - 2*r.IntN(2))
						}
					}
					for _, tokens := range []int{1, n} {
						a := NewActs(tokens, k)
						s.Quantize(a, x, 0, tokens)
						got, want := make([]float32, tokens*rows), make([]float32, tokens*rows)
						genericSet.MulQ(f, w, k, 0, rows, a, want, rows, sc)
						s.MulQ(f, w, k, 0, rows, a, got, rows, sc)
						mustSame(t, fmt.Sprintf("%v of %#x, tokens=%d", f, v, tokens), got, want)
					}
				}
			}
		}
	})
}

// TestLong takes rows and matrices that don't fit one assembly call, and rows
// so long that portable Go has them.
func TestLong(t *testing.T) {
	eachSet(t, func(t *testing.T, s *Set) {
		r := newRand(t)
		for _, c := range []struct{ rows, k, tokens int }{{402, 96, 1}, {402, 1536, 1}, {402, 1536, 2}, {18, 1 << 15, 3}, {17, 1<<15 + 32, 1}} {
			if testing.Short() && c.rows*c.k*c.tokens > 1<<18 {
				continue
			}
			sc := NewScratch(c.k + 256)
			for _, f := range quantised {
				c := c
				c.k = fit(f, c.k)
				x := normals(r, c.tokens*c.k)
				a := NewActs(c.tokens, c.k)
				genericSet.Quantize(a, x, 0, c.tokens)
				w := make([]byte, c.rows*f.RowBytes(c.k))
				weights(r, f, w, usual)
				want, got := make([]float32, c.tokens*c.rows), make([]float32, c.tokens*c.rows)
				genericSet.MulQ(f, w, c.k, 0, c.rows, a, want, c.rows, sc)
				for _, next := range [][]byte{nil, w[:100]} {
					sc.Ahead.Next = next
					s.MulQ(f, w, c.k, 0, c.rows, a, got, c.rows, sc)
					mustSame(t, fmt.Sprintf("%v %+v", f, c), got, want)
				}
				s.MulF(f, w, c.k, 0, c.rows, x, c.tokens, got, c.rows, sc)
				wide := make([]float32, c.k)
				for row := range c.rows {
					genericSet.Dequantize(f, wide, w[row*f.RowBytes(c.k):][:f.RowBytes(c.k)])
					for tok := range c.tokens {
						mustBeClose(t, fmt.Sprintf("MulF %v %+v", f, c), got[tok*c.rows+row], wide, x[tok*c.k:(tok+1)*c.k])
					}
				}
			}
		}
	})
}

// largest is the largest number that a block of the kind has.
var largest = map[kind]float64{nibbles: 15, wide: 31, signed: 128, halves: 32}

// blockSizes bounds the terms d*q and m of each block of 32 of a row.
func blockSizes(f Format, row []byte) (sizes []float64) {
	l := &layouts[f]
	var blocks [maxBlocks]block
	for ; len(row) > 0; row = row[l.bytes:] {
		var size [maxBlocks]float64
		for plane := range max(1, l.planes) {
			f.unpack(plane, row[:l.bytes], &blocks)
			for b := range size {
				d, m := math.Abs(float64(blocks[b].d)), math.Abs(float64(blocks[b].m))
				switch l.kind {
				case signed:
					m = 0
				case halves:
					d, m = max(d, m), 0
				}
				size[b] += largest[l.kind]*d + m
			}
		}
		sizes = append(sizes, size[:l.blocks]...)
	}
	return sizes
}

// TestMulQReference holds the products to float64 arithmetic. A row's result
// has two roundings for each of up to two products of a block (of d*d, then of
// the sum), and each is relative to a partial sum that sum|terms| bounds.
func TestMulQReference(t *testing.T) {
	const rows, n = 20, 5
	eachSet(t, func(t *testing.T, s *Set) {
		r := newRand(t)
		sc := NewScratch(512)
		for _, f := range quantised {
			k := fit(f, 160)
			w, x := make([]byte, rows*f.RowBytes(k)), normals(r, n*k)
			weights(r, f, w, usual)
			a, wide, out := NewActs(n, k), make([]float32, rows*k), make([]float32, n*rows)
			s.Quantize(a, x, 0, n)
			s.Dequantize(f, wide, w)
			s.MulQ(f, w, k, 0, rows, a, out, rows, sc)
			for row := range rows {
				sizes := blockSizes(f, w[row*f.RowBytes(k):][:f.RowBytes(k)])
				for tok := range n {
					var exact, size float64
					for i := range k {
						first, tile := a.tile(tok)
						at := first + i/BlockLen*tile
						q := a.q[(at+tok%TileTokens)*BlockLen+i%BlockLen]
						da := float64(a.scales[2*at+tok%TileTokens])
						exact += float64(wide[row*k+i]) * float64(q) * da
						// d*q and m may cancel in the weight, not in the product's terms.
						size += sizes[i/BlockLen] * math.Abs(float64(q)) * da
					}
					// The widened weight is rounded once or twice too.
					bound := float64(4*k/BlockLen+3) * eps * size
					if got := out[tok*rows+row]; !(math.Abs(float64(got)-exact) <= bound) {
						t.Fatalf("%v token %d row %d: %g, want %g within %g", f, tok, row, got, exact, bound)
					}
				}
			}
		}
	})
}

// TestSameBits computes each product in other company: alone, in batches of any
// size, with rows split anywhere.
func TestSameBits(t *testing.T) {
	const rows, n = 37, 37
	cuts, steps := 1, []int{1, 2, 3, 5, 16, 17, 20}
	if testing.Short() {
		cuts, steps = 7, []int{1, 5, 16, 17}
	}
	eachSet(t, func(t *testing.T, s *Set) {
		r := newRand(t)
		for f := range formats {
			k := fit(f, 64)
			sc, x := NewScratch(k), normals(r, n*k)
			w := make([]byte, rows*f.RowBytes(k))
			weights(r, f, w, usual)
			for _, integer := range []bool{true, false} {
				if integer && !f.Quantised() {
					continue
				}
				mul := func(t0, t1 int, bounds ...int) []float32 {
					x, out := x[t0*k:t1*k], make([]float32, (t1-t0)*rows)
					a := NewActs(t1-t0, k)
					s.Quantize(a, x, 0, t1-t0)
					for i := range len(bounds) - 1 {
						if integer {
							s.MulQ(f, w, k, bounds[i], bounds[i+1], a, out, rows, sc)
						} else {
							s.MulF(f, w, k, bounds[i], bounds[i+1], x, t1-t0, out, rows, sc)
						}
					}
					return out
				}
				want := mul(0, n, 0, rows)
				for _, step := range steps {
					for t0 := 0; t0 < n; t0 += step {
						t1 := min(n, t0+step)
						what := fmt.Sprintf("%v integer=%v tokens [%d, %d) of %d", f, integer, t0, t1, n)
						mustSame(t, what, mul(t0, t1, 0, rows), want[t0*rows:t1*rows])
					}
				}
				for cut := 1; cut < rows; cut += cuts {
					what := fmt.Sprintf("%v integer=%v rows cut at %d", f, integer, cut)
					mustSame(t, what, mul(0, 1, 0, cut, rows), want[:rows])
					mustSame(t, what, mul(0, 18, 0, cut/2, cut, rows), want[:18*rows])
				}
			}
		}
	})
}

func TestQuantize(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	sub := math.Float32frombits(5)
	special := []float32{
		0, float32(math.Copysign(0, -1)), 1, -1, 127, 0.5, 1.5, 2.5, nan, inf, -inf, sub,
		math.MaxFloat32, -math.MaxFloat32, 0x1p-126, 127 * 0x1p-126, 126 * 0x1p-126, 0x1p-119, 0x1p-140,
	}
	eachSet(t, func(t *testing.T, s *Set) {
		r := newRand(t)
		for _, n := range []int{1, 2, 15, 16, 17, 35} {
			for _, k := range []int{32, 96, 128, 160, 224, 576, 32 * 1025} {
				x := normals(r, n*k)
				for b := 0; b < len(x); b += BlockLen {
					switch r.IntN(4) {
					case 0:
						x[b+r.IntN(BlockLen)] = special[r.IntN(len(special))]
					case 1:
						for i := range BlockLen {
							x[b+i] = 0
						}
						x[b+r.IntN(BlockLen)] = special[r.IntN(len(special))]
					case 2:
						scale := float32(math.Ldexp(1, r.IntN(250)-125))
						for i := range BlockLen {
							x[b+i] *= scale
						}
					}
				}
				x = place(guard.New(t, 4*len(x)), x, false)
				want := NewActs(n, k)
				genericSet.Quantize(want, x, 0, n)
				got := guarded(t, NewActs(n, k), false)
				cut := r.IntN(n + 1)
				if r.IntN(2) == 0 { // neither range's result may suffer from the other
					s.Quantize(got, x, 0, cut)
					s.Quantize(got, x, cut, n)
				} else {
					s.Quantize(got, x, cut, n)
					s.Quantize(got, x, 0, cut)
				}
				mustSame(t, "scales", got.scales, want.scales)
				for i := range want.q {
					if got.q[i] != want.q[i] {
						t.Fatalf("n=%d k=%d: q[%d] is %d, want %d", n, k, i, got.q[i], want.q[i])
					}
				}
				for i := range want.fix {
					if got.fix[i] != want.fix[i] {
						t.Fatalf("n=%d k=%d: fix[%d] is %d, want %d", n, k, i, got.fix[i], want.fix[i])
					}
				}
				checkQuantised(t, got, x)
			}
		}
	})
}

// checkQuantised holds a to the definition: q is 127x / max|x| rounded, up to
// what the roundings of the scale, its inverse and their product add, 127 times
// 4 eps, and d leaves q no more squared error than any other scale would, up to
// the rounding of its own sums.
func checkQuantised(t *testing.T, a *Acts, x []float32) {
	t.Helper()
	for tok := range a.tokens {
		for b := range a.k / BlockLen {
			first, n := a.tile(tok)
			at := first + b*n
			i := tok % TileTokens
			d, s := float64(a.scales[2*at+i]), float64(a.scales[2*at+n+i])
			var sum int32
			var top, xq, qq float64
			finite := true
			for j, v := range x[tok*a.k+b*BlockLen:][:BlockLen] {
				q := a.q[(at+i)*BlockLen+j]
				sum += int32(q)
				finite = finite && !math.IsNaN(float64(v)) && !math.IsInf(float64(v), 0)
				top = max(top, math.Abs(float64(v)))
				xq, qq = xq+float64(v)*float64(q), qq+float64(q)*float64(q)
			}
			for j, v := range x[tok*a.k+b*BlockLen:][:BlockLen] {
				q := a.q[(at+i)*BlockLen+j]
				if d > 0 && math.Abs(127*float64(v)/top-float64(q)) > 0.5+127*4*eps {
					t.Fatalf("token %d block %d: %g of %g became %d", tok, b, v, top, q)
				}
			}
			switch {
			case d > 0 && math.Abs(d-xq/qq) > d*(BlockLen+8)*eps:
				t.Fatalf("token %d block %d: d=%g, the best is %g", tok, b, d, xq/qq)
			case !finite && !(d != d && s != s && sum == 0):
				t.Fatalf("token %d block %d isn't finite: d=%g s=%g", tok, b, d, s)
			case finite && d == 0 && top >= 128*minScale:
				t.Fatalf("token %d block %d: d is 0 for a maximum of %g", tok, b, top)
			case finite && (s != float64(float32(d)*float32(sum)) || a.fix[at+i] != -128*sum):
				t.Fatalf("token %d block %d: d=%g s=%g fix=%d for sum %d", tok, b, d, s, a.fix[at+i], sum)
			}
		}
	}
}

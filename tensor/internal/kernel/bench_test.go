package kernel

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// benchSets runs the benchmark for each set that this CPU can run.
func benchSets(b *testing.B, shape string, run func(b *testing.B, s *Set)) {
	for _, s := range Sets() {
		b.Run(shape+"/"+s.Name, func(b *testing.B) { run(b, s) })
	}
}

// The matrices of a model with 135 million parameters.
var benchShapes = []struct{ rows, k int }{{576, 576}, {1536, 576}, {576, 1536}}

// reportRate reports multiplications and additions a second.
func reportRate(b *testing.B, ops int) {
	b.ReportMetric(float64(ops)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GOP/s")
}

func BenchmarkMulQ(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 0))
	for _, f := range quantised {
		for _, shape := range benchShapes {
			shape.k = fit(f, shape.k)
			for _, n := range []int{1, 4, 16, 64} {
				w := make([]byte, shape.rows*f.RowBytes(shape.k))
				weights(r, f, w, usual)
				a, out, sc := NewActs(n, shape.k), make([]float32, n*shape.rows), NewScratch(shape.k)
				genericSet.Quantize(a, normals(r, n*shape.k), 0, n)
				benchSets(b, fmt.Sprintf("%v-%dx%d-T%d", f, shape.rows, shape.k, n), func(b *testing.B, s *Set) {
					b.SetBytes(int64(len(w)))
					for b.Loop() {
						s.MulQ(f, w, shape.k, 0, shape.rows, a, out, shape.rows, sc)
					}
					reportRate(b, 2*n*shape.rows*shape.k)
				})
			}
		}
	}
}

func BenchmarkMulF(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 0))
	const rows = 576
	for f := range formats {
		k := fit(f, 576)
		for _, n := range []int{1, 4, 8, 64} {
			w := make([]byte, rows*f.RowBytes(k))
			weights(r, f, w, usual)
			x, out, sc := normals(r, n*k), make([]float32, n*rows), NewScratch(k)
			benchSets(b, fmt.Sprintf("%v-%dx%d-T%d", f, rows, k, n), func(b *testing.B, s *Set) {
				b.SetBytes(int64(len(w)))
				for b.Loop() {
					s.MulF(f, w, k, 0, rows, x, n, out, rows, sc)
				}
				reportRate(b, 2*n*rows*k)
			})
		}
	}
}

func BenchmarkQuantize(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 0))
	const n, k = 64, 576
	x, a := normals(r, n*k), NewActs(n, k)
	benchSets(b, fmt.Sprintf("%dx%d", n, k), func(b *testing.B, s *Set) {
		b.SetBytes(4 * n * k)
		for b.Loop() {
			s.Quantize(a, x, 0, n)
		}
	})
}

// BenchmarkAttention is a tile of queries, or those of one token, over 64 keys.
func BenchmarkAttention(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 0))
	const d, blocks = 64, 2
	keys, values := make([]uint16, BlockKeys*d), make([]uint16, BlockKeys*d)
	genericSet.ToF16(keys, normals(r, BlockKeys*d))
	genericSet.ToF16(values, normals(r, BlockKeys*d))
	keys8, values8, acts := make([]byte, Q8Bytes(d)), make([]byte, Q8Bytes(d)), NewActs(1, d)
	for j := range BlockKeys {
		genericSet.StoreKeyQ8(keys8, j, normals(r, d), acts)
		genericSet.StoreValueQ8(values8, j, normals(r, d), acts)
	}
	for _, f := range []struct {
		name   string
		attend func(s *Set, qs *Queries, n int)
	}{
		{"F16", func(s *Set, qs *Queries, n int) { s.AttendF16(qs, 0, n, keys, values, 0, BlockKeys) }},
		{"Q8_0", func(s *Set, qs *Queries, n int) { s.AttendQ8(qs, 0, n, keys8, values8, 0, BlockKeys) }},
	} {
		for _, n := range []int{3, 24} {
			qs, q := NewQueries(n, d), normals(r, d)
			benchSets(b, fmt.Sprintf("%s-%dx%dx%d", f.name, n, blocks*BlockKeys, d), func(b *testing.B, s *Set) {
				for b.Loop() {
					for i := range n {
						s.Begin(qs, i, q, 0.125)
					}
					for range blocks {
						f.attend(s, qs, n)
					}
				}
				b.ReportMetric(4*float64(n*d*blocks*BlockKeys)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			})
		}
	}
}

func BenchmarkElementwise(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 0))
	const n = 1536
	x, y, out := normals(r, n), normals(r, n), make([]float32, n)
	for _, op := range []struct {
		name string
		run  func(s *Set)
	}{
		{"RMSNorm", func(s *Set) { s.RMSNorm(out, x, y, 1e-5) }},
		{"SiLUGate", func(s *Set) { copy(out, x); s.SiLUGate(out, y) }},
		{"GELUGate", func(s *Set) { copy(out, x); s.GELUGate(out, y) }},
		{"Argmax", func(s *Set) { s.Argmax(x) }},
		{"Add", func(s *Set) { s.Add(out, x) }},
		{"RopeHalves", func(s *Set) { s.RopeHalves(out, x[:n/2], y[:n/2]) }},
	} {
		benchSets(b, fmt.Sprintf("%s-%d", op.name, n), func(b *testing.B, s *Set) {
			b.SetBytes(4 * n)
			for b.Loop() {
				op.run(s)
			}
		})
	}
}

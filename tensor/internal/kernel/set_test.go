package kernel

import (
	"math"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

func TestSelect(t *testing.T) {
	sets := Sets()
	if sets[0].Name != "generic" {
		t.Errorf("the first set is %v, want generic", sets[0])
	}
	best, err := Select("")
	if err != nil || best.Name != sets[len(sets)-1].Name {
		t.Errorf("Select(\"\") = %v, %v, want %v", best, err, sets[len(sets)-1])
	}
	usable := make(map[string]bool)
	for _, s := range sets {
		usable[s.Name] = true
	}
	for _, name := range names {
		s, err := Select(name)
		if usable[name] {
			if err != nil || s.Name != name {
				t.Errorf("Select(%q) = %v, %v", name, s, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), Missing()[name]) {
			t.Errorf("Select(%q) = %v, %v, want an error that names what is missing", name, s, err)
		}
	}
	if s, err := Select("avx1024"); err == nil {
		t.Errorf("Select of an unknown name = %v", s)
	}
}

func TestPrices(t *testing.T) {
	a := NewActs(33, 96)
	size := len(a.q) + 4*len(a.scales) + 4*len(a.fix)
	if price := ActsBytes(33, 96); price < int64(size) || price > int64(size)+3*alignment {
		t.Errorf("ActsBytes(33, 96) = %d for %d bytes", price, size)
	}
	sc := NewScratch(96)
	size = 4*len(sc.panel) + 4*len(sc.tile)
	if price := ScratchBytes(96); price < int64(size) || price > int64(size)+2*alignment {
		t.Errorf("ScratchBytes(96) = %d for %d bytes", price, size)
	}
	for _, price := range []int64{ActsBytes(math.MaxInt, math.MaxInt), ActsBytes(-1, 32), ActsBytes(1, -32), ScratchBytes(-1), ScratchBytes(math.MaxInt)} {
		if price != math.MaxInt64 {
			t.Errorf("a size that can't be is priced %d", price)
		}
	}
	for _, p := range []unsafe.Pointer{unsafe.Pointer(&a.q[0]), unsafe.Pointer(&a.scales[0]), unsafe.Pointer(&a.fix[0]), unsafe.Pointer(&sc.panel[0])} {
		if uintptr(p)%alignment != 0 {
			t.Errorf("%p isn't aligned to %d", p, alignment)
		}
	}
	q := &a.q[0]
	if a.Reset(5, 32); a.Tokens() != 5 || a.K() != 32 || &a.q[0] != q {
		t.Errorf("Reset to 5 x 32 gave %d x %d, or new memory", a.Tokens(), a.K())
	}
}

// TestMismatch gives each operation operands that don't fit.
func TestMismatch(t *testing.T) {
	a, sc, f := NewActs(2, 64), NewScratch(64), make([]float32, 128)
	w := make([]byte, 34*64)[:3*Q8_0.RowBytes(64)]
	h := make([]uint16, 128)
	eachSet(t, func(t *testing.T, s *Set) {
		for name, run := range map[string]func(){
			"format":            func() { s.MulQ(F16, w, 64, 0, 3, a, f, 3, sc) },
			"k":                 func() { s.MulQ(Q8_0, w, 32, 0, 3, a, f, 3, sc) },
			"weights":           func() { s.MulQ(Q8_0, w[:len(w)-1], 64, 0, 2, a, f, 3, sc) },
			"rows":              func() { s.MulQ(Q8_0, w, 64, 0, 4, a, f, 4, sc) },
			"negative rows":     func() { s.MulQ(Q8_0, w, 64, -1, 2, a, f, 4, sc) },
			"out":               func() { s.MulQ(Q8_0, w, 64, 0, 3, a, f[:5], 3, sc) },
			"stride":            func() { s.MulQ(Q8_0, w, 64, 0, 3, a, f, 2, sc) },
			"scratch":           func() { s.MulQ(Q8_0, w, 64, 0, 3, a, f, 3, NewScratch(32)) },
			"MulF tokens":       func() { s.MulF(Q8_0, w, 64, 0, 3, f, 3, make([]float32, 9), 3, sc) },
			"Quantize tokens":   func() { s.Quantize(a, f, 0, 3) },
			"Quantize x":        func() { s.Quantize(a, f[:127], 0, 1) },
			"Dequantize":        func() { s.Dequantize(Q8_0, f[:32], w[:33]) },
			"row length":        func() { s.Dequantize(Q8_0, f[:33], w[:34]) },
			"unknown format":    func() { s.Dequantize(9, f[:32], w[:34]) },
			"Acts":              func() { NewActs(1, 33) },
			"Scratch":           func() { NewScratch(31) },
			"attention keys":    func() { s.AttendF16(NewQueries(1, 1), 0, 1, h[:31], h, 0, 1) },
			"attention values":  func() { s.AttendF32(NewQueries(1, 2), 0, 1, f, f[:1], 0, 1) },
			"attention of Q8_0": func() { s.AttendQ8(NewQueries(1, 32), 0, 1, w[:34*32], w[:34*32-1], 0, 1) },
			"part of a scale":   func() { s.AttendQ8(NewQueries(1, 16), 0, 1, w[:34*16], w[:34*16], 0, 1) },
			"key of Q8_0":       func() { s.StoreKeyQ8(w[:34*32], 32, f[:32], a) },
			"value of Q8_0":     func() { s.StoreValueQ8(w[:34*32], 0, f[:64], a) },
			"attention block":   func() { s.AttendF32(NewQueries(1, 1), 0, 1, f, f, 0, BlockKeys+1) },
			"attention queries": func() { s.AttendF32(NewQueries(1, 1), 0, 2, f, f, 0, 1) },
			"query":             func() { s.Begin(NewQueries(1, 8), 0, f[:7], 1) },
			"result":            func() { s.End(NewStates(1, 8), 0, f[:9]) },
			"ToF16":             func() { s.ToF16(h[:3], f[:4]) },
			"FromF16":           func() { s.FromF16(f[:3], h[:4]) },
			"RMSNorm":           func() { s.RMSNorm(f[:3], f[:3], f[:4], 0) },
			"SiLUGate":          func() { s.SiLUGate(f[:3], f[:4]) },
			"Add":               func() { s.Add(f[:3], f[:4]) },
			"RopePairs":         func() { s.RopePairs(f[:3], f[:2], f[:2]) },
			"RopeHalves":        func() { s.RopeHalves(f[:4], f[:2], f[:1]) },
		} {
			t.Run(name, func(t *testing.T) {
				defer func() {
					err := recover()
					if msg, ok := err.(string); !ok || !strings.HasPrefix(msg, "kernel: ") {
						t.Errorf("got %v, want a panic of this package", err)
					}
				}()
				run()
			})
		}
	})
}

// TestAllocs holds what runs for every token to no allocation at all.
func TestAllocs(t *testing.T) {
	const k, rows, n = 256, 20, 18
	x, out, acc, qs := make([]float32, n*k), make([]float32, n*rows), make([]float32, k), NewQueries(1, k)
	h := make([]uint16, n*k)
	xk, hk := make([]float32, BlockKeys*k), make([]uint16, BlockKeys*k)
	k8, v8, kept := make([]byte, Q8Bytes(k)), make([]byte, Q8Bytes(k)), NewActs(1, k)
	sc := NewScratch(k)
	w := make([]byte, rows*F32.RowBytes(k))
	one, many := NewActs(1, k), NewActs(n, k)
	eachSet(t, func(t *testing.T, s *Set) {
		allocs := testing.AllocsPerRun(3, func() {
			for f := range formats {
				w := w[:rows*f.RowBytes(k)]
				s.MulF(f, w, k, 0, rows, x, n, out, rows, sc)
				if f.Quantised() {
					s.MulQ(f, w, k, 0, rows, many, out, rows, sc)
					s.MulQ(f, w, k, 0, rows, one, out, rows, sc)
				}
			}
			many.Reset(n, k)
			s.Quantize(many, x, 0, n)
			s.Begin(qs, 0, acc, 1)
			s.AttendF16(qs, 0, 1, hk, h, 0, n-2)
			s.AttendF32(qs, 0, 1, xk, x, 1, n-2)
			s.StoreKeyQ8(k8, 1, x[:k], kept)
			s.StoreValueQ8(v8, 1, x[:k], kept)
			s.AttendQ8(qs, 0, 1, k8, v8, 1, n-2)
			s.End(&qs.States, 0, acc)
			s.ToF16(h, x)
			s.FromF16(x, h)
			s.RMSNorm(acc, acc, x[:k], 1e-5)
			s.SiLUGate(acc, x[:k])
			s.Add(acc, x[:k])
			s.RopePairs(acc, x[:8], x[:8])
			s.RopeHalves(acc, x[:8], x[:8])
		})
		if allocs != 0 {
			t.Errorf("%v allocations", allocs)
		}
	})
}

// prefetched records what is prefetched.
type prefetched struct {
	generic
	lengths *[]int
	next    *unsafe.Pointer
}

func (p prefetched) prefetch(b []byte) {
	*p.lengths = append(*p.lengths, len(b))
	if *p.next != nil && *p.next != unsafe.Pointer(&b[0]) {
		*p.lengths = append(*p.lengths, -1) // not right after the one before
	}
	*p.next = unsafe.Add(unsafe.Pointer(&b[0]), len(b))
}

// TestPrefetchAll: everything is fetched, piece after piece, and nothing more.
func TestPrefetchAll(t *testing.T) {
	var got []int
	var next unsafe.Pointer
	s := &Set{impl: prefetched{lengths: &got, next: &next}}
	PrefetchAll(s, make([]uint16, 0))
	if PrefetchAll(s, make([]float32, 515)); !slices.Equal(got, []int{1024, 1024, 12}) {
		t.Errorf("%d bytes were fetched as %v", 4*515, got)
	}
}

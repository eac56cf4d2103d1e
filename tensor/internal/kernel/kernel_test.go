package kernel

import (
	"encoding/binary"
	"flag"
	"math"
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"

	"github.com/dunlin-go/dunlin/internal/guard"
)

var seedFlag = flag.Uint64("kernel.seed", 0, "seed of the random operands, 0 for one from the clock")

// newRand returns random numbers that a failing run can be repeated with.
func newRand(t testing.TB) *rand.Rand {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-kernel.seed=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// eachSet runs the test for every set that this program has code for and skips
// those that the CPU lacks, by name.
func eachSet(t *testing.T, test func(t *testing.T, s *Set)) {
	for _, s := range Sets() {
		t.Run(s.Name, func(t *testing.T) { test(t, s) })
	}
	for name, feature := range Missing() {
		t.Run(name, func(t *testing.T) { t.Skipf("this CPU has no %s", feature) })
	}
}

// view takes guarded bytes as numbers. Slices at the end of a region are
// aligned, as their sizes are whole numbers of elements.
func view[T byte | int8 | uint16 | int32 | float32](b []byte) []T {
	if len(b) == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&b[0])), len(b)/int(unsafe.Sizeof(*new(T))))
}

// place copies x to the end of a region, or to its start.
func place[T byte | int8 | uint16 | int32 | float32](r *guard.Region, x []T, start bool) []T {
	n := len(x) * int(unsafe.Sizeof(*new(T)))
	b := r.End(n)
	if start {
		b = r.Start(n)
	}
	v := view[T](b)
	copy(v, x)
	return v
}

func normals(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// scaleKind chooses the float16 scales of random weights.
type scaleKind int

const (
	usual    scaleKind = iota // around 2^-8, of either sign
	anything                  // any float16: subnormal, infinite, NaN
)

// weights fills w with random rows in format f.
func weights(r *rand.Rand, f Format, w []byte, kind scaleKind) {
	f16 := func() uint16 {
		if kind == anything {
			return uint16(r.Uint32())
		}
		return f32to16(float32(r.NormFloat64() / 256))
	}
	switch f {
	case F32:
		for i := 0; i < len(w); i += 4 {
			binary.LittleEndian.PutUint32(w[i:], math.Float32bits(float32(r.NormFloat64())))
		}
	case F16:
		for i := 0; i < len(w); i += 2 {
			binary.LittleEndian.PutUint16(w[i:], f16())
		}
	case BF16:
		for i := 0; i < len(w); i += 2 {
			v := math.Float32bits(float32(r.NormFloat64() / 256))
			if kind == anything {
				v = r.Uint32()
			}
			binary.LittleEndian.PutUint16(w[i:], uint16(v>>16))
		}
	default:
		for i := range w {
			w[i] = byte(r.Uint32())
		}
		for i := 0; i < len(w); i += layouts[f].bytes {
			for _, at := range scalesAt[f] {
				binary.LittleEndian.PutUint16(w[i+at:], f16())
			}
			if f == MXFP4 && kind == usual {
				w[i] = byte(118 + r.IntN(4))
			}
		}
	}
}

// scalesAt is where a stored block has its float16 scales.
var scalesAt = map[Format][]int{
	Q8_0: {0}, Q4_1: {0, 2}, Q4_0: {0}, Q5_0: {0}, Q5_1: {0, 2}, IQ4NL: {0}, IQ4XS: {0},
	Q2K: {80, 82}, Q3K: {108}, Q4K: {0, 2}, Q5K: {0, 2}, Q6K: {208},
}

// quantised are the formats with blocks.
var quantised = func() (all []Format) {
	for f := range formats {
		if f.Quantised() {
			all = append(all, f)
		}
	}
	return all
}()

// fit rounds k up to whole blocks of the format.
func fit(f Format, k int) int {
	n := BlockLen * layouts[f].blocks
	return (k + n - 1) / n * n
}

// guarded moves activations into guarded memory.
func guarded(t testing.TB, a *Acts, start bool) *Acts {
	g := *a
	g.q, g.scales, g.fix = moved(t, a.q, start), moved(t, a.scales, start), moved(t, a.fix, start)
	return &g
}

// guardedScratch is scratch in guarded memory.
func guardedScratch(t testing.TB, maxK int, start bool) *Scratch {
	sc := NewScratch(maxK)
	sc.panel, sc.tile = moved(t, sc.panel, start), moved(t, sc.tile, start)
	return sc
}

// guardedQueries is the attention of some queries in guarded memory.
func guardedQueries(t testing.TB, queries, d int, start bool) *Queries {
	qs := NewQueries(queries, d)
	for _, s := range []*[]float32{&qs.q, &qs.scores, &qs.factors, &qs.keys, &qs.values, &qs.scaled, &qs.acc, &qs.tops, &qs.sums, &qs.ones} {
		*s = moved(t, *s, start)
	}
	return qs
}

// moved copies x to guarded memory.
func moved[T int8 | int32 | float32](t testing.TB, x []T, start bool) []T {
	return place(guard.New(t, len(x)*int(unsafe.Sizeof(*new(T)))), x, start)
}

// same reports whether two results have the same bits; NaNs are all one.
func same(a, b float32) bool {
	return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b
}

// mustSame fails at the first element that differs.
func mustSame(t testing.TB, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	for i := range got {
		if !same(got[i], want[i]) {
			t.Fatalf("%s: element %d of %d is %g (%08x), want %g (%08x)", what, i, len(got),
				got[i], math.Float32bits(got[i]), want[i], math.Float32bits(want[i]))
		}
	}
}

// eps is the largest relative error of a rounding to float32.
const eps = 0x1p-24

func filled(n int, v float32) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = v
	}
	return x
}

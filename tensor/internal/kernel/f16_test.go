package kernel

import (
	"math"
	"math/big"
	"slices"
	"testing"

	"github.com/dunlin-go/dunlin/internal/guard"
)

// TestFromF16 widens all 65536 values and compares with their definition.
func TestFromF16(t *testing.T) {
	all := make([]uint16, 1<<16)
	want := make([]float32, 1<<16)
	for i := range all {
		all[i] = uint16(i)
		exp, man := i>>10&31, float64(i&1023)
		v := math.Ldexp(1024+man, exp-25)
		switch exp {
		case 0:
			v = math.Ldexp(man, -24)
		case 31:
			v = math.Inf(1)
			if man != 0 {
				v = math.NaN()
			}
		}
		want[i] = float32(v)
		if i>>15 == 1 {
			want[i] = -want[i]
		}
	}
	eachSet(t, func(t *testing.T, s *Set) {
		got := make([]float32, len(all))
		s.FromF16(got, all)
		mustSame(t, "FromF16", got, want)
		for i, v := range got {
			if v != v && math.Float32bits(v)>>13&0x3ff != uint32(i)&0x3ff|0x200 {
				t.Fatalf("NaN %#04x became %08x", i, math.Float32bits(v))
			}
		}
		back := make([]uint16, len(all))
		s.ToF16(back, got)
		for i, h := range back {
			want := uint16(i)
			if want&0x7fff > 0x7c00 {
				want |= 0x200 // quiet
			}
			if h != want {
				t.Fatalf("%#04x went round as %#04x", i, h)
			}
		}
	})
}

// TestToF16 narrows the midpoints between all neighbours, and the float32 just
// below and above each: ties go to even, the rest to the nearer one.
func TestToF16(t *testing.T) {
	var src []float32
	var want []uint16
	for h := range uint16(0x7c00) {
		lo, hi := float64(f16to32(h)), float64(f16to32(h+1))
		if h == 0x7bff {
			hi = 65536 // where infinity would be if the exponent went on
		}
		mid := float32((lo + hi) / 2) // 12 bits of mantissa: exact
		even := h + h&1
		for _, c := range []struct {
			x float32
			h uint16
		}{{mid, even}, {math.Nextafter32(mid, 0), h}, {math.Nextafter32(mid, 1e9), h + 1}} {
			src = append(src, c.x, -c.x)
			want = append(want, c.h, c.h|0x8000)
		}
	}
	inf := float32(math.Inf(1))
	src = append(src, inf, -inf, math.MaxFloat32, math.SmallestNonzeroFloat32, math.Float32frombits(0xff812345))
	want = append(want, 0x7c00, 0xfc00, 0x7c00, 0, 0xfe09)
	eachSet(t, func(t *testing.T, s *Set) {
		got := make([]uint16, len(src))
		s.ToF16(got, src)
		for i, h := range got {
			if h != want[i] {
				t.Fatalf("%g (%08x) became %#04x, want %#04x", src[i], math.Float32bits(src[i]), h, want[i])
			}
		}
	})
}

// TestNoInfinity looks at all float16: infinities become NaN, numbers stay.
func TestNoInfinity(t *testing.T) {
	for i := range 1 << 16 {
		h := uint16(i)
		want := h
		if h&0x7fff >= 0x7c00 { // NaNs become quiet, as all are that kernels make
			want |= 0x200
		}
		if got := NoInfinity(h); got != want {
			t.Fatalf("%#04x becomes %#04x, want %#04x", h, got, want)
		}
	}
}

// TestF16Lengths converts slices of every length, on memory that faults outside them.
func TestF16Lengths(t *testing.T) {
	eachSet(t, func(t *testing.T, s *Set) {
		r := newRand(t)
		wide, narrow := guard.New(t, 4*(8192+19)), guard.New(t, 2*(8192+19))
		for n := range 132 {
			if n > 130 {
				n = 8192 + 19
			}
			x, start := normals(r, n), n%2 == 0
			want := make([]uint16, n)
			genericSet.ToF16(want, x)
			got := place(narrow, make([]uint16, n), start)
			s.ToF16(got, place(wide, x, start))
			if !slices.Equal(got, want) {
				t.Fatalf("%d elements: %x, want %x", n, got, want)
			}
			genericSet.FromF16(x, want)
			back := place(wide, make([]float32, n), start)
			s.FromF16(back, got)
			mustSame(t, "FromF16", back, x)
		}
	})
}

// TestFMA compares with exact arithmetic rounded once.
func TestFMA(t *testing.T) {
	r := newRand(t)
	exact := func(x, y, z float32) float32 {
		p := new(big.Float).SetPrec(700).Mul(big.NewFloat(float64(x)), big.NewFloat(float64(y)))
		f, _ := p.Add(p, big.NewFloat(float64(z))).Float32()
		return f
	}
	n := 200000
	if testing.Short() {
		n = 3000
	}
	twice := 0 // cases where rounding twice would be wrong: the test must meet them
	for i := range n {
		x, y, z := float32(r.NormFloat64()), float32(r.NormFloat64()), float32(r.NormFloat64())
		switch r.IntN(4) {
		case 0: // one far below the other, near a midpoint
			y = float32(math.Ldexp(float64(y), -r.IntN(60)))
		case 1: // a subnormal result
			x = math.Float32frombits(math.Float32bits(x)&0x807fffff | uint32(r.IntN(60))<<23)
			z = math.Float32frombits(r.Uint32() & 0x80ffffff)
		case 2: // a sum just beside a midpoint of z's last place
			x, y = float32(0.5+math.Ldexp(1, -r.IntN(24))), 1-float32(math.Ldexp(1, -r.IntN(25)))
			x = math.Float32frombits(math.Float32bits(x) ^ uint32(r.IntN(3)))
			z = math.Nextafter32(1<<23, 1e9) + 2*float32(r.IntN(1000))
		}
		if i == 0 { // known to be one of them
			x, y, z = math.Float32frombits(0x3f000010), math.Float32frombits(0x3f7fffe0), math.Float32frombits(0x4b0007ab)
		}
		want := exact(x, y, z)
		if got := fma32(x, y, z); math.Float32bits(got) != math.Float32bits(want) && want != 0 || got != want {
			t.Fatalf("fma(%g, %g, %g) = %g (%08x), want %g (%08x)", x, y, z, got, math.Float32bits(got), want, math.Float32bits(want))
		}
		if float32(float64(x)*float64(y)+float64(z)) != want {
			twice++
		}
	}
	if twice == 0 {
		t.Error("no operands told rounding once from rounding twice")
	}
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, c := range [][4]float32{
		{inf, 1, 1, inf},
		{inf, 0, 1, nan},
		{1, 1, -inf, -inf},
		{inf, 1, -inf, nan},
		{nan, 1, 1, nan},
		{math.MaxFloat32, 2, 0, inf},
		{math.MaxFloat32, 2, -math.MaxFloat32, math.MaxFloat32},
	} {
		if got := fma32(c[0], c[1], c[2]); !same(got, c[3]) {
			t.Errorf("fma(%g, %g, %g) = %g, want %g", c[0], c[1], c[2], got, c[3])
		}
	}
}

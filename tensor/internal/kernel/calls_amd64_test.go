//go:build !purego

package kernel

import (
	"slices"
	"testing"
)

// TestCallBounds records what each assembly call of the products is given: a call
// can't be preempted, so it gets no more than maxCallBytes of weights and
// maxCallMuls multiplications, or one group of rows. Unpacking is bounded within
// rows, too.
func TestCallBounds(t *testing.T) {
	const tokens = 7
	ks := []int{256, 768, 4096, 1 << 14, maxAsmK}
	for name, set := range map[string]*floatKernels{"avx2": &floatAVX2, "avx512": &floatAVX512} {
		for format, kn := range map[Format]dotKernels{F32: set.f32, F16: set.f16, BF16: set.bf16} {
			for _, k := range ks {
				row := format.RowBytes(k)
				rows := (4<<20)/row + 17 // of which a call may take only a part
				for n := range min(kn.tokens, tokens) {
					n++
					done := 0
					check := func(p *dotArgs, groupRows int) {
						done += p.groups * groupRows
						calledRows := p.groups * groupRows
						if p.groups > 1 && (calledRows*row > maxCallBytes || calledRows*k*n > maxCallMuls) {
							t.Fatalf("%s: a call has %d rows of %d elements of %v and %d tokens", name, calledRows, k, format, n)
						}
					}
					recorded := kn
					shape := &recorded.by[n]
					shape.group = func(p *dotArgs) { check(p, kn.by[n].rows) }
					shape.single = func(p *dotArgs) { check(p, 1) }
					w := make([]byte, rows*row)
					recorded.mul(ptr(w), row, rows, k, make([]float32, n*k), n, make([]float32, n*rows), rows, NewScratch(k))
					if done != rows {
						t.Fatalf("%s: %d of %d rows of %v were computed", name, done, rows, format)
					}
				}
			}
		}
	}
	for name, set := range map[string]*[formats]quantKernels{"avx2": &quantAVX2, "avx512": &quantAVX512} {
		for _, f := range quantised {
			for _, k := range ks {
				recordUnpacking(t, name, set[f], f, k)
				for _, n := range []int{1, tokens} {
					recordDirect(t, name, set[f], f, k, n)
				}
			}
		}
	}
}

// recordUnpacking counts what the calls unpack and multiply by way of a panel.
func recordUnpacking(t *testing.T, name string, recorded quantKernels, f Format, k int) {
	const rows, tokens = 3*groupRows + 5, 7
	l, row := layouts[f], f.RowBytes(k)
	w := make([]byte, rows*row)
	var planes []int // bytes of a row that were unpacked, by plane
	recorded.unpack = slices.Clone(recorded.unpack)
	for i := range recorded.unpack {
		planes = append(planes, 0)
		recorded.unpack[i] = func(p *mulArgs) {
			n := p.blocks / l.blocks * l.bytes
			planes[i] += n
			if p.blocks%l.blocks != 0 || groupRows*n > maxCallBytes {
				t.Fatalf("%s: a call unpacks %d blocks of %v, %d bytes", name, p.blocks, f, groupRows*n)
			}
		}
	}
	for i := range recorded.tile {
		recorded.direct[i] = nil
		recorded.tile[i] = func(p *mulArgs) {
			if p.blocks != k/BlockLen {
				t.Fatalf("%s: a call multiplies %d blocks of %d", name, p.blocks, k/BlockLen)
			}
		}
	}
	a := NewActs(tokens, k)
	recorded.mul(f, w, k, 0, rows, a, make([]float32, tokens*rows), rows, NewScratch(k))
	for plane, n := range planes {
		if n != 4*row {
			t.Fatalf("%s: %d bytes of plane %d of %v rows of %d were unpacked for each of 4 groups", name, n, plane, f, row)
		}
	}
}

// recordDirect counts what the calls multiply straight from the rows.
func recordDirect(t *testing.T, name string, recorded quantKernels, f Format, k, tokens int) {
	if recorded.direct[tokens] == nil {
		return
	}
	row, done := f.RowBytes(k), 0
	rows := (2<<20)/row/groupRows*groupRows + 5 // of which a call may take only a part
	recorded.direct[tokens] = func(p *mulArgs) {
		done += p.groups
		called := p.groups * groupRows
		if p.groups > 1 && (called*row > maxCallBytes || called*k*tokens > maxCallMuls) {
			t.Fatalf("%s: a call has %d rows of %d elements of %v and %d tokens", name, called, k, f, tokens)
		}
	}
	a := NewActs(tokens, k)
	recorded.mul(f, make([]byte, rows*row), k, 0, rows, a, make([]float32, tokens*rows), rows, NewScratch(k))
	if want := rows/groupRows + 1; done != want {
		t.Fatalf("%s: %d of %d groups of rows of %v were computed", name, done, want, f)
	}
}

// TestCallsLeaveNoPointers: no operand keeps a pointer into weights or pages, which may be
// unmapped.
func TestCallsLeaveNoPointers(t *testing.T) {
	const k, rows = 256, 20
	x, out := make([]float32, 18*k), make([]float32, 18*rows)
	sc, qs := NewScratch(k), NewQueries(3, 64)
	keys, half, q8 := make([]float32, BlockKeys*64), make([]uint16, BlockKeys*64), make([]byte, Q8Bytes(64))
	eachSet(t, func(t *testing.T, s *Set) {
		check := func(what any) {
			t.Helper()
			a := &qs.arch.attend
			if sc.arch != (archScratch{}) || a.keys != nil || a.values != nil || a.keyScales != nil || a.valueScales != nil {
				t.Fatalf("%v: %+v, %+v", what, sc.arch, *a)
			}
		}
		for f := range formats {
			w := make([]byte, rows*f.RowBytes(k))
			for _, tokens := range []int{1, 18} {
				s.MulF(f, w, k, 0, rows, x, tokens, out, rows, sc)
				check(f)
				if f.Quantised() {
					s.MulQ(f, w, k, 0, rows, NewActs(tokens, k), out, rows, sc)
					check(f)
				}
			}
		}
		s.AttendF32(qs, 0, 3, keys, keys, 1, 9)
		check("F32")
		s.AttendF16(qs, 0, 3, half, half, 1, 9)
		check("F16")
		s.AttendQ8(qs, 0, 3, q8, q8, 1, 9)
		check("Q8_0")
	})
}

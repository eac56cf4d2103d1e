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
				l, row := layouts[f], f.RowBytes(k)
				const rows = 3*groupRows + 5
				w := make([]byte, rows*row)
				recorded := set[f]
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
		}
	}
}

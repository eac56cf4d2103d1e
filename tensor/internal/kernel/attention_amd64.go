//go:build !purego

package kernel

import "unsafe"

// maxAttendD bounds an assembly call: three queries, 32 keys.
const maxAttendD = 1 << 12

func (g avx2) attendF32(qs *Queries, lo, hi int, keys, values []float32, n int) {
	if qs.d%8 != 0 || qs.d > maxAttendD {
		g.generic.attendF32(qs, lo, hi, keys, values, n)
		return
	}
	a := attendArgs{keys: ptr(keys), values: ptr(values), d: qs.d, n: n}
	for i := lo; i < hi; i += a.queries {
		switch a.take(qs, i, hi) {
		case 1:
			scoresF32x1AVX2(&a)
		case 2:
			scoresF32x2AVX2(&a)
		default:
			scoresF32x3AVX2(&a)
		}
	}
	foldAVX2(&a, qs, lo, hi)
	for i := lo; i < hi; i += a.queries {
		switch a.take(qs, i, hi) {
		case 1:
			weighF32x1AVX2(&a)
		case 2:
			weighF32x2AVX2(&a)
		default:
			weighF32x3AVX2(&a)
		}
	}
}

func (g avx2) attendF16(qs *Queries, lo, hi int, keys, values []uint16, n int) {
	if qs.d%8 != 0 || qs.d > maxAttendD {
		g.generic.attendF16(qs, lo, hi, keys, values, n)
		return
	}
	a := attendArgs{keys: ptr(keys), values: ptr(values), d: qs.d, n: n}
	for i := lo; i < hi; i += a.queries {
		switch a.take(qs, i, hi) {
		case 1:
			scoresF16x1AVX2(&a)
		case 2:
			scoresF16x2AVX2(&a)
		default:
			scoresF16x3AVX2(&a)
		}
	}
	foldAVX2(&a, qs, lo, hi)
	for i := lo; i < hi; i += a.queries {
		switch a.take(qs, i, hi) {
		case 1:
			weighF16x1AVX2(&a)
		case 2:
			weighF16x2AVX2(&a)
		default:
			weighF16x3AVX2(&a)
		}
	}
}

// take points a at the next queries of [i, hi), as many as a kernel takes.
func (a *attendArgs) take(qs *Queries, i, hi int) int {
	a.queries = min(3, hi-i)
	a.at(qs, i)
	return a.queries
}

func (a *attendArgs) at(qs *Queries, i int) {
	a.q, a.acc = unsafe.Pointer(&qs.q[i*qs.d]), unsafe.Pointer(&qs.acc[i*qs.d])
	a.scores = unsafe.Pointer(&qs.scores[i*BlockKeys])
	a.tops, a.sums, a.factors = unsafe.Pointer(&qs.tops[i]), unsafe.Pointer(&qs.sums[i]), unsafe.Pointer(&qs.factors[i])
}

// foldAVX2 is foldScores for the queries [lo, hi).
func foldAVX2(a *attendArgs, qs *Queries, lo, hi int) {
	a.at(qs, lo)
	a.queries = hi - lo
	softmaxAVX2(a)
}

//go:build !purego

package kernel

import "unsafe"

// maxAttendD bounds an assembly call: twelve queries, 32 keys.
const maxAttendD = 1 << 12

// maxSoftmax bounds the queries of a call of the softmax.
const maxSoftmax = 64

// attendKernels are the passes over a block for one format of keys and values;
// those in scores and weigh are indexed by their number of queries.
type attendKernels struct {
	scores, weigh []func(*attendArgs)
	softmax       func(*attendArgs)
	lanes         int // which d is a multiple of
}

var (
	attendF32AVX2 = attendKernels{
		scores:  []func(*attendArgs){1: scoresF32x1AVX2, scoresF32x2AVX2, scoresF32x3AVX2},
		weigh:   []func(*attendArgs){1: weighF32x1AVX2, weighF32x2AVX2, weighF32x3AVX2},
		softmax: softmaxAVX2, lanes: 8,
	}
	attendF16AVX2 = attendKernels{
		scores:  []func(*attendArgs){1: scoresF16x1AVX2, scoresF16x2AVX2, scoresF16x3AVX2},
		weigh:   []func(*attendArgs){1: weighF16x1AVX2, weighF16x2AVX2, weighF16x3AVX2},
		softmax: softmaxAVX2, lanes: 8,
	}
	attendQ8AVX2 = attendKernels{
		scores:  []func(*attendArgs){1: scoresQ8x1AVX2, scoresQ8x2AVX2, scoresQ8x3AVX2},
		weigh:   []func(*attendArgs){1: weighQ8x1AVX2, weighQ8x2AVX2, weighQ8x3AVX2},
		softmax: softmaxAVX2, lanes: 8,
	}
	attendF32AVX512 = attendKernels{
		scores: []func(*attendArgs){
			1: scoresF32x1AVX512, scoresF32x2AVX512, scoresF32x3AVX512, scoresF32x4AVX512,
			6: scoresF32x6AVX512, 8: scoresF32x8AVX512, 12: scoresF32x12AVX512,
		},
		weigh: []func(*attendArgs){
			1: weighF32x1AVX512, weighF32x2AVX512, weighF32x3AVX512, weighF32x4AVX512, 6: weighF32x6AVX512,
		},
		softmax: softmaxAVX512, lanes: 16,
	}
	attendF16AVX512 = attendKernels{
		scores: []func(*attendArgs){
			1: scoresF16x1AVX512, scoresF16x2AVX512, scoresF16x3AVX512, scoresF16x4AVX512,
			6: scoresF16x6AVX512, 8: scoresF16x8AVX512, 12: scoresF16x12AVX512,
		},
		weigh: []func(*attendArgs){
			1: weighF16x1AVX512, weighF16x2AVX512, weighF16x3AVX512, weighF16x4AVX512, 6: weighF16x6AVX512,
		},
		softmax: softmaxAVX512, lanes: 16,
	}
	attendQ8AVX512 = attendKernels{
		scores: []func(*attendArgs){
			1: scoresQ8x1AVX512, scoresQ8x2AVX512, scoresQ8x3AVX512, scoresQ8x4AVX512,
			6: scoresQ8x6AVX512, 8: scoresQ8x8AVX512, 12: scoresQ8x12AVX512,
		},
		weigh: []func(*attendArgs){
			1: weighQ8x1AVX512, weighQ8x2AVX512, weighQ8x3AVX512, weighQ8x4AVX512, 6: weighQ8x6AVX512,
		},
		softmax: softmaxAVX512, lanes: 16,
	}
)

func (g avx2) attendF32(qs *Queries, lo, hi int, keys, values []float32, from, to int) {
	if !attendF32AVX2.attend(qs, lo, hi, ptr(keys), ptr(values), 4, from, to) {
		g.generic.attendF32(qs, lo, hi, keys, values, from, to)
	}
}

func (g avx2) attendF16(qs *Queries, lo, hi int, keys, values []uint16, from, to int) {
	if !attendF16AVX2.attend(qs, lo, hi, ptr(keys), ptr(values), 2, from, to) {
		g.generic.attendF16(qs, lo, hi, keys, values, from, to)
	}
}

func (g avx2) attendQ8(qs *Queries, lo, hi int, keys, values []byte, from, to int) {
	if !attendQ8AVX2.attend(qs, lo, hi, ptr(keys), ptr(values), 1, from, to) {
		g.generic.attendQ8(qs, lo, hi, keys, values, from, to)
	}
}

func (g avx512) attendF32(qs *Queries, lo, hi int, keys, values []float32, from, to int) {
	if !attendF32AVX512.attend(qs, lo, hi, ptr(keys), ptr(values), 4, from, to) {
		g.avx2.attendF32(qs, lo, hi, keys, values, from, to)
	}
}

func (g avx512) attendF16(qs *Queries, lo, hi int, keys, values []uint16, from, to int) {
	if !attendF16AVX512.attend(qs, lo, hi, ptr(keys), ptr(values), 2, from, to) {
		g.avx2.attendF16(qs, lo, hi, keys, values, from, to)
	}
}

func (g avx512) attendQ8(qs *Queries, lo, hi int, keys, values []byte, from, to int) {
	if !attendQ8AVX512.attend(qs, lo, hi, ptr(keys), ptr(values), 1, from, to) {
		g.avx2.attendQ8(qs, lo, hi, keys, values, from, to)
	}
}

// attend reports false where it has no kernels for the queries' d. size is an
// element's; of one byte, it is Q8_0.
func (kn *attendKernels) attend(qs *Queries, lo, hi int, keys, values unsafe.Pointer, size, from, to int) bool {
	if qs.d%kn.lanes != 0 || qs.d > maxAttendD {
		return false
	}
	a := &qs.arch.attend
	a.keys, a.values, a.d, a.n = keys, unsafe.Add(values, from*qs.d*size), qs.d, to
	if size == 1 {
		a.keyScales, a.valueScales, a.scaled = unsafe.Add(keys, BlockKeys*qs.d), unsafe.Add(values, BlockKeys*qs.d), ptr(qs.scaled)
	}
	a.each(kn.scores, qs, lo, hi)
	if from > 0 {
		for i := lo; i < hi; i++ {
			_, _, p := qs.query(i)
			forget(p[:from])
		}
	}
	for i := lo; i < hi; i += a.queries {
		a.at(qs, i)
		a.queries = min(maxSoftmax, hi-i)
		kn.softmax(a)
	}
	a.n, a.skip = to-from, 4*from
	a.each(kn.weigh, qs, lo, hi)
	// Pointers into a mapping mustn't outlive it.
	a.keys, a.values, a.keyScales, a.valueScales = nil, nil, nil, nil
	return true
}

// each calls the kernel of the most queries at once, again and again.
func (a *attendArgs) each(by []func(*attendArgs), qs *Queries, lo, hi int) {
	for lo < hi {
		n := min(len(by)-1, hi-lo)
		for by[n] == nil {
			n--
		}
		a.at(qs, lo)
		by[n](a)
		lo += n
	}
}

// at points a at query i.
func (a *attendArgs) at(qs *Queries, i int) {
	a.q, a.acc = unsafe.Pointer(&qs.q[i*qs.d]), unsafe.Pointer(&qs.acc[i*qs.d])
	a.scores = unsafe.Pointer(&qs.scores[i*BlockKeys])
	a.tops, a.sums, a.factors = unsafe.Pointer(&qs.tops[i]), unsafe.Pointer(&qs.sums[i]), unsafe.Pointer(&qs.factors[i])
}

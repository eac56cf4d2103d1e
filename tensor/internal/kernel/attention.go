package kernel

import (
	"fmt"
	"math"
)

// BlockKeys is how many keys a block of the attention has.
const BlockKeys = 32

// Queries is the attention of some queries of d elements, block by block, and
// the working memory for it. It may not be used by two goroutines at once. Each
// query goes through the same steps whatever others there are.
type Queries struct {
	States
	q       []float32 // [query][d], scaled
	scores  []float32 // [query][BlockKeys] of one block, then weights
	factors []float32 // [query] what a higher top makes of the sums before
	keys    []float32 // a block, widened by portable Go
	values  []float32
	scaled  []float32   // weights times scales, of the queries that assembly takes at once
	arch    archQueries // operands of assembly
}

// QueriesBytes is what a Queries takes, math.MaxInt64 if that can't be counted.
func QueriesBytes(queries, d int) int64 {
	states := StatesBytes(queries, d)
	if states == math.MaxInt64 {
		return states
	}
	q, e := int64(queries), int64(d)
	return states + 4*(q*e+q*BlockKeys+q+2*BlockKeys*e+scaledWeights) + 5*alignment
}

// scaledWeights is how many weights assembly multiplies by scales at once: those of
// six queries for two blocks of elements.
const scaledWeights = 6 * 2 * BlockKeys

// NewQueries returns memory for so many queries of d elements.
func NewQueries(queries, d int) *Queries {
	return &Queries{
		States: *NewStates(queries, d), q: aligned[float32](queries * d), scores: aligned[float32](queries * BlockKeys),
		factors: make([]float32, queries), keys: aligned[float32](BlockKeys * d), values: aligned[float32](BlockKeys * d),
		scaled: aligned[float32](scaledWeights),
	}
}

// Begin begins the attention of query i, whose scores are multiplied by scale.
func (s *Set) Begin(qs *Queries, i int, q []float32, scale float32) {
	mustMatch("Begin", len(q), qs.d)
	s.impl.scaleBy(qs.q[i*qs.d:(i+1)*qs.d], q, qs.ones, scale)
	qs.Reset(i)
}

// AttendF32 lets the queries [lo, hi) attend to the keys [from, to) of a block, with
// its keys [d][BlockKeys] and its values [BlockKeys][d]. What the block has outside
// of that range has no effect, and values from to on aren't read.
func (s *Set) AttendF32(qs *Queries, lo, hi int, keys, values []float32, from, to int) {
	checkBlock(qs, lo, hi, len(keys), len(values), from, to)
	if lo < hi && from < to {
		s.impl.attendF32(qs, lo, hi, keys, values, from, to)
	}
}

// AttendF16 is [Set.AttendF32] for float16.
func (s *Set) AttendF16(qs *Queries, lo, hi int, keys, values []uint16, from, to int) {
	checkBlock(qs, lo, hi, len(keys), len(values), from, to)
	if lo < hi && from < to {
		s.impl.attendF16(qs, lo, hi, keys, values, from, to)
	}
}

func checkBlock(qs *Queries, lo, hi, keys, values, from, to int) {
	if lo < 0 || lo > hi || hi > len(qs.tops) || from < 0 || from > to || to > BlockKeys || keys < BlockKeys*qs.d || values < to*qs.d {
		panic(fmt.Sprintf("kernel: attention of queries [%d, %d) of %d to keys [%d, %d) of %d and %d elements", lo, hi, len(qs.tops), from, to, keys, values))
	}
}

func (generic) attendF32(qs *Queries, lo, hi int, keys, values []float32, from, to int) {
	for i := lo; i < hi; i++ {
		q, acc, p := qs.query(i)
		clear(p)
		for e, x := range q {
			for j, k := range keys[e*BlockKeys : (e+1)*BlockKeys] {
				p[j] += float32(x * k)
			}
		}
		foldScores(qs, i, from, to)
		rescale(acc, qs.factors[i])
		for j := from; j < to; j++ {
			for e, v := range values[j*qs.d : (j+1)*qs.d] {
				acc[e] += float32(p[j] * v)
			}
		}
	}
}

func (g generic) attendF16(qs *Queries, lo, hi int, keys, values []uint16, from, to int) {
	g.fromF16(qs.keys, keys[:len(qs.keys)])
	g.fromF16(qs.values[:to*qs.d], values[:to*qs.d])
	g.attendF32(qs, lo, hi, qs.keys, qs.values, from, to)
}

// query is what belongs to query i.
func (qs *Queries) query(i int) (q, acc, scores []float32) {
	return qs.q[i*qs.d : (i+1)*qs.d], qs.acc[i*qs.d : (i+1)*qs.d], qs.scores[i*BlockKeys : (i+1)*BlockKeys]
}

func rescale(x []float32, by float32) {
	for i := range x {
		x[i] *= by
	}
}

// foldScores makes weights of query i's scores of the keys [from, to), and zeros of
// the others: exp(score - top), where top is the largest score so far. NaNs don't
// count for that: they show in the weights. All sets give the same bits.
func foldScores(qs *Queries, i, from, to int) {
	p := qs.scores[i*BlockKeys : (i+1)*BlockKeys]
	forget(p[:from])
	forget(p[to:])
	before := qs.tops[i]
	top := before
	for _, v := range p {
		if v > top {
			top = v
		}
	}
	qs.tops[i], qs.factors[i] = top, 1
	if top != before {
		qs.factors[i] = expF32(before - top)
	}
	for j, v := range p {
		p[j] = expF32(v - top)
	}
	// In the order of the assembly: lanes of 8, and then the lanes.
	var s [8]float32
	for l := range s {
		s[l] = (p[l] + p[8+l]) + (p[16+l] + p[24+l])
	}
	for m := 4; m > 0; m /= 2 {
		for l := range m {
			s[l] += s[l+m]
		}
	}
	qs.sums[i] = float32(qs.sums[i]*qs.factors[i]) + s[0]
}

// forget takes scores out of the count.
func forget(scores []float32) {
	for j := range scores {
		scores[j] = float32(math.Inf(-1))
	}
}

// ToF16 narrows src to float16, to nearest with ties to even.
func (s *Set) ToF16(dst []uint16, src []float32) {
	mustMatch("ToF16", len(dst), len(src))
	s.impl.toF16(dst, src)
}

// FromF16 widens src, which is exact.
func (s *Set) FromF16(dst []float32, src []uint16) {
	mustMatch("FromF16", len(dst), len(src))
	s.impl.fromF16(dst, src)
}

func mustMatch(op string, a, b int) {
	if a != b {
		panic(fmt.Sprintf("kernel: %s of %d and %d elements", op, a, b))
	}
}

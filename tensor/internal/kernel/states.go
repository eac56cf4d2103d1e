package kernel

import "math"

// States are how far the attention of some queries of d elements has come. A
// state is the largest score so far, the sum of all weights relative to it and
// the sum of the values so weighted: the online softmax (Milakov and Gimelshein
// 2018, https://arxiv.org/abs/1805.02867).
type States struct {
	d    int
	acc  []float32 // [state][d]
	tops []float32 // [state] largest score
	sums []float32 // [state] of weights
	ones []float32 // [d]
}

// StatesBytes is what States take, math.MaxInt64 if that can't be counted.
func StatesBytes(states, d int) int64 {
	const mostStates, mostElements = 1 << 24, 1 << 20
	if states < 0 || d < 0 || states > mostStates || d > mostElements {
		return math.MaxInt64
	}
	n, e := int64(states), int64(d)
	return 4*(n*e+2*n+e) + 2*alignment
}

// NewStates returns so many states, to be begun with Reset.
func NewStates(states, d int) *States {
	st := &States{d: d, acc: aligned[float32](states * d), tops: make([]float32, states), sums: make([]float32, states), ones: aligned[float32](d)}
	for i := range st.ones {
		st.ones[i] = 1
	}
	return st
}

// Len is the number of states.
func (st *States) Len() int { return len(st.tops) }

// Reset makes state i that of a query which has seen no key.
func (st *States) Reset(i int) {
	clear(st.at(i))
	st.tops[i], st.sums[i] = float32(math.Inf(-1)), 0
}

func (st *States) at(i int) []float32 { return st.acc[i*st.d : (i+1)*st.d] }

func (st *States) empty(i int) bool { return st.sums[i] == 0 }

// Fold lets state i of into have seen what state j of from has, too, and resets
// that one. Folding parts of the keys into a state one after the other gives
// the same bits whoever has computed the parts.
//
// Source: Dao et al. 2023, https://crfm.stanford.edu/2023/10/12/flashdecoding.html.
func (s *Set) Fold(into *States, i int, from *States, j int) {
	mustMatch("Fold", into.d, from.d)
	a, b := into.at(i), from.at(j)
	switch {
	case from.empty(j):
		return
	case into.empty(i):
		copy(a, b)
		into.tops[i], into.sums[i] = from.tops[j], from.sums[j]
	default:
		top := into.tops[i]
		if from.tops[j] > top {
			top = from.tops[j]
		}
		s.lift(into, i, top)
		s.lift(from, j, top)
		s.impl.add(a, b)
		into.sums[i] += from.sums[j]
	}
	from.Reset(j)
}

// lift makes a state one relative to another top.
func (s *Set) lift(st *States, i int, top float32) {
	if st.tops[i] == top {
		return
	}
	factor := expF32(st.tops[i] - top)
	s.impl.scaleBy(st.at(i), st.at(i), st.ones, factor)
	st.tops[i], st.sums[i] = top, float32(st.sums[i]*factor)
}

// End sets out to the attention of state i.
func (s *Set) End(st *States, i int, out []float32) {
	mustMatch("End", len(out), st.d)
	s.impl.scaleBy(out, st.at(i), st.ones, 1/st.sums[i])
}

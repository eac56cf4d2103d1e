package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/dunlin-go/dunlin/internal/guard"
)

// attention is random queries, keys and values for tests.
type attention struct {
	queries, d       int
	first, n         int // the keys [first, n) count
	q                []float32
	keys, values     []uint16 // [block][d][key] and [key][d], up to whole blocks
	keys32, values32 []float32
	scale            float32
	folds            bool // each block's states into those before
}

func newAttention(r *rand.Rand, queries, d, n int) *attention {
	a := &attention{queries: queries, d: d, first: max(0, r.IntN(2*n)-n), n: n, q: normals(r, queries*d), scale: float32(1 / math.Sqrt(float64(d)))}
	size := (n + BlockKeys - 1) / BlockKeys * BlockKeys * d
	a.keys, a.values = make([]uint16, size), make([]uint16, size)
	a.keys32, a.values32 = normals(r, size), normals(r, size)
	for j := range size / d { // what nobody may see
		if j >= a.first && j < n {
			continue
		}
		for e := range d {
			a.keys32[a.key(j, e)], a.values32[j*d+e] = float32(math.NaN()), float32(math.Inf(1))
		}
	}
	for _, p := range []struct {
		h []uint16
		f []float32
	}{{a.keys, a.keys32}, {a.values, a.values32}} {
		genericSet.ToF16(p.h, p.f)
		genericSet.FromF16(p.f, p.h)
	}
	return a
}

// key is where element e of key j is.
func (a *attention) key(j, e int) int {
	return j/BlockKeys*BlockKeys*a.d + e*BlockKeys + j%BlockKeys
}

// run lets the queries [lo, hi) attend to the keys that count, whose blocks it puts into
// guarded memory where there is some.
func (a *attention) run(s *Set, lo, hi int, half bool, regions *[2]*guard.Region) []float32 {
	return a.runIn(NewQueries(hi-lo, a.d), s, lo, half, regions)
}

// runIn is run for as many queries as qs has, in the memory of that.
func (a *attention) runIn(qs *Queries, s *Set, lo int, half bool, regions *[2]*guard.Region) []float32 {
	hi := lo + qs.Len()
	folded := NewStates(hi-lo, a.d)
	for i := range hi - lo {
		folded.Reset(i)
		s.Begin(qs, i, a.q[(lo+i)*a.d:][:a.d], a.scale)
	}
	for first := a.first / BlockKeys * BlockKeys; first < a.n; first += BlockKeys {
		a.attend(s, qs, hi-lo, half, first, regions)
		if a.folds {
			for i := range hi - lo {
				s.Fold(folded, i, &qs.States, i)
			}
		}
	}
	out := make([]float32, (hi-lo)*a.d)
	for i := range hi - lo {
		s.Fold(folded, i, &qs.States, i) // a copy, if not the last
		s.End(folded, i, out[i*a.d:][:a.d])
	}
	return out
}

// attend lets the queries attend to the block that begins with key number first.
func (a *attention) attend(s *Set, qs *Queries, queries int, half bool, first int, regions *[2]*guard.Region) {
	from, n := max(0, a.first-first), min(BlockKeys, a.n-first)
	at, keysEnd, end := first*a.d, (first+BlockKeys)*a.d, (first+n)*a.d
	if half {
		k, v := a.keys[at:keysEnd], a.values[at:end]
		if regions != nil {
			k, v = place(regions[0], k, n%2 == 0), place(regions[1], v, n%2 == 0)
		}
		s.AttendF16(qs, 0, queries, k, v, from, n)
		return
	}
	k, v := a.keys32[at:keysEnd], a.values32[at:end]
	if regions != nil {
		k, v = place(regions[0], k, n%2 == 0), place(regions[1], v, n%2 == 0)
	}
	s.AttendF32(qs, 0, queries, k, v, from, n)
}

// check compares the attention of query i with float64 arithmetic.
func (a *attention) check(t *testing.T, what string, i int, got []float32) {
	t.Helper()
	q := a.q[i*a.d:][:a.d]
	scores, top, wrong := make([]float64, a.n), math.Inf(-1), 0.0
	for j := range scores {
		if j < a.first {
			scores[j] = math.Inf(-1)
			continue
		}
		var size float64
		for e, v := range q {
			p := float64(v) * float64(a.keys32[a.key(j, e)]) * float64(a.scale)
			scores[j] += p
			size += math.Abs(p)
		}
		top = max(top, scores[j])
		wrong = max(wrong, float64(a.d+3)*eps*size)
	}
	var sum float64
	for j, s := range scores {
		scores[j] = math.Exp(s - top)
		sum += scores[j]
	}
	for e := range a.d {
		var want, size float64
		for j := a.first; j < a.n; j++ {
			p := scores[j]
			want += p / sum * float64(a.values32[j*a.d+e])
			size += p / sum * math.Abs(float64(a.values32[j*a.d+e]))
		}
		// Errors of a score and of its distance from the top multiply a weight
		// above and below the line; then come the roundings of two sums.
		bound := size * (2*(2*wrong+(10+20)*eps) + float64(2*a.n+11)*eps)
		if !(math.Abs(float64(got[e])-want) <= bound) {
			t.Fatalf("%s: element %d of query %d is %g, want %g within %g", what, e, i, got[e], want, bound)
		}
	}
}

// TestAttention holds the attention to float64 arithmetic, and to the same
// bits whatever other queries there are and whether the block is float16 or
// float32, for heads with and without whole vectors.
func TestAttention(t *testing.T) {
	eachSet(t, func(t *testing.T, s *Set) {
		r := newRand(t)
		regions := [2]*guard.Region{guard.New(t, 4*BlockKeys*256), guard.New(t, 4*BlockKeys*256)}
		for _, d := range []int{1, 8, 16, 24, 32, 40, 64, 80, 96, 100, 128, 256} {
			for _, n := range []int{1, 2, 3, 4, 5, 31, 32, 33, 64, 100} {
				a := newAttention(r, 1+r.IntN(30), d, n)
				what := fmt.Sprintf("d=%d keys=[%d, %d) queries=%d", d, a.first, n, a.queries)
				want := a.runIn(guardedQueries(t, a.queries, d, n%3 == 0), s, 0, false, &regions)
				mustSame(t, what+" float16", a.runIn(guardedQueries(t, a.queries, d, n%3 == 1), s, 0, true, &regions), want)
				for i := range a.queries {
					alone := a.run(s, i, i+1, r.IntN(2) == 0, nil)
					mustSame(t, what+" alone", alone, want[i*d:(i+1)*d])
					a.check(t, what, i, alone)
				}
				a.folds = true
				folded := a.run(s, 0, a.queries, true, nil)
				for i := range a.queries {
					a.check(t, what+" folded", i, folded[i*d:(i+1)*d])
				}
			}
		}
	})
}

// TestAttentionUnusual gives a query, a key that all see or a value an element that isn't
// finite: it shows in all elements of that query, in all results, or in that element, and
// in Q8_0 in those that share its scale; folding blocks loses none. An infinite key is left to those who store it: its
// score may be minus infinity, whose weight is 0.
func TestAttentionUnusual(t *testing.T) {
	const queries, d, n = 7, 64, 70
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	eachSet(t, func(t *testing.T, s *Set) {
		r := newRand(t)
		for round := range 90 {
			a := newAttention(r, queries, d, n)
			a.folds = round%2 == 1
			i, j, e := r.IntN(queries), a.first+r.IntN(n-a.first), r.IntN(d)
			v := []float32{nan, inf, -inf}[round%3]
			what, hit := "", func(query, _ int) bool { return query == i }
			switch round / 3 % 3 {
			case 0:
				what, a.q[i*d+e] = "query", v
			case 1:
				what, v, hit = "key", nan, func(int, int) bool { return true }
				a.keys32[a.key(j, e)], a.keys[a.key(j, e)] = v, f32to16(v)
			case 2:
				what, hit = "value", func(_, element int) bool { return element == e }
				a.values32[j*d+e], a.values[j*d+e] = v, f32to16(v)
			}
			check := func(pages string, got []float32, block int) {
				t.Helper()
				for at, x := range got {
					want := hit(at/d, at%d) || what == "value" && at%d/block == e/block
					if finite := x-x == 0; finite == want {
						t.Fatalf("%g in a %s in %s: element %d of query %d is %g", v, what, pages, at%d, at/d, x)
					}
				}
			}
			check("F32", a.run(s, 0, queries, false, nil), 1)
			check("F16", a.run(s, 0, queries, true, nil), 1)
			check("Q8_0", a.quantised(r).run(s, 0, queries, nil), BlockLen)
		}
	})
}

// TestAttentionOfSome lets some of the queries attend: they come to what they come to
// alone, and nothing of the others changes.
func TestAttentionOfSome(t *testing.T) {
	const queries, d = 30, 64
	eachSet(t, func(t *testing.T, s *Set) {
		r := newRand(t)
		for range 60 {
			a := newAttention(r, queries, d, 1+r.IntN(BlockKeys))
			q8, qs := a.quantised(r), NewQueries(queries, d)
			lo := r.IntN(queries)
			hi := lo + r.IntN(queries-lo) + 1
			for pages, attend := range map[string]func(qs *Queries, lo, hi int){
				"F32": func(qs *Queries, lo, hi int) { s.AttendF32(qs, lo, hi, a.keys32, a.values32, a.first, a.n) },
				"F16": func(qs *Queries, lo, hi int) { s.AttendF16(qs, lo, hi, a.keys, a.values, a.first, a.n) },
				"Q8_0": func(qs *Queries, lo, hi int) {
					s.AttendQ8(qs, lo, hi, q8.keyBlocks[0], q8.valueBlocks[0], a.first, a.n)
				},
			} {
				alone := NewQueries(1, d)
				for _, x := range [][]float32{qs.scores, qs.factors} {
					copy(x, filled(len(x), 12345))
				}
				for i := range queries {
					s.Begin(qs, i, a.q[i*d:][:d], a.scale)
				}
				attend(qs, lo, hi)
				for i := range queries {
					s.Begin(alone, 0, a.q[i*d:][:d], a.scale)
					copy(alone.scores, filled(BlockKeys, 12345))
					alone.factors[0] = 12345
					if i >= lo && i < hi {
						attend(alone, 0, 1)
					}
					what := fmt.Sprintf("%s: query %d beside [%d, %d)", pages, i, lo, hi)
					q, acc, scores := qs.query(i)
					wantQ, wantAcc, wantScores := alone.query(0)
					mustSame(t, what, q, wantQ)
					mustSame(t, what+": sums of values", acc, wantAcc)
					mustSame(t, what+": weights", scores, wantScores)
					mustSame(t, what, []float32{qs.tops[i], qs.sums[i], qs.factors[i]}, []float32{alone.tops[0], alone.sums[0], alone.factors[0]})
				}
			}
		}
	})
}

// TestFoldScores compares the weights of each set with portable Go's, bit for
// bit, for scores of all sizes and kinds.
func TestFoldScores(t *testing.T) {
	const d = 16
	kinds := []float32{0, 1, -1, 100, -100, 1e30, -1e30, float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN())}
	eachSet(t, func(t *testing.T, s *Set) {
		r := newRand(t)
		unit := make([]float32, BlockKeys*d) // keys whose products are the queries' first element times theirs
		values := make([]float32, BlockKeys*d)
		for i := range 300 {
			queries := []int{1, 5, 16, 17, 64, 65, 130}[i%7]
			qs, want := NewQueries(queries, d), NewQueries(queries, d)
			for i := range queries {
				q := make([]float32, d)
				q[0] = kinds[1+r.IntN(4)]
				s.Begin(qs, i, q, 1)
				genericSet.Begin(want, i, q, 1)
			}
			for range 1 + r.IntN(4) {
				n := 1 + r.IntN(BlockKeys)
				for j := range n {
					unit[j] = float32(r.NormFloat64())
					if r.IntN(20) == 0 {
						unit[j] = kinds[r.IntN(len(kinds))]
					}
				}
				from := max(0, r.IntN(2*n)-n)
				s.AttendF32(qs, 0, queries, unit, values, from, n)
				genericSet.AttendF32(want, 0, queries, unit, values, from, n)
			}
			mustSame(t, "tops", qs.tops, want.tops)
			mustSame(t, "sums", qs.sums, want.sums)
			mustSame(t, "factors", qs.factors, want.factors)
			mustSame(t, "weights", qs.scores, want.scores)
		}
	})
}

// TestFoldFarApart folds states whose scores differ by so much that the exponential of
// the difference is 0, or would overflow the other way round.
func TestFoldFarApart(t *testing.T) {
	const d = 16
	eachSet(t, func(t *testing.T, s *Set) {
		one := func(score, value float32) *States {
			qs, q, key := NewQueries(1, d), make([]float32, d), make([]float32, BlockKeys*d)
			q[0], key[0] = 1, score
			s.Begin(qs, 0, q, 1)
			s.AttendF32(qs, 0, 1, key, filled(d, value), 0, 1)
			return &qs.States
		}
		for _, scores := range [][2]float32{{0, 200}, {200, 0}, {-200, 0}, {0, -200}, {1e30, -1e30}, {-1e30, 1e30}, {3, 3}, {7, 6}} {
			a, b, out := one(scores[0], 1), one(scores[1], 2), make([]float32, d)
			s.Fold(a, 0, b, 0)
			s.End(a, 0, out)
			w := 1 / (1 + math.Exp(float64(scores[0])-float64(scores[1]))) // of the second value
			if want := (1 - w) + 2*w; !(math.Abs(float64(out[d-1])-want) < 16*eps*want) {
				t.Errorf("scores %g: %g, want %g", scores, out[d-1], want)
			}
			if !b.empty(0) {
				t.Errorf("scores %g: the state that was folded isn't empty", scores)
			}
		}
	})
}

// TestQueriesBytes holds the price to what is allocated.
func TestQueriesBytes(t *testing.T) {
	qs := NewQueries(24, 64)
	var n int64
	for _, s := range [][]float32{qs.q, qs.acc, qs.scores, qs.tops, qs.sums, qs.factors, qs.ones, qs.keys, qs.values, qs.scaled} {
		n += 4 * int64(len(s))
	}
	if got := QueriesBytes(24, 64); got < n || got > n+7*alignment {
		t.Errorf("price %d, allocated %d", got, n)
	}
	for _, tc := range [][2]int{{-1, 1}, {1, -1}, {math.MaxInt, 2}, {2, math.MaxInt}} {
		if got := QueriesBytes(tc[0], tc[1]); got != math.MaxInt64 {
			t.Errorf("%v queries are priced %d", tc, got)
		}
	}
	if !slices.Equal(qs.sums, make([]float32, 24)) {
		t.Error("new queries aren't empty")
	}
}

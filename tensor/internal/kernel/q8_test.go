package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/dunlin-go/dunlin/internal/guard"
)

// attentionQ8 is attention whose keys and values are what blocks of Q8_0 hold.
type attentionQ8 struct {
	*attention
	keyBlocks, valueBlocks [][]byte
}

func newAttentionQ8(r *rand.Rand, queries, d, n int) *attentionQ8 {
	return newAttention(r, queries, d, n).quantised(r)
}

// quantised is plain with blocks of Q8_0, whose values become its own.
func (plain *attention) quantised(r *rand.Rand) *attentionQ8 {
	a, d, n := &attentionQ8{attention: plain}, plain.d, plain.n
	acts, key := NewActs(1, d), make([]float32, d)
	for first := 0; first < n; first += BlockKeys {
		k, v := make([]byte, Q8Bytes(d)), make([]byte, Q8Bytes(d))
		for j := range BlockKeys {
			// Scales of all sizes, or one that is missed by a block would hide.
			size := float32(math.Exp(r.NormFloat64()))
			for e := range key {
				key[e] = a.keys32[a.key(first+j, e)]
				if e/BlockLen%2 == 1 {
					key[e] *= size
				}
			}
			value := a.values32[(first+j)*d:][:d]
			for e := range value {
				value[e] *= 1 + float32(e/BlockLen)
			}
			genericSet.StoreKeyQ8(k, j, key, acts)
			genericSet.StoreValueQ8(v, j, value, acts)
			for e := range d {
				a.keys32[a.key(first+j, e)] = valueQ8(k, d, e*BlockKeys+j, e, j)
				value[e] = valueQ8(v, d, j*d+e, e, j)
			}
		}
		a.keyBlocks, a.valueBlocks = append(a.keyBlocks, k), append(a.valueBlocks, v)
	}
	return a
}

// run is attention.run with blocks of Q8_0.
func (a *attentionQ8) run(s *Set, lo, hi int, regions *[2]*guard.Region) []float32 {
	return a.runIn(NewQueries(hi-lo, a.d), s, lo, regions)
}

// runIn is run for as many queries as qs has, in the memory of that.
func (a *attentionQ8) runIn(qs *Queries, s *Set, lo int, regions *[2]*guard.Region) []float32 {
	hi := lo + qs.Len()
	for i := range hi - lo {
		s.Begin(qs, i, a.q[(lo+i)*a.d:][:a.d], a.scale)
	}
	for b := a.first / BlockKeys; b < len(a.keyBlocks); b++ {
		k, v := a.keyBlocks[b], a.valueBlocks[b]
		if regions != nil {
			k, v = place(regions[0], k, b%2 == 0), place(regions[1], v, b%2 == 0)
		}
		s.AttendQ8(qs, 0, hi-lo, k, v, max(0, a.first-b*BlockKeys), min(BlockKeys, a.n-b*BlockKeys))
	}
	out := make([]float32, (hi-lo)*a.d)
	for i := range hi - lo {
		s.End(&qs.States, i, out[i*a.d:][:a.d])
	}
	return out
}

// TestAttentionQ8 holds the attention over blocks of Q8_0 to float64 arithmetic on
// the values that they hold, and to the same bits whatever other queries there are
// and whichever assembly computes it.
func TestAttentionQ8(t *testing.T) {
	r := newRand(t)
	regions := [2]*guard.Region{guard.New(t, Q8Bytes(256)), guard.New(t, Q8Bytes(256))}
	for _, d := range []int{32, 64, 96, 128, 160, 256} {
		for _, n := range []int{1, 2, 3, 31, 32, 33, 64, 100} {
			a := newAttentionQ8(r, 1+r.IntN(30), d, n)
			var assembly []float32
			for _, s := range Sets() {
				what := fmt.Sprintf("%v: d=%d keys=[%d, %d) queries=%d", s, d, a.first, n, a.queries)
				got := a.runIn(guardedQueries(t, a.queries, d, n%3 == 0), s, 0, &regions)
				for i := range a.queries {
					mustSame(t, what+" alone", a.run(s, i, i+1, nil), got[i*d:(i+1)*d])
					a.check(t, what, i, got[i*d:(i+1)*d])
				}
				if s == genericSet {
					continue
				}
				if assembly != nil {
					mustSame(t, what+" beside other assembly", got, assembly)
				}
				assembly = got
			}
		}
	}
}

// TestStoreQ8 holds what is stored to what went in: no other scale would leave a
// squared error that is much less, and all sets store the same bytes.
func TestStoreQ8(t *testing.T) {
	eachSet(t, func(t *testing.T, s *Set) {
		r := newRand(t)
		for range 200 {
			d := BlockLen * (1 + r.IntN(8))
			x, j := normals(r, d), r.IntN(BlockKeys)
			for b := range d / BlockLen {
				size := float32(math.Exp2(float64(r.IntN(16) - 8)))
				for e := range BlockLen {
					x[b*BlockLen+e] *= size
				}
			}
			acts := NewActs(1, d)
			k, v, wantK, wantV := make([]byte, Q8Bytes(d)), make([]byte, Q8Bytes(d)), make([]byte, Q8Bytes(d)), make([]byte, Q8Bytes(d))
			s.StoreKeyQ8(k, j, x, acts)
			s.StoreValueQ8(v, j, x, acts)
			genericSet.StoreKeyQ8(wantK, j, x, acts)
			genericSet.StoreValueQ8(wantV, j, x, acts)
			if !slices.Equal(k, wantK) || !slices.Equal(v, wantV) {
				t.Fatalf("d=%d: not the bytes of portable Go", d)
			}
			for b := range d / BlockLen {
				var top, wrong, plain float64
				for _, v := range x[b*BlockLen:][:BlockLen] {
					top = max(top, math.Abs(float64(v)))
				}
				for e := b * BlockLen; e < (b+1)*BlockLen; e++ {
					key, value := valueQ8(k, d, e*BlockKeys+j, e, j), valueQ8(v, d, j*d+e, e, j)
					if key != value {
						t.Fatalf("element %d is %g as a key, %g as a value", e, key, value)
					}
					step := top / 127
					off, rounded := float64(x[e]-value), float64(x[e])-step*math.RoundToEven(float64(x[e])/step)
					wrong, plain = wrong+off*off, plain+rounded*rounded
					if math.Abs(off) > 2*step {
						t.Fatalf("element %d of %g is stored as %g, a step is %g", e, x[e], value, step)
					}
				}
				// Rounding the scale to float16 moves the numbers by less than 2^-11 of
				// themselves.
				if wrong > 1.001*plain+BlockLen*top*top*0x1p-22 {
					t.Fatalf("the squared error is %g, of the scale max/127 %g", wrong, plain)
				}
			}
		}
	})
}

// TestStoreQ8Unusual: zeros stay, what is too small for a scale becomes zero, and NaNs,
// infinities and what is too large show in every element of a block and in no other.
func TestStoreQ8Unusual(t *testing.T) {
	eachSet(t, func(t *testing.T, s *Set) {
		const d, j = 2 * BlockLen, 5
		for _, tc := range []struct {
			x      float64
			finite bool
		}{{0, true}, {1e-9, true}, {-1e-40, true}, {1e30, false}, {math.Inf(-1), false}, {math.NaN(), false}} {
			x := make([]float32, d)
			x[3] = float32(tc.x)
			for e := BlockLen; e < d; e++ {
				x[e] = 127
			}
			block := make([]byte, Q8Bytes(d))
			s.StoreValueQ8(block, j, x, NewActs(1, d))
			for e := range d {
				got := valueQ8(block, d, j*d+e, e, j)
				switch {
				case e >= BlockLen:
					if got != 127 {
						t.Errorf("beside %g: %g, want 127", tc.x, got)
					}
				case tc.finite && got != 0 || !tc.finite && got-got == 0:
					t.Errorf("%g: element %d is %g", tc.x, e, got)
				}
			}
		}
	})
}

package tensor

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/dunlin-go/dunlin/internal/exec"
	"github.com/dunlin-go/dunlin/tensor/internal/kernel"
)

// TestAttentionOverSpans attends to several spans: close to float64, and with the
// same bits whether spans are different threads' or one's, whatever else is in the
// batch, and where there is memory for few of them.
func TestAttentionOverSpans(t *testing.T) {
	for _, window := range []int{0, spanKeys, spanKeys + 100} {
		t.Run(fmt.Sprint("window ", window), func(t *testing.T) {
			a := newAttentionCaseOf(rand.New(rand.NewPCG(7, 8)), F16, spanKeys+40, 2*spanKeys+70)
			a.window = window
			c, step := compute(t, 1, ActivationsInt8)
			all := a.run(c, step, true)
			row := a.heads * a.kv.HeadDim
			for token := 0; token < a.batch.Len(); token += 17 {
				for head := range a.heads {
					for i, want := range a.want(token, head) {
						if got := float64(all[token*row+head*a.kv.HeadDim+i]); !(math.Abs(want-got) < 4e-3) {
							t.Fatalf("element %d of head %d of token %d is %g, want %g", i, head, token, got, want)
						}
					}
				}
			}
			n := a.batch.Len()
			for _, tc := range []struct {
				name   string
				tokens []int // of the batch, with those of a sequence in a row
				cut    bool  // spans are parts
			}{
				{"one token", []int{n - 1}, true},
				{"a chunk", []int{n - 4, n - 3, n - 2, n - 1}, true},
				{"a token of a short sequence and a chunk of a long one", []int{20, n - 4, n - 3, n - 2, n - 1}, true},
				{"a chunk over the edge of a span", []int{spanKeys - 2, spanKeys - 1, spanKeys, spanKeys + 1}, true},
				{"a token whose tile has windows that begin in two spans", []int{spanKeys + 40 + 2*spanKeys - 4}, true},
				{"a token that sees one span", []int{spanKeys - 1}, false},
			} {
				b, q, want := a.only(tc.tokens), []float32{}, []float32{}
				for _, i := range tc.tokens {
					q, want = append(q, a.q[i*row:][:row]...), append(want, all[i*row:][:row]...)
				}
				for threads := 1; threads <= 3; threads++ {
					for _, states := range []int{spanStates * threads, 40, 0} {
						c, step := compute(t, threads, ActivationsInt8)
						c.attention.states = kernel.NewStates(states, a.kv.HeadDim)
						got := make([]float32, len(q))
						step(func() {
							c.Attention(got, q, AttentionOptions{Heads: a.heads, Window: window}, &a.kv, 1, b)
						})
						what := fmt.Sprintf("%s, %d threads, memory for %d states", tc.name, threads, states)
						if !slices.Equal(got, want) {
							t.Errorf("%s: other bits", what)
						}
						cut := slices.ContainsFunc(c.attention.parts, func(p attentionPart) bool { return p.slot >= 0 })
						if states >= spanStates && cut != tc.cut {
							t.Errorf("%s: cut in spans: %v", what, cut)
						}
					}
				}
			}
		})
	}
}

// TestAttentionAfterAFailedStep: spans that a step has computed before it failed leave
// nothing behind for the next one.
func TestAttentionAfterAFailedStep(t *testing.T) {
	a := newAttentionCaseOf(rand.New(rand.NewPCG(7, 8)), F16, 3*spanKeys)
	c, step := compute(t, 1, ActivationsInt8)
	all := a.run(c, step, true)
	last, row := a.batch.Len()-1, a.heads*a.kv.HeadDim
	b, got := a.only([]int{last}), make([]float32, row)
	attend := func() error {
		c.Attention(got, a.q[last*row:], AttentionOptions{Heads: a.heads}, &a.kv, 1, b)
		return nil
	}
	ex := exec.New(1)
	defer ex.Close()
	for at := range 3 {
		page := &b.Tables[0][at*spanKeys/PageTokens+1]
		right := *page
		*page = math.MaxInt32
		var failed *exec.PanicError
		if err := c.Step(context.Background(), ex, attend); !errors.As(err, &failed) {
			t.Fatalf("a page that isn't there: %v", err)
		}
		*page = right
		step(func() { attend() })
		if !slices.Equal(got, all[last*row:]) {
			t.Errorf("other bits after span %d failed", at)
		}
	}
}

// TestAttentionOfManyHeads has more heads to a key head than a tile has queries, and spans
// that aren't cut for that.
func TestAttentionOfManyHeads(t *testing.T) {
	a := newAttentionCaseOf(rand.New(rand.NewPCG(7, 8)), F32, spanKeys+40)
	a.heads = 2 * (tileQueries + 5)
	row := a.heads * a.kv.HeadDim
	a.q = normal(rand.New(rand.NewPCG(9, 10)), a.batch.Len()*row)
	tokens := []int{20, spanKeys - 1, spanKeys, spanKeys + 39}
	b, q := a.only(tokens), []float32{}
	for _, i := range tokens {
		q = append(q, a.q[i*row:][:row]...)
	}
	for threads := 1; threads <= 2; threads++ {
		c, step := compute(t, threads, ActivationsInt8)
		got := make([]float32, len(q))
		step(func() {
			c.StoreKV(&a.kv, 1, nil, a.k[0], a.v[0], nil, &a.batch)
			c.Attention(got, q, AttentionOptions{Heads: a.heads}, &a.kv, 1, b)
		})
		for i, token := range tokens {
			for head := range a.heads {
				for e, want := range a.want(token, head) {
					if got := float64(got[i*row+head*a.kv.HeadDim+e]); !(math.Abs(want-got) < 1e-5) {
						t.Fatalf("element %d of head %d of token %d is %g, want %g", e, head, token, got, want)
					}
				}
			}
		}
	}
}

// TestPlacesAreApart: no two layers share a place on a page of a group.
func TestPlacesAreApart(t *testing.T) {
	kv := KV{Layers: 3, Order: []int32{5, 0, 3, 1, 8, 2, 4, 7, 6}}
	seen := map[[2]int]bool{}
	for layer, order := range kv.Order {
		group, groups, at := kv.place(layer)
		if groups != 3 || group != int(order)/3 || at < 0 || at >= kv.Layers || seen[[2]int{group, at}] {
			t.Errorf("layer %d is at %d of group %d of %d", layer, at, group, groups)
		}
		seen[[2]int{group, at}] = true
	}
}

// only is the batch of some of its tokens.
func (a *attentionCase) only(tokens []int) *Batch {
	b := &Batch{Tables: a.batch.Tables}
	for _, i := range tokens {
		b.Tokens = append(b.Tokens, a.batch.Tokens[i])
		b.Positions = append(b.Positions, a.batch.Positions[i])
		b.Seqs = append(b.Seqs, a.batch.Seqs[i])
	}
	return b
}

// TestAttentionCountsPairs: of a batch's tokens and what they attend to, within their
// windows, for each layer; not of the step before.
func TestAttentionCountsPairs(t *testing.T) {
	for _, window := range []int{0, 50} {
		a := newAttentionCase(rand.New(rand.NewPCG(1, 2)), F16)
		a.window = window
		c, step := compute(t, 2, ActivationsInt8)
		a.run(c, step, true)
		want := 0
		for _, p := range a.batch.Positions {
			if n := int(p) + 1; window == 0 || n <= window {
				want += n
			} else {
				want += window
			}
		}
		// A tile counts what its last token sees for each of them.
		for range 2 {
			got := c.AttentionCost()
			if got.Pairs < want || got.Pairs > want+8*a.batch.Len() || got.Took <= 0 {
				t.Errorf("a window of %d: %+v, want %d", window, got, want)
			}
			a.run(c, step, true)
		}
	}
}

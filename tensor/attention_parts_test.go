package tensor

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

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

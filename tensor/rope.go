package tensor

import (
	"math"

	"github.com/dunlin-go/dunlin/tensor/internal/kernel"
)

// RopeTable has the cosines and sines of one batch's rotary position
// embedding, `[tokens, dims/2]` each.
type RopeTable struct {
	dims     int
	freqs    []float32
	cos, sin []float32
}

// NewRope returns a table for the frequencies base^(-2i/dims), each divided by
// its factor where factors `[dims/2]` isn't nil, with room for maxTokens.
//
// Source: Su et al. 2021, https://arxiv.org/abs/2104.09864.
func NewRope(dims int, base float64, factors []float32, maxTokens int) *RopeTable {
	r := &RopeTable{dims: dims, freqs: make([]float32, dims/2)}
	for i := range r.freqs {
		r.freqs[i] = float32(1 / math.Pow(base, float64(2*i)/float64(dims)))
		if factors != nil {
			r.freqs[i] /= factors[i]
		}
	}
	r.cos = make([]float32, maxTokens*dims/2)
	r.sin = make([]float32, maxTokens*dims/2)
	return r
}

// RopeBytes is what a table takes.
func RopeBytes(dims, maxTokens int) int64 { return int64(dims)*2 + int64(dims)*int64(maxTokens)*4 }

// SetPositions fills the table for the tokens of a batch, once for all layers.
func (r *RopeTable) SetPositions(positions []int32) {
	half := r.dims / 2
	for t, p := range positions {
		for i, f := range r.freqs {
			// The product is rounded to float32 first, as the reference does.
			sin, cos := math.Sincos(float64(float32(float32(p) * f)))
			r.cos[t*half+i], r.sin[t*half+i] = float32(cos), float32(sin)
		}
	}
}

// rotate rotates the heads x `[heads, headDim]` of token i in place: in each head
// the pairs (0,1), (2,3), ... of the first dims elements, as GGUF's llama files
// are laid out.
func (r *RopeTable) rotate(set *kernel.Set, x []float32, headDim, i int) {
	half := r.dims / 2
	cos, sin := r.cos[i*half:(i+1)*half], r.sin[i*half:(i+1)*half]
	for at := 0; at < len(x); at += headDim {
		set.RopePairs(x[at:at+r.dims], cos, sin)
	}
}

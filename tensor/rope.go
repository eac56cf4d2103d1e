package tensor

import (
	"math"

	"github.com/dunlin-go/dunlin/tensor/internal/kernel"
)

// RopeLayout says which elements of a head are rotated together.
type RopeLayout uint8

// The layouts of rotated heads; dims of their elements are rotated.
const (
	// RopePairs rotates (0,1), (2,3), ...: the paper's, and that of GGUF's llama
	// files.
	RopePairs RopeLayout = iota
	// RopeHalves rotates (0, dims/2), (1, dims/2+1), ...: GPT-NeoX's, and that of
	// most checkpoints.
	RopeHalves
)

// RopeConfig describes a rotary position embedding: element pair i of a head is
// rotated by the position times Base^(-2i/Dims), which Scaling and Factors change.
type RopeConfig struct {
	Dims    int       // elements of a head that are rotated, the first ones; even
	Base    float64   // 10,000 in the paper
	Factors []float32 // what the frequencies are divided by, `[Dims/2]`; nil: 1
	Layout  RopeLayout
	Scaling RopeScaling // nil: none
}

// RopeTable has the cosines and sines of one batch's rotary position
// embedding, `[tokens, dims/2]` each.
type RopeTable struct {
	dims     int
	layout   RopeLayout
	scale    float32 // of the cosines and sines
	freqs    []float32
	cos, sin []float32
}

// NewRope returns a table with room for maxTokens.
//
// Source: Su et al. 2021, https://arxiv.org/abs/2104.09864.
func NewRope(cfg RopeConfig, maxTokens int) *RopeTable {
	check(cfg.Dims >= 0 && cfg.Dims%2 == 0 && (cfg.Factors == nil || len(cfg.Factors) == cfg.Dims/2), "NewRope")
	freqs := make([]float64, cfg.Dims/2)
	for i := range freqs {
		freqs[i] = 1 / math.Pow(cfg.Base, float64(2*i)/float64(cfg.Dims))
	}
	r := &RopeTable{dims: cfg.Dims, layout: cfg.Layout, scale: 1, freqs: make([]float32, len(freqs))}
	if cfg.Scaling != nil {
		r.scale = float32(cfg.Scaling.scale(freqs, cfg.Base))
	}
	for i, f := range freqs {
		r.freqs[i] = float32(f)
		if cfg.Factors != nil {
			r.freqs[i] /= cfg.Factors[i]
		}
	}
	r.cos = make([]float32, maxTokens*cfg.Dims/2)
	r.sin = make([]float32, maxTokens*cfg.Dims/2)
	return r
}

// RopeBytes is what a table takes.
func RopeBytes(dims, maxTokens int) int64 { return int64(dims)*6 + int64(dims)*int64(maxTokens)*4 }

// SetPositions fills the table for the tokens of a batch, once for all layers.
func (r *RopeTable) SetPositions(positions []int32) {
	half := r.dims / 2
	for t, p := range positions {
		for i, f := range r.freqs {
			// The product is rounded to float32 first, as the reference does.
			sin, cos := math.Sincos(float64(float32(float32(p) * f)))
			r.cos[t*half+i], r.sin[t*half+i] = float32(cos)*r.scale, float32(sin)*r.scale
		}
	}
}

// rotate rotates the heads x `[heads, headDim]` of token i in place, the first dims
// elements of each.
func (r *RopeTable) rotate(set *kernel.Set, x []float32, headDim, i int) {
	half := r.dims / 2
	cos, sin := r.cos[i*half:(i+1)*half], r.sin[i*half:(i+1)*half]
	for at := 0; at < len(x); at += headDim {
		if head := x[at : at+r.dims]; r.layout == RopeHalves {
			set.RopeHalves(head, cos, sin)
		} else {
			set.RopePairs(head, cos, sin)
		}
	}
}

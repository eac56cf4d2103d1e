package tensor

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/dunlin-go/dunlin/tensor/internal/kernel"
)

// torchValues are what torch and transformers compute; the script beside the file
// makes it.
type torchValues struct {
	LayerNorm       []float32 `json:"layer_norm"`
	LayerNormNoBias []float32 `json:"layer_norm_no_bias"`
	GELUErf         []float32 `json:"gelu_erf"`
	GELUTanh        []float32 `json:"gelu_tanh"`
	GEGLUTanh       []float32 `json:"geglu_tanh"`
	SoftCap         []float32 `json:"soft_cap"`
	LinearBias      []float32 `json:"linear_bias"`

	Positions  []int32   `json:"positions"`
	Rope       torchRope `json:"rope"`
	RopeLinear torchRope `json:"rope_linear"`
	YaRN       torchRope `json:"rope_yarn"`
	YaRNOwn    torchRope `json:"rope_yarn_own"`
	Llama3     torchRope `json:"rope_llama3"`

	NeoXParallel   []float32 `json:"neox_parallel"`
	NeoXSequential []float32 `json:"neox_sequential"`
}

type torchRope struct {
	Frequencies []float64 `json:"frequencies"`
	Magnitude   float64   `json:"magnitude"`
	Rotated     []float32 `json:"rotated"`
}

func readTorchValues(t *testing.T) (v torchValues) {
	t.Helper()
	b, err := os.ReadFile("testdata/torch_values.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// values are the script's inputs: multiples of scale * 2^-15.
func values(seed uint32, n int, scale float32) []float32 {
	out := make([]float32, n)
	for i := range out {
		seed = seed*1664525 + 1013904223
		out[i] = (float32(seed>>16)/32768 - 1) * scale
	}
	return out
}

// mustBeNear demands that no element is further off than bound.
func mustBeNear(t *testing.T, what string, got, want []float32, bound float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	worst := 0.0
	for i, g := range got {
		off := math.Abs(float64(g) - float64(want[i]))
		if !(off <= bound) {
			t.Fatalf("%s: element %d is %g, want %g within %g", what, i, g, want[i], bound)
		}
		worst = max(worst, off)
	}
	t.Logf("%s: largest difference %.2g, bound %.2g", what, worst, bound)
}

// eps is a unit in the last place of 1.
const eps = 0x1p-23

// output is what a product with the identity sees of an input.
func output(t *testing.T, c *Compute, step func(func()), cols int, in func() *Input) []float32 {
	t.Helper()
	one := make([]float32, cols*cols)
	for i := range cols {
		one[i*cols+i] = 1
	}
	identity := f32Tensor(t, cols, cols, one)
	var out []float32
	step(func() {
		in := in()
		out = make([]float32, in.tokens*cols)
		c.Linear(out, identity, in)
	})
	return out
}

func TestTorchValues(t *testing.T) {
	want := readTorchValues(t)
	const cols = 64
	c, step := compute(t, 2, ActivationsInt8)
	vector := func(seed uint32, n int) *Tensor { return f32Tensor(t, 1, n, values(seed, n, 1)) }
	x := func() []float32 { return values(1, 3*cols, 8) }

	shifted := x()
	for i := range shifted {
		shifted[i] += 100
	}
	norm := make([]float32, 3*cols)
	got := output(t, c, step, cols, func() *Input { return c.LayerNormInput(norm, shifted, nil, vector(2, cols), vector(3, cols), 1e-5) })
	// The mean of numbers around 100 is a few of its units off; the deviation is 4.6.
	mustBeNear(t, "layer norm", got, want.LayerNorm, 100/4.6*4*eps)
	half := x()
	for i := range half {
		half[i] /= 2
	}
	got = output(t, c, step, cols, func() *Input {
		return c.LayerNormInput(norm, half, slices.Clone(half), vector(2, cols), nil, 1e-5)
	})
	mustBeNear(t, "layer norm of a sum, no bias", got, want.LayerNormNoBias, 2*4*eps)

	for _, tc := range []struct {
		name string
		in   func() *Input
		want []float32
	}{
		// Outputs are below 8, and as far off as the exponential is.
		{"gelu", func() *Input { return c.GELUErfInput(x(), cols) }, want.GELUErf},
		{"gelu's approximation", func() *Input { return c.GELUInput(x(), cols) }, want.GELUTanh},
		{"gelu gate", func() *Input { return c.GELUGateInput(x(), values(4, 3*cols, 1), cols) }, want.GEGLUTanh},
	} {
		mustBeNear(t, tc.name, output(t, c, step, cols, tc.in), tc.want, 8*4*eps)
	}

	capped := x()
	step(func() { c.SoftCap(capped, cols, 5) })
	mustBeNear(t, "soft cap", capped, want.SoftCap, 5*2*eps)

	w := f32Tensor(t, 48, cols, values(5, 48*cols, 0.25))
	out := make([]float32, 3*48)
	step(func() { c.Linears(c.Input(x(), cols), Product{Out: out, Weight: w, Bias: vector(6, 48)}) })
	mustBeNear(t, "linear with bias", out, want.LinearBias, cols*8*0.25*eps)
}

// TestSoftCapOfAllLengths caps rows that can't be halved as far as threads would like it.
func TestSoftCapOfAllLengths(t *testing.T) {
	c, step := compute(t, 2, ActivationsInt8)
	for _, cols := range []int{1, rowsElements, rowsElements + 1, 2*rowsElements + 2, 4*rowsElements + 3} {
		x := make([]float32, 2*cols)
		for i := range x {
			x[i] = 1000
		}
		step(func() { c.SoftCap(x, cols, 5) })
		if i := slices.IndexFunc(x, func(v float32) bool { return v != 5 }); i >= 0 {
			t.Errorf("element %d of 2 rows of %d is %g", i, cols, x[i])
		}
	}
}

func TestTorchRope(t *testing.T) {
	want := readTorchValues(t)
	for _, tc := range []struct {
		name    string
		base    float64
		scaling RopeScaling
		want    torchRope
	}{
		{"none", 10000, nil, want.Rope},
		{"linear", 10000, LinearScaling{Factor: 8}, want.RopeLinear},
		{"YaRN", 10000, YaRNScaling{Factor: 4, Original: 2048}, want.YaRN},
		{"YaRN of its own", 500000, YaRNScaling{Factor: 16, Original: 4096, BetaFast: 16, BetaSlow: 2, Magnitude: 0.9}, want.YaRNOwn},
		{"Llama 3", 500000, Llama3Scaling{Factor: 8, Original: 2048, LowFrequency: 1, HighFrequency: 4}, want.Llama3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			const heads, dim = 2, testHeadDim
			cfg := RopeConfig{Dims: dim, Base: tc.base, Layout: RopeHalves, Scaling: tc.scaling}
			table := NewRope(cfg, len(want.Positions))
			for i, f := range tc.want.Frequencies {
				// Theirs has a power in float32, and a few steps more.
				if off := math.Abs(float64(table.freqs[i])/f - 1); off > 8*eps {
					t.Errorf("frequency %d is %g, want %g", i, table.freqs[i], f)
				}
			}
			if math.Abs(float64(table.scale)/tc.want.Magnitude-1) > eps {
				t.Errorf("magnitude %g, want %g", table.scale, tc.want.Magnitude)
			}
			table.SetPositions(want.Positions)
			halves := values(7, len(want.Positions)*heads*dim, 1)
			pairs := make([]float32, len(halves))
			for i := range pairs { // element e of a head goes where the other layout has it
				head, e := i/dim*dim, i%dim
				pairs[i] = halves[head+e/2+e%2*dim/2]
			}
			other := NewRope(RopeConfig{Dims: dim, Base: tc.base, Scaling: tc.scaling}, len(want.Positions))
			other.SetPositions(want.Positions)
			set := mustSet(t)
			for i := range want.Positions {
				table.rotate(set, halves[i*heads*dim:(i+1)*heads*dim], dim, i)
				other.rotate(set, pairs[i*heads*dim:(i+1)*heads*dim], dim, i)
			}
			for i, p := range want.Positions {
				at := i * heads * dim
				// A frequency's error grows with the position.
				bound := (4 + 8*float64(p)) * eps * tc.want.Magnitude
				mustBeNear(t, "rotated", halves[at:at+heads*dim], tc.want.Rotated[at:at+heads*dim], bound)
			}
			for i, v := range pairs {
				head, e := i/dim*dim, i%dim
				if v != halves[head+e/2+e%2*dim/2] {
					t.Fatalf("element %d has other bits in the layout of pairs", i)
				}
			}
		})
	}
}

// TestParallelResidual writes a layer of GPT-NeoX, whose attention and feed-forward
// block read the same residual stream, and the same layer with one after the other.
// Layer norms and products have biases, and a quarter of each head is rotated.
//
// Source: Black et al. 2022, https://arxiv.org/abs/2204.06745.
func TestParallelResidual(t *testing.T) {
	want := readTorchValues(t)
	const tokens, heads, dim, hidden, inner, norm = 5, 2, testHeadDim, 2 * testHeadDim, 4 * testHeadDim, 1e-5
	c, step := compute(t, 2, ActivationsInt8)
	matrix := func(seed uint32, rows, cols int) *Tensor {
		return f32Tensor(t, rows, cols, values(seed, rows*cols, 0.25))
	}
	bias := func(seed uint32, n int) *Tensor { return f32Tensor(t, 1, n, values(seed, n, 0.25)) }
	vector := func(seed uint32) *Tensor { return f32Tensor(t, 1, hidden, values(seed, hidden, 1)) }
	rows := func(n int) []float32 { return make([]float32, tokens*n) }

	kv := KV{Layers: 1, Heads: heads, HeadDim: dim, F32: make([]float32, 2*heads*dim*PageTokens)}
	b := Batch{Tokens: make([]int32, tokens), Positions: []int32{0, 1, 2, 3, 4}, Seqs: make([]int32, tokens), Tables: []PageTable{{0}}}
	rope := NewRope(RopeConfig{Dims: dim / 4, Base: 10000, Layout: RopeHalves}, tokens)
	rope.SetPositions(b.Positions)
	for name, parallel := range map[string]bool{"parallel": true, "sequential": false} {
		t.Run(name, func(t *testing.T) {
			x := values(50, tokens*hidden, 4)
			q, k, v, attend, delta := rows(hidden), rows(hidden), rows(hidden), rows(hidden), rows(hidden)
			up, in, feed := rows(inner), rows(hidden), rows(hidden)
			step(func() {
				qkv := c.LayerNormInput(in, x, nil, vector(46), vector(47), norm)
				c.Linears(
					qkv,
					Product{q, matrix(20, hidden, hidden), bias(30, hidden)},
					Product{k, matrix(21, hidden, hidden), bias(31, hidden)},
					Product{v, matrix(22, hidden, hidden), bias(32, hidden)},
				)
				c.StoreKV(&kv, 0, q, k, v, rope, &b)
				c.Attention(attend, q, AttentionOptions{Heads: heads}, &kv, 0, &b)
				c.Linears(c.Input(attend, hidden), Product{delta, matrix(40, hidden, hidden), bias(41, hidden)})

				before := delta // sequential: the norm adds what the attention gave
				if parallel {
					before = nil
				}
				c.Linears(c.LayerNormInput(in, x, before, vector(48), vector(49), norm), Product{up, matrix(42, inner, hidden), bias(43, inner)})
				c.Linears(c.GELUErfInput(up, inner), Product{feed, matrix(44, hidden, inner), bias(45, hidden)})
				c.Add(x, feed, hidden)
				if parallel {
					c.Add(x, delta, hidden)
				}
			})
			expected := want.NeoXSequential
			if parallel {
				expected = want.NeoXParallel
			}
			// Five products one after the other, of at most 128 terms around one.
			mustBeNear(t, name, x, expected, 5*math.Sqrt(128)*4*eps)
		})
	}
}

func mustSet(t *testing.T) *kernel.Set {
	t.Helper()
	set, err := instructionSet()
	if err != nil {
		t.Fatal(err)
	}
	return set
}

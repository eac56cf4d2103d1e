package models_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/models"
	"github.com/dunlin-go/dunlin/tensor"
)

// gemma3 are the logits after each of the tokens.
func (r *reference) gemma3(tokens []int32) [][]float64 {
	number := func(key string, otherwise float64) float64 {
		if n, ok := r.file.Uint("gemma3." + key); ok {
			return float64(n)
		}
		if v, ok := r.file.Float("gemma3." + key); ok {
			return v
		}
		return otherwise
	}
	r.headDim = int(number("attention.key_length", float64(r.headDim)))
	window, pattern := int(number("attention.sliding_window", 0)), int(number("attention.sliding_window_pattern", 6))
	scale := number("attention.scale", 1/math.Sqrt(float64(r.headDim)))

	embedding := r.weight("token_embd.weight")
	x := make([][]float64, len(tokens))
	for t, id := range tokens {
		x[t] = append([]float64(nil), embedding.at[int(id)*r.embedding:][:r.embedding]...)
		for i := range x[t] {
			x[t][i] *= math.Sqrt(float64(r.embedding))
		}
	}
	add := func(t int, delta []float64) {
		for i, d := range delta {
			x[t][i] += d
		}
	}
	for l := range r.layers {
		base, stretch, all := number("rope.freq_base_swa", 10000), 1.0, (l+1)%pattern == 0
		if all {
			base, stretch = number("rope.freq_base", 1e6), number("rope.scaling.factor", 1)
		}
		heads := func(w, norm *matrix, x []float64, pos int) []float64 {
			x = r.mul(w, x)
			for h := 0; h < len(x); h += r.headDim {
				head := x[h : h+r.headDim]
				copy(head, r.norm(norm, head))
				rotateHalves(head, base, float64(pos)/stretch)
			}
			return x
		}
		keys, values := make([][]float64, len(tokens)), make([][]float64, len(tokens))
		for t := range tokens {
			in := r.norm(r.layer(l, "attn_norm"), x[t])
			q := heads(r.layer(l, "attn_q"), r.layer(l, "attn_q_norm"), in, t)
			for i := range q {
				q[i] *= scale * math.Sqrt(float64(r.headDim)) // attend divides by the root
			}
			keys[t] = heads(r.layer(l, "attn_k"), r.layer(l, "attn_k_norm"), in, t)
			values[t] = r.mul(r.layer(l, "attn_v"), in)
			first := 0
			if !all {
				first = max(0, t+1-window)
			}
			attended := make([]float64, 0, len(q))
			for h := range r.heads {
				kv := h * r.kvHeads / r.heads * r.headDim
				attended = append(attended, attend(q[h*r.headDim:][:r.headDim], keys[first:t+1], values[first:t+1], kv)...)
			}
			add(t, r.norm(r.layer(l, "post_attention_norm"), r.mul(r.layer(l, "attn_output"), attended)))
			in = r.norm(r.layer(l, "ffn_norm"), x[t])
			g, u := r.mul(r.layer(l, "ffn_gate"), in), r.mul(r.layer(l, "ffn_up"), in)
			for i, v := range g {
				g[i] = 0.5 * v * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(v+0.044715*v*v*v))) * u[i]
			}
			add(t, r.norm(r.layer(l, "post_ffw_norm"), r.mul(r.layer(l, "ffn_down"), g)))
		}
	}
	head := r.weight("output.weight")
	if head == nil {
		head = embedding
	}
	limit := number("final_logit_softcapping", 0)
	out := make([][]float64, len(tokens))
	for t := range tokens {
		out[t] = r.mul(head, r.norm(r.weight("output_norm.weight"), x[t]))
		for i, v := range out[t] {
			if limit > 0 {
				out[t][i] = limit * math.Tanh(v/limit)
			}
		}
	}
	return out
}

// rotateHalves turns the pairs (0, n/2), (1, n/2+1), ... of a head.
func rotateHalves(head []float64, base, pos float64) {
	half := len(head) / 2
	for i := range half {
		angle := pos * math.Pow(base, -float64(i)/float64(half))
		a, b := head[i], head[half+i]
		head[i] = a*math.Cos(angle) - b*math.Sin(angle)
		head[half+i] = a*math.Sin(angle) + b*math.Cos(angle)
	}
}

// TestGemma3Forward is TestLlamaForward for Gemma 3; the sequences are longer than
// the windows.
func TestGemma3Forward(t *testing.T) {
	for _, shape := range []struct {
		name string
		cfg  testmodel.Config
	}{
		{"tied", testmodel.Config{Seed: 1}},
		{"untied", testmodel.Config{Seed: 2, Untied: true, Layers: 3}},
		{"one key head", testmodel.Config{Seed: 3, KVHeads: 1}},
		{"a window of one", testmodel.Config{Seed: 4, Keys: map[string]any{"gemma3.attention.sliding_window": uint32(1)}}},
		{"a window of a page", testmodel.Config{Seed: 5, Keys: map[string]any{"gemma3.attention.sliding_window": uint32(32)}}},
		{"windows only", testmodel.Config{Seed: 6, Without: []string{"gemma3.attention.sliding_window_pattern"}}},
		{"a scale", testmodel.Config{Seed: 7, Keys: map[string]any{"gemma3.attention.scale": float32(0.1)}}},
		{"stretched", testmodel.Config{Seed: 8, Keys: map[string]any{"gemma3.rope.scaling.type": "linear", "gemma3.rope.scaling.factor": float32(8)}}},
		{"capped logits", testmodel.Config{Seed: 9, Keys: map[string]any{"gemma3.final_logit_softcapping": float32(30)}}},
	} {
		for _, format := range []tensor.DType{tensor.F32, tensor.F16, tensor.Q8_0, tensor.Q4_1} {
			for mode, act := range map[string]tensor.Activations{"f32": tensor.ActivationsF32, "int8": tensor.ActivationsInt8} {
				t.Run(fmt.Sprintf("%s/%v/%s", shape.name, format, mode), func(t *testing.T) {
					if testing.Short() && len(shape.cfg.Keys) > 0 && act == tensor.ActivationsInt8 {
						t.Skip("a key is read alike in both modes")
					}
					cfg := shape.cfg
					cfg.Weights, cfg.HeadType, cfg.ContextLength = format, format, 128
					compareForward(t, parse(t, testmodel.Gemma3(cfg)), act)
				})
			}
		}
	}
}

// TestGemma3LargestScale: with 62 layers, as the 27B model has them, scores are scaled by
// the embedding's share of a head, and else by the head's size.
func TestGemma3LargestScale(t *testing.T) {
	logits := func(layers int, keys map[string]any) []float32 {
		f := parse(t, testmodel.Gemma3(testmodel.Config{Seed: 10, Layers: layers, Keys: keys}))
		return newMachine(t, f, tensor.ActivationsF32, 1).step(map[int][]int32{0: {5, 9, 2, 7}})[0][3]
	}
	for layers, share := range map[int]float64{61: 32, 62: 64 / 4} {
		said := map[string]any{"gemma3.attention.scale": float32(1 / math.Sqrt(share))}
		if !slices.Equal(logits(layers, nil), logits(layers, said)) {
			t.Errorf("%d layers: the scale isn't 1/sqrt(%g)", layers, share)
		}
	}
}

// TestGemma3Refused gives files whose keys mean what isn't computed.
func TestGemma3Refused(t *testing.T) {
	for _, tc := range []struct {
		key  string
		v    any
		err  error
		says string
	}{
		{"attn_logit_softcapping", float32(50), models.ErrUnsupported, "gemma3.attn_logit_softcapping"},
		{"final_logit_softcapping", float32(0), models.ErrInvalid, "it must be finite and above zero"},
		{"attention.sliding_window", uint32(0), models.ErrInvalid, "gemma3.attention.sliding_window is 0"},
		{"attention.sliding_window_pattern", []bool{true, false}, models.ErrUnsupported, "gemma3.attention.sliding_window_pattern is an array"},
		{"attention.head_count_kv", []uint32{1, 2}, models.ErrUnsupported, "gemma3.attention.head_count_kv is an array"},
		{"attention.scale", []float32{1, 2}, models.ErrUnsupported, "gemma3.attention.scale is an array"},
		{"attention.value_length", uint32(16), models.ErrUnsupported, "gemma3.attention.value_length"},
		{"attention.head_count_kv", uint32(3), models.ErrInvalid, "4 heads can't share 3 key heads"},
		{"rope.scaling.type", "yarn", models.ErrUnsupported, `gemma3.rope.scaling.type is "yarn"`},
		{"rope.scaling.type", uint32(1), models.ErrInvalid, "gemma3.rope.scaling.type is not a text"},
		{"rope.scaling.factor", float32(8), models.ErrUnsupported, `gemma3.rope.scaling.factor is "8"`},
		{"rope.dimension_count", uint32(16), models.ErrUnsupported, "gemma3.rope.dimension_count"},
		{"mm.tokens_per_image", uint32(256), models.ErrUnsupported, "gemma3.mm.tokens_per_image"},
	} {
		t.Run(fmt.Sprintf("%s %v", tc.key, tc.v), func(t *testing.T) {
			data := testmodel.Gemma3(testmodel.Config{Keys: map[string]any{"gemma3." + tc.key: tc.v}})
			_, err := models.New(parse(t, data), models.Limits{Tokens: 8, Logits: 2}, budget.New(1<<30).Lease())
			if !errors.Is(err, tc.err) || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("%v, want %v that says %q", err, tc.err, tc.says)
			}
		})
	}
	for _, name := range []string{"attn_q_norm", "attn_k_norm", "post_attention_norm", "post_ffw_norm"} {
		data := testmodel.Gemma3(testmodel.Config{Tensor: func(t *testmodel.Tensor) { t.Omit = strings.HasSuffix(t.Name, name+".weight") }})
		_, err := models.New(parse(t, data), models.Limits{Tokens: 8, Logits: 2}, budget.New(1<<30).Lease())
		if !errors.Is(err, models.ErrInvalid) || !strings.Contains(err.Error(), name+`.weight" is missing`) {
			t.Errorf("without %s: %v", name, err)
		}
	}
}

package models_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	"github.com/dunlin-go/dunlin/models/gguf"
	"github.com/dunlin-go/dunlin/tensor"
)

// reference is a forward pass once more, llama's here, as plainly as it can be
// written: float64, one sequence, no cache, no batch, nothing of the packages
// under test but the parser.
type reference struct {
	t    *testing.T
	file *gguf.File
	arch string

	layers, embedding, heads, kvHeads, headDim, ropeDims int
	base, epsilon                                        float64

	read map[string]*matrix
	int8 bool // quantise the inputs of products as the fast path does
}

type matrix struct {
	rows, cols int
	at         []float64
	quantised  bool
}

func newReference(t *testing.T, f *gguf.File, int8 bool) *reference {
	arch, _ := f.String("general.architecture")
	num := func(key string) int {
		n, ok := f.Uint(arch + "." + key)
		if !ok {
			t.Fatalf("no %s", key)
		}
		return int(n)
	}
	r := &reference{
		t: t, file: f, arch: arch, read: map[string]*matrix{}, int8: int8, layers: num("block_count"), embedding: num("embedding_length"),
		heads: num("attention.head_count"), kvHeads: num("attention.head_count_kv"),
	}
	r.headDim = r.embedding / r.heads
	r.ropeDims = r.headDim
	if n, ok := f.Uint(arch + ".rope.dimension_count"); ok {
		r.ropeDims = int(n)
	}
	r.base, _ = f.Float(arch + ".rope.freq_base")
	r.epsilon, _ = f.Float(arch + ".attention.layer_norm_rms_epsilon")
	return r
}

// weight reads a tensor; nil where there is none.
func (r *reference) weight(name string) *matrix {
	if m, ok := r.read[name]; ok {
		return m
	}
	info, ok := r.file.Lookup(name)
	if !ok {
		return nil
	}
	b, err := r.file.Data(info)
	if err != nil {
		r.t.Fatal(err)
	}
	m := &matrix{cols: int(info.Shape[0]), rows: int(info.Shape[1])}
	m.quantised = info.Type == tensor.Q8_0 || info.Type == tensor.Q4_1
	half := func(at int) float64 {
		h := binary.LittleEndian.Uint16(b[at:])
		sign, exp, frac := 1-2*float64(h>>15), int(h>>10&31), float64(h&1023)
		if exp == 0 {
			return sign * math.Ldexp(frac, -24)
		}
		return sign * math.Ldexp(1024+frac, exp-25)
	}
	for i := range m.rows * m.cols {
		block, in := i/32, i%32
		var v float64
		switch info.Type {
		case tensor.F32:
			v = float64(math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:])))
		case tensor.F16:
			v = half(2 * i)
		case tensor.Q8_0:
			v = half(34*block) * float64(int8(b[34*block+2+in]))
		case tensor.Q4_1:
			q := b[20*block+4+in%16]
			v = half(20*block)*float64(q>>(in/16*4)&15) + half(20*block+2)
		default:
			r.t.Fatalf("no %v here", info.Type)
		}
		m.at = append(m.at, v)
	}
	r.read[name] = m
	return m
}

func (r *reference) layer(i int, name string) *matrix {
	return r.weight(fmt.Sprintf("blk.%d.%s.weight", i, name))
}

// mul is w times x.
func (r *reference) mul(w *matrix, x []float64) []float64 {
	if r.int8 && w.quantised {
		x = rounded(x)
	}
	out := make([]float64, w.rows)
	for i := range out {
		sum := 0.0
		for j, v := range w.at[i*w.cols : (i+1)*w.cols] {
			sum += v * x[j]
		}
		out[i] = sum
	}
	return out
}

// rounded is x in blocks of 32 as multiples of the largest / 127.
func rounded(x []float64) []float64 {
	out := make([]float64, len(x))
	for at := 0; at < len(x); at += 32 {
		most := 0.0
		for _, v := range x[at : at+32] {
			most = math.Max(most, math.Abs(v))
		}
		for i, v := range x[at : at+32] {
			if most > 0 {
				out[at+i] = math.RoundToEven(v/(most/127)) * (most / 127)
			}
		}
	}
	return out
}

func (r *reference) norm(w *matrix, x []float64) []float64 {
	sum := 0.0
	for _, v := range x {
		sum += v * v
	}
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = v / math.Sqrt(sum/float64(len(x))+r.epsilon) * w.at[i]
	}
	return out
}

// rotate turns the pairs (0,1), (2,3), ... of each head by the angles of a
// position.
func (r *reference) rotate(x []float64, pos int) {
	factors := r.weight("rope_freqs.weight")
	for h := 0; h < len(x); h += r.headDim {
		for i := 0; i < r.ropeDims; i += 2 {
			angle := float64(pos) * math.Pow(r.base, -float64(i)/float64(r.ropeDims))
			if factors != nil {
				angle /= factors.at[i/2]
			}
			a, b := x[h+i], x[h+i+1]
			x[h+i] = a*math.Cos(angle) - b*math.Sin(angle)
			x[h+i+1] = a*math.Sin(angle) + b*math.Cos(angle)
		}
	}
}

// logits are those after each of the tokens.
func (r *reference) logits(tokens []int32) [][]float64 {
	if r.arch == "gemma3" {
		return r.gemma3(tokens)
	}
	embedding := r.weight("token_embd.weight")
	x := make([][]float64, len(tokens))
	for t, id := range tokens {
		x[t] = append([]float64(nil), embedding.at[int(id)*r.embedding:][:r.embedding]...)
	}
	add := func(t int, delta []float64) {
		for i, d := range delta {
			x[t][i] += d
		}
	}
	for l := range r.layers {
		keys, values := make([][]float64, len(tokens)), make([][]float64, len(tokens))
		attnNorm, wq, wk := r.layer(l, "attn_norm"), r.layer(l, "attn_q"), r.layer(l, "attn_k")
		wv, wo := r.layer(l, "attn_v"), r.layer(l, "attn_output")
		ffnNorm, gate, up, down := r.layer(l, "ffn_norm"), r.layer(l, "ffn_gate"), r.layer(l, "ffn_up"), r.layer(l, "ffn_down")
		for t := range tokens {
			in := r.norm(attnNorm, x[t])
			q := r.mul(wq, in)
			keys[t], values[t] = r.mul(wk, in), r.mul(wv, in)
			r.rotate(q, t)
			r.rotate(keys[t], t)
			attended := make([]float64, 0, len(q))
			for h := range r.heads {
				kv := h * r.kvHeads / r.heads * r.headDim
				attended = append(attended, attend(q[h*r.headDim:][:r.headDim], keys[:t+1], values[:t+1], kv)...)
			}
			add(t, r.mul(wo, attended))
			in = r.norm(ffnNorm, x[t])
			g, u := r.mul(gate, in), r.mul(up, in)
			for i := range g {
				g[i] *= u[i] / (1 + math.Exp(-g[i]))
			}
			add(t, r.mul(down, g))
		}
	}
	head := r.weight("output.weight")
	if head == nil {
		head = embedding
	}
	outputNorm := r.weight("output_norm.weight")
	out := make([][]float64, len(tokens))
	for t := range tokens {
		out[t] = r.mul(head, r.norm(outputNorm, x[t]))
	}
	return out
}

// attend is one head's attention to the keys and values that begin at kv.
func attend(q []float64, keys, values [][]float64, kv int) []float64 {
	weights, total := make([]float64, len(keys)), 0.0
	for i, k := range keys {
		for j, v := range q {
			weights[i] += v * k[kv+j] / math.Sqrt(float64(len(q)))
		}
		weights[i] = math.Exp(weights[i])
		total += weights[i]
	}
	out := make([]float64, len(q))
	for i, v := range values {
		for j := range out {
			out[j] += weights[i] / total * v[kv+j]
		}
	}
	return out
}

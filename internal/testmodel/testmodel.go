// Package testmodel writes tiny GGUF models with seeded random weights, for
// tests that need a real file without a download.
//
// # Basics
//
// [Llama] and [Gemma3] give the bytes of a whole model: a byte-level vocabulary, a
// chat template and a few hundred thousand weights. [Architectures] has them all. [Bridge]
// finds those that Transformers made.
//
// # Caveats
//
// The models know nothing: their answers are repeatable noise.
package testmodel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/dunlin-go/dunlin/models/gguf"
	"github.com/dunlin-go/dunlin/tensor"
)

// Config is the shape of a model. Zero fields have small defaults.
type Config struct {
	Seed          uint64
	Layers        int // 2
	Embedding     int // 64
	Heads         int // 4
	KVHeads       int // 2
	FeedForward   int // 128
	ContextLength int // 512

	Weights  tensor.DType // of the matrices; 0 is F32
	HeadType tensor.DType // of the embedding; 0 is F32
	Untied   bool         // an output head of its own
	NoVocab  bool         // leave the tokenizer out
	Padding  int          // so many rows of the embedding have no token, at most 6
	Template string       // chat template; "" for ChatML, "-" for none

	// For damaged files: keys to set over those of the model, keys to leave
	// out, and a look at each tensor before it is written.
	Keys    map[string]any
	Without []string
	Tensor  func(*Tensor)
}

// Tensor is a tensor about to be written.
type Tensor struct {
	Name  string
	Type  tensor.DType
	Shape []uint64 // columns first
	Data  []byte
	Omit  bool // leave it out
}

func (c Config) withDefaults() Config {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	def(&c.Layers, 2)
	def(&c.Embedding, 64)
	def(&c.Heads, 4)
	def(&c.KVHeads, 2)
	def(&c.FeedForward, 128)
	def(&c.ContextLength, 512)
	if c.Template == "" {
		c.Template = ChatML
	}
	return c
}

// ChatML is the chat template that models have by default.
const ChatML = "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}" +
	"{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

// Special tokens of the vocabulary; the ids from 3 on are the 256 bytes and
// then the pairs of Merges.
const (
	EndOfText = 0
	IMStart   = 1
	IMEnd     = 2
	FirstByte = 3
)

// merges are a few pairs, so that encoding does something.
var merges = [][2]string{{"h", "e"}, {"l", "l"}, {"he", "ll"}, {"hell", "o"}, {"i", "n"}, {"Ġ", "t"}, {"Ġt", "he"}}

// Vocabulary is the number of tokens, those without a name and padding included.
const Vocabulary = 272

// byteRunes is how byte-level vocabularies write the bytes.
func byteRunes() [256]rune {
	var out [256]rune
	next := rune(256)
	for b := range 256 {
		if b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae {
			out[b] = rune(b)
			continue
		}
		out[b] = next
		next++
	}
	return out
}

// pair is a key of the metadata and its value.
type pair struct {
	key   string
	value any
}

// vocabulary is the metadata of the tokenizer.
func (c *Config) vocabulary() []pair {
	tokens := []string{"<|endoftext|>", "<|im_start|>", "<|im_end|>"}
	types := []int32{3, 3, 3}
	for _, r := range byteRunes() {
		tokens, types = append(tokens, string(r)), append(types, 1)
	}
	var pairs []string
	for _, m := range merges {
		tokens, types = append(tokens, m[0]+m[1]), append(types, 1)
		pairs = append(pairs, m[0]+" "+m[1])
	}
	for len(tokens) < Vocabulary-c.Padding {
		tokens, types = append(tokens, fmt.Sprintf("<unused%d>", len(tokens))), append(types, 5)
	}
	return []pair{
		{"tokenizer.ggml.model", "gpt2"},
		{"tokenizer.ggml.pre", "gpt-2"},
		{"tokenizer.ggml.tokens", tokens},
		{"tokenizer.ggml.token_type", types},
		{"tokenizer.ggml.merges", pairs},
		{"tokenizer.ggml.bos_token_id", uint32(IMStart)},
		{"tokenizer.ggml.eos_token_id", uint32(IMEnd)},
		{"tokenizer.ggml.add_bos_token", false},
	}
}

// metadata sets the keys of a model.
func (c *Config) metadata(w *gguf.Writer, arch string, own ...pair) {
	pairs := append([]pair{
		{"general.architecture", arch},
		{"general.name", "Tiny"},
		{arch + ".block_count", uint32(c.Layers)},
		{arch + ".context_length", uint32(c.ContextLength)},
		{arch + ".embedding_length", uint32(c.Embedding)},
		{arch + ".feed_forward_length", uint32(c.FeedForward)},
		{arch + ".attention.head_count", uint32(c.Heads)},
		{arch + ".attention.head_count_kv", uint32(c.KVHeads)},
		{arch + ".attention.layer_norm_rms_epsilon", float32(1e-5)},
		{arch + ".rope.freq_base", float32(10000)},
	}, own...)
	if !c.NoVocab {
		pairs = append(pairs, c.vocabulary()...)
	}
	if c.Template != "-" {
		pairs = append(pairs, pair{"tokenizer.chat_template", c.Template})
	}
	for _, key := range slices.Sorted(maps.Keys(c.Keys)) {
		pairs = append(pairs, pair{key, c.Keys[key]})
	}
	for _, p := range pairs {
		if !slices.Contains(c.Without, p.key) {
			w.Set(p.key, p.value)
		}
	}
}

// writer writes a model's tensors.
type writer struct {
	Config
	*gguf.Writer
	rng *rand.Rand
}

func (w *writer) add(t Tensor) {
	if w.Tensor != nil {
		w.Tensor(&t)
	}
	if !t.Omit {
		w.AddTensor(t.Name, t.Type, t.Shape, t.Data)
	}
}

func (w *writer) matrix(name string, t tensor.DType, rows, cols int, gain float64) {
	x := make([]float32, rows*cols)
	for i := range x {
		x[i] = float32(w.rng.NormFloat64() * gain / math.Sqrt(float64(cols)))
	}
	w.add(Tensor{Name: name, Type: t, Shape: []uint64{uint64(cols), uint64(rows)}, Data: Quantize(t, x)})
}

func (w *writer) norm(name string, n int) {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(1 + 0.1*w.rng.NormFloat64())
	}
	w.add(Tensor{Name: name, Type: tensor.F32, Shape: []uint64{uint64(n)}, Data: Quantize(tensor.F32, x)})
}

// layer writes what all architectures have, with heads of dim elements.
func (w *writer) layer(p string, dim int) {
	w.norm(p+"attn_norm.weight", w.Embedding)
	w.matrix(p+"attn_q.weight", w.Weights, w.Heads*dim, w.Embedding, 1)
	w.matrix(p+"attn_k.weight", w.Weights, w.KVHeads*dim, w.Embedding, 1)
	w.matrix(p+"attn_v.weight", w.Weights, w.KVHeads*dim, w.Embedding, 1)
	w.matrix(p+"attn_output.weight", w.Weights, w.Embedding, w.Heads*dim, 1)
	w.norm(p+"ffn_norm.weight", w.Embedding)
	w.matrix(p+"ffn_gate.weight", w.Weights, w.FeedForward, w.Embedding, 1)
	w.matrix(p+"ffn_up.weight", w.Weights, w.FeedForward, w.Embedding, 1)
	w.matrix(p+"ffn_down.weight", w.Weights, w.Embedding, w.FeedForward, 1)
}

// model writes a whole model of an architecture with keys of its own.
func (c Config) model(arch string, embedding float64, keys []pair, layer func(w *writer, prefix string)) []byte {
	w := &writer{c, gguf.NewWriter(), rand.New(rand.NewPCG(c.Seed, 1))}
	c.metadata(w.Writer, arch, keys...)
	w.matrix("token_embd.weight", c.HeadType, Vocabulary, c.Embedding, embedding)
	if c.Untied {
		w.matrix("output.weight", c.Weights, Vocabulary, c.Embedding, 3)
	}
	w.norm("output_norm.weight", c.Embedding)
	for i := range c.Layers {
		layer(w, fmt.Sprintf("blk.%d.", i))
	}
	var out bytes.Buffer
	if _, err := w.WriteTo(&out); err != nil {
		panic(err) // a fault of this package
	}
	return out.Bytes()
}

// Architectures are the functions that write a model, by its architecture.
var Architectures = map[string]func(Config) []byte{"llama": Llama, "gemma3": Gemma3}

// Llama writes a model of the llama architecture.
func Llama(c Config) []byte {
	c = c.withDefaults()
	return c.model("llama", 8, nil, func(w *writer, p string) { w.layer(p, c.Embedding/c.Heads) })
}

// Gemma3Window is how many positions the first of each two layers of a [Gemma3]
// attends to.
const Gemma3Window = 11

// Gemma3 writes a model of the gemma3 architecture, whose heads have 32 elements.
func Gemma3(c Config) []byte {
	const dim = 32
	c = c.withDefaults()
	keys := []pair{
		{"gemma3.attention.key_length", uint32(dim)},
		{"gemma3.attention.value_length", uint32(dim)},
		{"gemma3.attention.sliding_window", uint32(Gemma3Window)},
		{"gemma3.attention.sliding_window_pattern", uint32(2)},
		{"gemma3.rope.freq_base_swa", float32(100)},
	}
	return c.model("gemma3", 3, keys, func(w *writer, p string) {
		w.layer(p, dim)
		w.norm(p+"attn_q_norm.weight", dim)
		w.norm(p+"attn_k_norm.weight", dim)
		w.norm(p+"post_attention_norm.weight", c.Embedding)
		w.norm(p+"post_ffw_norm.weight", c.Embedding)
	})
}

// Quantize writes x in a format, scales rounded to nearest as GGUF's tools do.
func Quantize(t tensor.DType, x []float32) []byte {
	var out []byte
	switch t {
	case tensor.F32:
		for _, v := range x {
			out = binary.LittleEndian.AppendUint32(out, math.Float32bits(v))
		}
	case tensor.F16:
		for _, v := range x {
			out = binary.LittleEndian.AppendUint16(out, half(v))
		}
	case tensor.Q8_0:
		for ; len(x) > 0; x = x[32:] {
			most := float32(0)
			for _, v := range x[:32] {
				most = max(most, float32(math.Abs(float64(v))))
			}
			d := most / 127
			out = binary.LittleEndian.AppendUint16(out, half(d))
			for _, v := range x[:32] {
				out = append(out, byte(int8(math.Round(float64(v/max(d, 1e-30))))))
			}
		}
	case tensor.Q4_1:
		for ; len(x) > 0; x = x[32:] {
			low, high := x[0], x[0]
			for _, v := range x[:32] {
				low, high = min(low, v), max(high, v)
			}
			d := (high - low) / 15
			out = binary.LittleEndian.AppendUint16(out, half(d))
			out = binary.LittleEndian.AppendUint16(out, half(low))
			q := func(v float32) byte { return byte(min(15, math.Round(float64((v-low)/max(d, 1e-30))))) }
			for i := range 16 {
				out = append(out, q(x[i])|q(x[i+16])<<4)
			}
		}
	default:
		panic("testmodel: no quantiser for " + t.String())
	}
	return out
}

// half rounds to float16, to nearest even; values are small here.
func half(f float32) uint16 {
	bits := math.Float32bits(f)
	sign := uint16(bits >> 16 & 0x8000)
	abs := math.Abs(float64(f))
	if abs < 1.0/16384 { // subnormal: multiples of 2^-24
		return sign | uint16(math.RoundToEven(abs*(1<<24)))
	}
	exp := int(bits>>23&0xff) - 127
	frac := math.RoundToEven(math.Ldexp(abs, 10-exp)) // 1024 to 2048
	return sign | uint16(int(frac)+(exp+14)<<10)
}

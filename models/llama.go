package models

import (
	"fmt"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/tensor"
)

// Llama and the models built like it (SmolLM2, Mistral, TinyLlama, ...).
//
// Source: Touvron et al. 2023, https://arxiv.org/abs/2302.13971; reference
// code: transformers/models/llama/modeling_llama.py.
func init() { register("llama", newLlama) }

type llamaConfig struct {
	Config
	embedding, feedForward int
	heads, ropeDims        int
	ropeBase               float64
	epsilon                float32
}

type llamaWeights struct {
	TokenEmbedding *tensor.Tensor `gguf:"token_embd.weight" hf:"model.embed_tokens.weight" dims:"vocabulary,embedding"`
	OutputNorm     *tensor.Tensor `gguf:"output_norm.weight" hf:"model.norm.weight" dims:"embedding"`
	Output         *tensor.Tensor `gguf:"output.weight" hf:"lm_head.weight" dims:"vocabulary,embedding" optional:"true"`
	RopeFactors    *tensor.Tensor `gguf:"rope_freqs.weight" dims:"frequencies" optional:"true"`
}

type llamaLayer struct {
	AttentionNorm *tensor.Tensor `gguf:"blk.{n}.attn_norm.weight" hf:"model.layers.{n}.input_layernorm.weight" dims:"embedding"`
	Query         *tensor.Tensor `gguf:"blk.{n}.attn_q.weight" hf:"model.layers.{n}.self_attn.q_proj.weight" dims:"queries,embedding"`
	Key           *tensor.Tensor `gguf:"blk.{n}.attn_k.weight" hf:"model.layers.{n}.self_attn.k_proj.weight" dims:"keys,embedding"`
	Value         *tensor.Tensor `gguf:"blk.{n}.attn_v.weight" hf:"model.layers.{n}.self_attn.v_proj.weight" dims:"keys,embedding"`
	Output        *tensor.Tensor `gguf:"blk.{n}.attn_output.weight" hf:"model.layers.{n}.self_attn.o_proj.weight" dims:"embedding,queries"`

	FeedForwardNorm *tensor.Tensor `gguf:"blk.{n}.ffn_norm.weight" hf:"model.layers.{n}.post_attention_layernorm.weight" dims:"embedding"`
	Gate            *tensor.Tensor `gguf:"blk.{n}.ffn_gate.weight" hf:"model.layers.{n}.mlp.gate_proj.weight" dims:"feedForward,embedding"`
	Up              *tensor.Tensor `gguf:"blk.{n}.ffn_up.weight" hf:"model.layers.{n}.mlp.up_proj.weight" dims:"feedForward,embedding"`
	Down            *tensor.Tensor `gguf:"blk.{n}.ffn_down.weight" hf:"model.layers.{n}.mlp.down_proj.weight" dims:"embedding,feedForward"`
}

// llamaScratch is the working memory for one batch, `[tokens, n]` each.
type llamaScratch struct {
	x, norm       []float32 // embedding: the residual stream, and what products read
	query, attend []float32 // heads * headDim
	key, value    []float32 // KV heads * headDim
	gate, up      []float32 // feedForward
	delta         []float32 // embedding: what a block adds to the residual stream
}

type llama struct {
	cfg     llamaConfig
	weights llamaWeights
	layers  []llamaLayer
	rope    *tensor.RopeTable
	scratch llamaScratch
	wanted  tensor.Batch // the tokens of a batch whose logits are wanted
}

func newLlamaConfig(l *loader) (llamaConfig, error) {
	cfg := llamaConfig{embedding: l.size("embedding_length"), feedForward: l.size("feed_forward_length"), heads: l.size("attention.head_count")}
	cfg.Architecture = l.arch
	cfg.ContextLength = l.size("context_length")
	cfg.Layers = l.size("block_count")
	cfg.KVHeads = l.sizeOr("attention.head_count_kv", cfg.heads)
	cfg.HeadDim = l.sizeOr("attention.key_length", cfg.embedding/cfg.heads)
	cfg.ropeDims = l.sizeOr("rope.dimension_count", cfg.HeadDim)
	cfg.ropeBase = l.floatOr("rope.freq_base", 10000)
	cfg.epsilon = float32(l.float("attention.layer_norm_rms_epsilon"))
	cfg.MaxCols = max(cfg.embedding, cfg.feedForward, cfg.heads*cfg.HeadDim)
	cfg.Parameters, cfg.Quantization = l.weights()
	l.onlyValue("attention.value_length", cfg.HeadDim)
	l.onlyValue("rope.scaling.type", "none")
	l.onlyValue("expert_count", 0)
	l.onlyValue("expert_used_count", 0)
	l.ignored("vocab_size")
	cfg.Vocabulary = l.vocabulary()
	l.checkShape(&cfg.Config, cfg.heads, cfg.ropeDims)
	return cfg, l.finish()
}

func newLlama(l *loader) (Model, error) {
	cfg, err := newLlamaConfig(l)
	if err != nil {
		return nil, err
	}
	if err := l.reserveLayers(cfg.Layers); err != nil {
		return nil, err
	}
	m := &llama{cfg: cfg, layers: make([]llamaLayer, cfg.Layers)}
	queries, keys := cfg.heads*cfg.HeadDim, cfg.KVHeads*cfg.HeadDim
	sizes := map[string]int{
		"vocabulary": cfg.Vocabulary, "embedding": cfg.embedding, "feedForward": cfg.feedForward,
		"queries": queries, "keys": keys, "frequencies": cfg.ropeDims / 2,
	}
	if err := l.bind(&m.weights, 0, sizes); err != nil {
		return nil, err
	}
	for i := range m.layers {
		if err := l.bind(&m.layers[i], i, sizes); err != nil {
			return nil, err
		}
	}
	if m.weights.Output == nil {
		m.weights.Output = m.weights.TokenEmbedding // tied
	}
	factors, err := l.ropeFactors(m.weights.RopeFactors)
	if err != nil {
		return nil, err
	}
	if err := l.lease.Reserve(budget.Scratch, tensor.RopeBytes(cfg.ropeDims, l.limits.Tokens)); err != nil {
		return nil, err
	}
	if err := l.lease.Reserve(budget.Scratch, tensor.BatchBytes(l.limits.Tokens)); err != nil {
		return nil, err
	}
	m.rope = tensor.NewRope(tensor.RopeConfig{Dims: cfg.ropeDims, Base: cfg.ropeBase, Factors: factors}, l.limits.Tokens)
	s := &m.scratch
	err = l.scratch([]buffer{
		{&s.x, cfg.embedding},
		{&s.norm, cfg.embedding},
		{&s.delta, cfg.embedding},
		{&s.query, queries},
		{&s.attend, queries},
		{&s.key, keys},
		{&s.value, keys},
		{&s.gate, cfg.feedForward},
		{&s.up, cfg.feedForward},
	})
	return m, err
}

func (m *llama) Config() Config { return m.cfg.Config }

func (m *llama) Forward(c *tensor.Compute, b *tensor.Batch, kv *tensor.KV, logits []float32) {
	cfg, s, n := &m.cfg, &m.scratch, b.Len()
	if n*cfg.embedding > len(s.x) || len(logits) != len(b.Logits)*cfg.Vocabulary {
		panic(fmt.Sprintf("models: a batch of %d tokens and %d logits is larger than the model was made for", n, len(b.Logits)))
	}
	x := s.x[:n*cfg.embedding]
	var delta []float32 // what is still to be added to x
	c.Embed(x, m.weights.TokenEmbedding, b.Tokens)
	m.rope.SetPositions(b.Positions)
	for i := range m.layers {
		w := &m.layers[i]
		q := m.project(c, w, x, delta, kv, i, b)
		if i == len(m.layers)-1 {
			// Beyond the last keys and values only the positions whose logits are
			// wanted go on.
			if len(b.Logits) == 0 {
				return
			}
			x, q = keep(x, b.Logits, cfg.embedding), keep(q, b.Logits, cfg.heads*cfg.HeadDim)
			b = b.Wanted(&m.wanted)
		}
		delta = m.attention(c, w, q, kv, i, b)
		delta = m.feedForward(c, w, x, delta)
	}
	c.Linear(logits, m.weights.Output, c.NormInput(s.norm[:len(x)], x, delta, m.weights.OutputNorm, cfg.epsilon))
}

// project adds delta to the residual stream x and makes a layer's queries of it,
// and its keys and values, which go to the cache.
func (m *llama) project(c *tensor.Compute, w *llamaLayer, x, delta []float32, kv *tensor.KV, layer int, b *tensor.Batch) (q []float32) {
	cfg, s, n := &m.cfg, &m.scratch, b.Len()
	queries, keys := n*cfg.heads*cfg.HeadDim, n*cfg.KVHeads*cfg.HeadDim
	q, k, v := s.query[:queries], s.key[:keys], s.value[:keys]
	in := c.NormInput(s.norm[:len(x)], x, delta, w.AttentionNorm, cfg.epsilon)
	c.Linears(in, tensor.Product{Out: q, Weight: w.Query}, tensor.Product{Out: k, Weight: w.Key}, tensor.Product{Out: v, Weight: w.Value})
	c.StoreKV(kv, layer, q, k, v, m.rope, b)
	return q
}

// attention is what a layer's attention adds to the residual stream.
func (m *llama) attention(c *tensor.Compute, w *llamaLayer, q []float32, kv *tensor.KV, layer int, b *tensor.Batch) (delta []float32) {
	cfg, s := &m.cfg, &m.scratch
	attend, delta := s.attend[:len(q)], s.delta[:b.Len()*cfg.embedding]
	c.Attention(attend, q, tensor.AttentionOptions{Heads: cfg.heads}, kv, layer, b)
	c.Linear(delta, w.Output, c.Input(attend, cfg.heads*cfg.HeadDim))
	return delta
}

// feedForward adds delta to the residual stream x and returns what a layer's gated
// feed-forward block adds to that, in the same memory.
func (m *llama) feedForward(c *tensor.Compute, w *llamaLayer, x, delta []float32) []float32 {
	cfg, s := &m.cfg, &m.scratch
	n := len(x) / cfg.embedding
	gate, up := s.gate[:n*cfg.feedForward], s.up[:n*cfg.feedForward]
	in := c.NormInput(s.norm[:len(x)], x, delta, w.FeedForwardNorm, cfg.epsilon)
	c.Linears(in, tensor.Product{Out: gate, Weight: w.Gate}, tensor.Product{Out: up, Weight: w.Up})
	c.Linear(delta, w.Down, c.GateInput(gate, up, cfg.feedForward))
	return delta
}

// keep moves the rows of n elements at the ascending indexes to the front.
func keep(x []float32, indexes []int32, n int) []float32 {
	for i, at := range indexes {
		copy(x[i*n:(i+1)*n], x[int(at)*n:])
	}
	return x[:len(indexes)*n]
}

package models

import (
	"fmt"
	"math"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/tensor"
)

// Gemma 3, its text models.
//
// Source: Gemma Team 2025, https://arxiv.org/abs/2503.19786; reference code:
// transformers/models/gemma3/modeling_gemma3.py.
func init() { register("gemma3", newGemma3) }

type gemma3Config struct {
	Config
	embedding, feedForward int
	heads                  int
	localBase, globalBase  float64
	scaling                tensor.RopeScaling // of the layers that attend to all positions
	scale, softCap         float32            // of scores; of logits, 0 for none
	epsilon                float32
}

// The norms' weights are those that are multiplied with: GGUF has them so, a
// checkpoint has them less 1.
type gemma3Weights struct {
	TokenEmbedding *tensor.Tensor `gguf:"token_embd.weight" hf:"model.embed_tokens.weight" dims:"vocabulary,embedding"`
	OutputNorm     *tensor.Tensor `gguf:"output_norm.weight" hf:"model.norm.weight" dims:"embedding"`
	Output         *tensor.Tensor `gguf:"output.weight" hf:"lm_head.weight" dims:"vocabulary,embedding" optional:"true"`
}

type gemma3Layer struct {
	AttentionNorm     *tensor.Tensor `gguf:"blk.{n}.attn_norm.weight" hf:"model.layers.{n}.input_layernorm.weight" dims:"embedding"`
	Query             *tensor.Tensor `gguf:"blk.{n}.attn_q.weight" hf:"model.layers.{n}.self_attn.q_proj.weight" dims:"queries,embedding"`
	Key               *tensor.Tensor `gguf:"blk.{n}.attn_k.weight" hf:"model.layers.{n}.self_attn.k_proj.weight" dims:"keys,embedding"`
	Value             *tensor.Tensor `gguf:"blk.{n}.attn_v.weight" hf:"model.layers.{n}.self_attn.v_proj.weight" dims:"keys,embedding"`
	QueryNorm         *tensor.Tensor `gguf:"blk.{n}.attn_q_norm.weight" hf:"model.layers.{n}.self_attn.q_norm.weight" dims:"headDim"`
	KeyNorm           *tensor.Tensor `gguf:"blk.{n}.attn_k_norm.weight" hf:"model.layers.{n}.self_attn.k_norm.weight" dims:"headDim"`
	Output            *tensor.Tensor `gguf:"blk.{n}.attn_output.weight" hf:"model.layers.{n}.self_attn.o_proj.weight" dims:"embedding,queries"`
	PostAttentionNorm *tensor.Tensor `gguf:"blk.{n}.post_attention_norm.weight" hf:"model.layers.{n}.post_attention_layernorm.weight" dims:"embedding"`

	FeedForwardNorm     *tensor.Tensor `gguf:"blk.{n}.ffn_norm.weight" hf:"model.layers.{n}.pre_feedforward_layernorm.weight" dims:"embedding"`
	Gate                *tensor.Tensor `gguf:"blk.{n}.ffn_gate.weight" hf:"model.layers.{n}.mlp.gate_proj.weight" dims:"feedForward,embedding"`
	Up                  *tensor.Tensor `gguf:"blk.{n}.ffn_up.weight" hf:"model.layers.{n}.mlp.up_proj.weight" dims:"feedForward,embedding"`
	Down                *tensor.Tensor `gguf:"blk.{n}.ffn_down.weight" hf:"model.layers.{n}.mlp.down_proj.weight" dims:"embedding,feedForward"`
	PostFeedForwardNorm *tensor.Tensor `gguf:"blk.{n}.post_ffw_norm.weight" hf:"model.layers.{n}.post_feedforward_layernorm.weight" dims:"embedding"`
}

// gemma3Scratch is the working memory for one batch, `[tokens, n]` each.
type gemma3Scratch struct {
	x, norm       []float32 // embedding: the residual stream, and what products read
	query, attend []float32 // heads * headDim
	key, value    []float32 // KV heads * headDim
	gate, up      []float32 // feedForward
	delta         []float32 // embedding: what a block gives, before its norm
}

type gemma3 struct {
	cfg           gemma3Config
	weights       gemma3Weights
	layers        []gemma3Layer
	local, global *tensor.RopeTable
	scratch       gemma3Scratch
	wanted        tensor.Batch // the tokens of a batch whose logits are wanted
}

// gemma3LargestLayers are the layers of the 27B model, whose scores are scaled by
// the embedding's share of a head instead of by the head's size. Files don't say.
const gemma3LargestLayers = 62

func newGemma3Config(l *loader) (gemma3Config, error) {
	cfg := gemma3Config{embedding: l.size("embedding_length"), feedForward: l.size("feed_forward_length"), heads: l.size("attention.head_count")}
	cfg.Architecture = l.arch
	cfg.ContextLength = l.size("context_length")
	cfg.Layers = l.size("block_count")
	cfg.KVHeads = l.sizeOr("attention.head_count_kv", cfg.heads)
	cfg.HeadDim = l.sizeOr("attention.key_length", cfg.embedding/cfg.heads)
	cfg.Window = l.size("attention.sliding_window")
	pattern := l.sizeOr("attention.sliding_window_pattern", 6) // every so-many-th layer has no window
	cfg.globalBase = l.floatOr("rope.freq_base", 1000000)
	cfg.localBase = l.floatOr("rope.freq_base_swa", 10000)
	cfg.epsilon = float32(l.float("attention.layer_norm_rms_epsilon"))
	cfg.softCap = float32(l.floatOr("final_logit_softcapping", 0))
	scaled := cfg.HeadDim
	if cfg.Layers == gemma3LargestLayers {
		scaled = cfg.embedding / cfg.heads
	}
	cfg.scale = float32(l.floatOr("attention.scale", 1/math.Sqrt(float64(max(1, scaled)))))
	cfg.MaxCols = max(cfg.embedding, cfg.feedForward, cfg.heads*cfg.HeadDim)
	cfg.Parameters, cfg.Quantization = l.weights()
	switch factor := l.floatOr("rope.scaling.factor", 1); l.textOr("rope.scaling.type", "none") {
	case "linear":
		cfg.scaling = tensor.LinearScaling{Factor: factor}
	default:
		l.onlyValue("rope.scaling.type", "none")
		l.onlyValue("rope.scaling.factor", 1)
	}
	l.onlyValue("attention.value_length", cfg.HeadDim)
	l.onlyValue("rope.dimension_count", cfg.HeadDim)
	l.ignored("vocab_size")
	cfg.Vocabulary = l.vocabulary()
	l.checkShape(&cfg.Config, cfg.heads, cfg.HeadDim)
	if err := l.finish(); err != nil {
		return cfg, err
	}
	cfg.Windowed = make([]bool, cfg.Layers) // there are no more than tensors
	for i := range cfg.Windowed {
		cfg.Windowed[i] = (i+1)%pattern != 0
	}
	return cfg, nil
}

func newGemma3(l *loader) (Model, error) {
	cfg, err := newGemma3Config(l)
	if err != nil {
		return nil, err
	}
	if err := l.reserveLayers(cfg.Layers); err != nil {
		return nil, err
	}
	m := &gemma3{cfg: cfg, layers: make([]gemma3Layer, cfg.Layers)}
	queries, keys := cfg.heads*cfg.HeadDim, cfg.KVHeads*cfg.HeadDim
	sizes := map[string]int{
		"vocabulary": cfg.Vocabulary, "embedding": cfg.embedding, "feedForward": cfg.feedForward,
		"queries": queries, "keys": keys, "headDim": cfg.HeadDim,
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
	tokens := l.limits.Tokens
	if err := l.lease.Reserve(budget.Scratch, 2*tensor.RopeBytes(cfg.HeadDim, tokens)+tensor.BatchBytes(tokens)); err != nil {
		return nil, err
	}
	m.local = tensor.NewRope(tensor.RopeConfig{Dims: cfg.HeadDim, Base: cfg.localBase, Layout: tensor.RopeHalves}, tokens)
	m.global = tensor.NewRope(tensor.RopeConfig{Dims: cfg.HeadDim, Base: cfg.globalBase, Layout: tensor.RopeHalves, Scaling: cfg.scaling}, tokens)
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

func (m *gemma3) Config() Config { return m.cfg.Config }

func (m *gemma3) Forward(c *tensor.Compute, b *tensor.Batch, kv *tensor.KV, logits []float32) {
	cfg, s, n := &m.cfg, &m.scratch, b.Len()
	if n*cfg.embedding > len(s.x) || len(logits) != len(b.Logits)*cfg.Vocabulary {
		panic(fmt.Sprintf("models: a batch of %d tokens and %d logits is larger than the model was made for", n, len(b.Logits)))
	}
	x := s.x[:n*cfg.embedding]
	var delta []float32     // what is still to be added to x
	var post *tensor.Tensor // the norm of it
	c.Embed(x, m.weights.TokenEmbedding, b.Tokens)
	c.Scale(x, cfg.embedding, float32(math.Sqrt(float64(cfg.embedding))))
	m.local.SetPositions(b.Positions)
	m.global.SetPositions(b.Positions)
	for i := range m.layers {
		w := &m.layers[i]
		in := c.PostNormInput(s.norm[:len(x)], x, delta, post, w.AttentionNorm, cfg.epsilon)
		q := m.project(c, w, in, kv, i, b)
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
		in = c.PostNormInput(s.norm[:len(x)], x, delta, w.PostAttentionNorm, w.FeedForwardNorm, cfg.epsilon)
		delta = m.feedForward(c, w, in, b.Len())
		post = w.PostFeedForwardNorm
	}
	c.Linear(logits, m.weights.Output, c.PostNormInput(s.norm[:len(x)], x, delta, post, m.weights.OutputNorm, cfg.epsilon))
	if cfg.softCap > 0 {
		c.SoftCap(logits, cfg.Vocabulary, cfg.softCap)
	}
}

// project makes a layer's queries, and its keys and values, which go to the cache.
func (m *gemma3) project(c *tensor.Compute, w *gemma3Layer, in *tensor.Input, kv *tensor.KV, layer int, b *tensor.Batch) (q []float32) {
	cfg, s, n := &m.cfg, &m.scratch, b.Len()
	queries, keys := n*cfg.heads*cfg.HeadDim, n*cfg.KVHeads*cfg.HeadDim
	q, k, v := s.query[:queries], s.key[:keys], s.value[:keys]
	c.Linears(in, tensor.Product{Out: q, Weight: w.Query}, tensor.Product{Out: k, Weight: w.Key}, tensor.Product{Out: v, Weight: w.Value})
	c.NormRows(q, w.QueryNorm, cfg.epsilon)
	c.NormRows(k, w.KeyNorm, cfg.epsilon)
	rope := m.global
	if cfg.Windowed[layer] {
		rope = m.local
	}
	c.StoreKV(kv, layer, q, k, v, rope, b)
	return q
}

// attention is what a layer's attention gives.
func (m *gemma3) attention(c *tensor.Compute, w *gemma3Layer, q []float32, kv *tensor.KV, layer int, b *tensor.Batch) (delta []float32) {
	cfg, s := &m.cfg, &m.scratch
	attend, delta := s.attend[:len(q)], s.delta[:b.Len()*cfg.embedding]
	o := tensor.AttentionOptions{Heads: cfg.heads, Scale: cfg.scale}
	if cfg.Windowed[layer] {
		o.Window = cfg.Window
	}
	c.Attention(attend, q, o, kv, layer, b)
	c.Linear(delta, w.Output, c.Input(attend, cfg.heads*cfg.HeadDim))
	return delta
}

// feedForward is what a layer's gated feed-forward block makes of n tokens.
func (m *gemma3) feedForward(c *tensor.Compute, w *gemma3Layer, in *tensor.Input, n int) (delta []float32) {
	cfg, s := &m.cfg, &m.scratch
	gate, up, delta := s.gate[:n*cfg.feedForward], s.up[:n*cfg.feedForward], s.delta[:n*cfg.embedding]
	c.Linears(in, tensor.Product{Out: gate, Weight: w.Gate}, tensor.Product{Out: up, Weight: w.Up})
	c.Linear(delta, w.Down, c.GELUGateInput(gate, up, cfg.feedForward))
	return delta
}

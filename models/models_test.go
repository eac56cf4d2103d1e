package models_test

import (
	"bytes"
	"errors"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/models"
	"github.com/dunlin-go/dunlin/models/gguf"
	"github.com/dunlin-go/dunlin/tensor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// withTensor writes a file again with one tensor more.
func withTensor(data []byte, name string, typ tensor.DType, shape []uint64, b []byte) []byte {
	f, err := gguf.Parse(data, budget.New(1<<30).Lease())
	if err != nil {
		panic(err)
	}
	defer f.Close()
	w := gguf.NewWriter()
	for key := range f.Keys() {
		v, _ := f.Any(key)
		w.Set(key, v)
	}
	for t := range f.Tensors() {
		data, err := f.Data(t)
		if err != nil {
			panic(err)
		}
		w.AddTensor(t.Name, t.Type, t.Dims(), data)
	}
	w.AddTensor(name, typ, shape, b)
	var out bytes.Buffer
	if _, err := w.WriteTo(&out); err != nil {
		panic(err)
	}
	return out.Bytes()
}

// with is a model with one key set.
func with(key string, v any) []byte {
	return testmodel.Llama(testmodel.Config{Layers: 1, Keys: map[string]any{key: v}})
}

func TestConfig(t *testing.T) {
	lease := budget.New(1 << 30).Lease()
	m, err := models.New(parse(t, testmodel.Llama(testmodel.Config{Weights: tensor.Q4_1, HeadType: tensor.Q8_0})), models.Limits{Tokens: 8, Logits: 2}, lease)
	if err != nil {
		t.Fatal(err)
	}
	want := models.Config{
		Architecture: "llama", ContextLength: 512, Vocabulary: testmodel.Vocabulary, Layers: 2, KVHeads: 2, HeadDim: 16, MaxCols: 128,
		// Embedding and norms, and for each layer attention, feed-forward and norms.
		Parameters:   272*64 + 64 + 2*(64*64*2+32*64*2+3*64*128+2*64),
		Quantization: "Q4_1",
	}
	if got := m.Config(); !reflect.DeepEqual(got, want) {
		t.Errorf("the configuration is %+v, want %+v", got, want)
	}
	if lease.Held() == 0 {
		t.Error("the working memory wasn't priced")
	}
}

func TestArchitectures(t *testing.T) {
	got := models.Architectures()
	if want := slices.Sorted(maps.Keys(testmodel.Architectures)); !slices.Equal(got, want) {
		t.Errorf("architectures %v, there are test models of %v", got, want)
	}
}

// TestRefused gives files that a model can't be made of. The error says what
// and where.
func TestRefused(t *testing.T) {
	const arch = "llama."
	without := func(key string) []byte {
		return testmodel.Llama(testmodel.Config{Layers: 1, Without: []string{key}})
	}
	changed := func(name string, f func(*testmodel.Tensor)) []byte {
		return testmodel.Llama(testmodel.Config{Layers: 1, Tensor: func(t *testmodel.Tensor) {
			if t.Name == name {
				f(t)
			}
		}})
	}
	f32 := func(n int) []byte { return make([]byte, 4*n) }
	plain := testmodel.Llama(testmodel.Config{Layers: 1})
	factor := func(v float64) []byte {
		factors := []float32{1, 1, 1, float32(v), 1, 1, 1, 1}
		return withTensor(plain, "rope_freqs.weight", tensor.F32, []uint64{8}, testmodel.Quantize(tensor.F32, factors))
	}
	for _, tc := range []struct {
		name string
		data []byte
		err  error
		says string
	}{
		{"no architecture", without("general.architecture"), models.ErrInvalid, "general.architecture"},
		{"a number as architecture", with("general.architecture", uint32(1)), models.ErrInvalid, "general.architecture"},
		{"another architecture", with("general.architecture", "mamba"), models.ErrUnsupported, `"mamba" (there are gemma3, llama`},

		{"no layers", without(arch + "block_count"), models.ErrInvalid, "llama.block_count is missing"},
		{"layers in words", with(arch+"block_count", "two"), models.ErrInvalid, "llama.block_count is missing or not a number"},
		{"zero layers", with(arch+"block_count", uint32(0)), models.ErrInvalid, "llama.block_count is 0"},
		{"negative layers", with(arch+"block_count", int32(-1)), models.ErrInvalid, "llama.block_count"},
		{"more layers than tensors", with(arch+"block_count", uint32(10000)), models.ErrInvalid, "10000 layers and only 11 tensors"},
		{"a layer too many", with(arch+"block_count", uint32(2)), models.ErrInvalid, `"blk.1.attn_norm.weight" is missing`},
		{"a layer too few", testmodel.Llama(testmodel.Config{Keys: map[string]any{arch + "block_count": uint32(1)}}), models.ErrUnsupported, `"blk.1.attn_norm.weight" is no part of llama`},
		{"a huge embedding", with(arch+"embedding_length", uint64(1<<40)), models.ErrInvalid, "must lie in [1, 16777216]"},
		{"another embedding", with(arch+"embedding_length", uint32(128)), models.ErrInvalid, "has the shape"},
		{"no context", without(arch + "context_length"), models.ErrInvalid, "llama.context_length"},
		{"no epsilon", without(arch + "attention.layer_norm_rms_epsilon"), models.ErrInvalid, "epsilon is missing"},
		{"epsilon NaN", with(arch+"attention.layer_norm_rms_epsilon", math.NaN()), models.ErrInvalid, "finite and above zero"},
		{"epsilon of an integer", with(arch+"attention.layer_norm_rms_epsilon", uint32(1)), models.ErrInvalid, "missing or not a number"},
		{"a base of zero", with(arch+"rope.freq_base", float32(0)), models.ErrInvalid, "llama.rope.freq_base is 0"},
		{"an epsilon too large for float32", with(arch+"attention.layer_norm_rms_epsilon", 1e300), models.ErrInvalid, "it must be finite and above zero"},
		{"an epsilon too small for float32", with(arch+"attention.layer_norm_rms_epsilon", 1e-300), models.ErrInvalid, "it must be finite and above zero"},
		{"heads that don't divide", with(arch+"attention.head_count_kv", uint32(3)), models.ErrInvalid, "4 heads can't share 3 key heads"},
		{"more heads than elements", with(arch+"attention.head_count", uint32(1000)), models.ErrUnsupported, "heads of 0 elements"},
		{"odd heads", with(arch+"attention.key_length", uint32(15)), models.ErrUnsupported, "heads of 15 elements"},
		{"huge heads", with(arch+"attention.key_length", uint32(1<<20)), models.ErrUnsupported, "heads of 1048576 elements"},
		{"values of another length", with(arch+"attention.value_length", uint32(32)), models.ErrUnsupported, "llama.attention.value_length"},
		{"too much rotated", with(arch+"rope.dimension_count", uint32(18)), models.ErrInvalid, "18 rotated elements in heads of 16"},
		{"an odd part rotated", with(arch+"rope.dimension_count", uint32(7)), models.ErrInvalid, "7 rotated elements"},
		{"scaled rotation", with(arch+"rope.scaling.type", "yarn"), models.ErrUnsupported, `llama.rope.scaling.type is "yarn"`},
		{"experts", with(arch+"expert_count", uint32(8)), models.ErrUnsupported, "llama.expert_count"},
		{"experts in an array", with(arch+"expert_count", make([]uint32, 100000)), models.ErrUnsupported, "llama.expert_count is an array"},
		{"a key that means something new", with(arch+"attention.sliding_window", uint32(64)), models.ErrUnsupported, "llama.attention.sliding_window"},
		{"a key of two lines", with(arch+"a\nb", uint32(64)), models.ErrUnsupported, `"llama.a\nb"`},

		{"no embedding", changed("token_embd.weight", func(t *testmodel.Tensor) { t.Omit = true }), models.ErrInvalid, "token_embd.weight"},
		{"no norm", changed("output_norm.weight", func(t *testmodel.Tensor) { t.Omit = true }), models.ErrInvalid, `"output_norm.weight" is missing`},
		{"an unknown tensor", withTensor(plain, "blk.0.attn_q.bias", tensor.F32, []uint64{64}, f32(64)), models.ErrUnsupported, `"blk.0.attn_q.bias" is no part of llama`},
		{"a tensor of two lines", withTensor(plain, "a\nb", tensor.F32, []uint64{1}, f32(1)), models.ErrUnsupported, `"a\nb"`},
		{"too many factors", withTensor(plain, "rope_freqs.weight", tensor.F32, []uint64{16}, f32(16)), models.ErrInvalid, "[16], the configuration says [8]"},
		{"a factor NaN", factor(math.NaN()), models.ErrInvalid, `"rope_freqs.weight": factor 3 is NaN`},
		{"an infinite factor", factor(math.Inf(1)), models.ErrInvalid, `"rope_freqs.weight": factor 3 is +Inf`},
		{"a factor of zero", factor(0), models.ErrInvalid, `"rope_freqs.weight": factor 3 is 0, it and its inverse must be finite and above zero`},
		{"a factor below zero", factor(-1), models.ErrInvalid, `"rope_freqs.weight": factor 3 is -1`},
		{"a factor that makes a frequency infinite", factor(1e-40), models.ErrInvalid, `"rope_freqs.weight": factor 3 is 1e-40`},
		{"a head of another size", withTensor(plain, "output.weight", tensor.F32, []uint64{64, 32}, f32(64*32)), models.ErrInvalid, `"output.weight" has the shape [64 32]`},
		{"a turned matrix", changed("blk.0.ffn_up.weight", func(t *testmodel.Tensor) { slices.Reverse(t.Shape) }), models.ErrInvalid, `"blk.0.ffn_up.weight" has the shape [128 64], the configuration says [64 128]`},
		{"a norm in F16", changed("output_norm.weight", func(t *testmodel.Tensor) { t.Type, t.Data = tensor.F16, make([]byte, 128) }), models.ErrUnsupported, `"output_norm.weight" has weights of type F16`},
		{"weights in Q8_1", changed("blk.0.attn_q.weight", func(t *testmodel.Tensor) { t.Type, t.Data = tensor.Q8_1, make([]byte, 64*2*36) }), models.ErrUnsupported, "of type Q8_1"},
		{"rows of half a block", testmodel.Llama(testmodel.Config{Layers: 1, Embedding: 48, Heads: 3, KVHeads: 1}), models.ErrUnsupported, "only multiples of 32"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := models.New(parse(t, tc.data), models.Limits{Tokens: 8, Logits: 2}, budget.New(1<<30).Lease())
			if !errors.Is(err, tc.err) || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("%v, want %v that says %q", err, tc.err, tc.says)
			}
			if text := err.Error(); len(text) > 300 || strings.ContainsAny(text, "\n\r") {
				t.Errorf("the error is not one clear line: %q", text)
			}
		})
	}
}

// TestAccepted gives keys that say nothing new.
func TestAccepted(t *testing.T) {
	for key, v := range map[string]any{
		"llama.rope.scaling.type": "none", "llama.expert_count": uint32(0), "llama.attention.value_length": uint32(16),
		"llama.attention.key_length": uint32(16), "llama.vocab_size": uint32(272), "general.file_type": uint32(3), "split.count": uint16(1),
		"llamas.attention": true,
	} {
		if _, err := models.New(parse(t, with(key, v)), models.Limits{Tokens: 8, Logits: 2}, budget.New(1<<30).Lease()); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// TestMemoryIsPriced makes models with ever more room: what doesn't fit is
// refused, and never more is held than there is.
func TestMemoryIsPriced(t *testing.T) {
	for arch, model := range testmodel.Architectures {
		t.Run(arch, func(t *testing.T) { memoryIsPriced(t, parse(t, model(testmodel.Config{}))) })
	}
}

func memoryIsPriced(t *testing.T, f *gguf.File) {
	fits := false
	for _, limit := range []int64{0, 1, 1000, 10_000, 100_000, 1_000_000, 10_000_000} {
		b := budget.New(limit)
		lease := b.Lease()
		_, err := models.New(f, models.Limits{Tokens: 256, Logits: 32}, lease)
		if err != nil && !errors.Is(err, budget.ErrExceeded) || fits && err != nil {
			t.Errorf("limit %d: %v", limit, err)
		}
		fits = err == nil
		if lease.Close(); b.Used() != 0 {
			t.Errorf("limit %d: %d bytes are left", limit, b.Used())
		}
	}
	if !fits {
		t.Error("ten megabytes are not enough")
	}
}

// TestViewsArePriced: a file may have as many tensors as it has room for their
// names, so the model's views of them count, and so do its layers.
func TestViewsArePriced(t *testing.T) {
	metadata := func(layers int) int64 {
		b := budget.New(1 << 30)
		data := testmodel.Llama(testmodel.Config{Layers: layers, Embedding: 32, Heads: 1, KVHeads: 1, FeedForward: 32})
		if _, err := models.New(parse(t, data), models.Limits{Tokens: 8, Logits: 2}, b.Lease()); err != nil {
			t.Fatal(err)
		}
		return b.UsedFor(budget.Metadata)
	}
	const tensors = 9 // of a layer
	one, many := metadata(1), metadata(101)
	least := tensors * int64(reflect.TypeFor[tensor.Tensor]().Size())
	if each := (many - one) / 100; each < least {
		t.Errorf("a layer has %d bytes, its tensors alone take %d", each, least)
	}
}

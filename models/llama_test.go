package models_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/internal/exec"
	"github.com/dunlin-go/dunlin/internal/kvcache"
	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/models"
	"github.com/dunlin-go/dunlin/models/gguf"
	"github.com/dunlin-go/dunlin/models/pool"
	"github.com/dunlin-go/dunlin/tensor"
)

// maxTokens is the largest batch of the tests.
const maxTokens = 48

// machine is a model with all that computes it.
type machine struct {
	t       *testing.T
	model   models.Model
	compute *tensor.Compute
	exec    *exec.Executor
	cache   *kvcache.Cache
	seqs    []*kvcache.Sequence
	done    []int     // tokens of each sequence that were computed
	tokens  [][]int32 // they themselves
}

func newMachine(t *testing.T, f *gguf.File, act tensor.Activations, sequences int) *machine {
	t.Helper()
	pages := tensor.F16
	if act == tensor.ActivationsF32 {
		pages = tensor.F32
	}
	return newMachineOf(t, f, act, pages, sequences, 2, maxTokens)
}

// maxContext is what a sequence has room for, in tokens.
const maxContext = 640

// newMachineOf is newMachine with a type of keys and values, and a number of threads
// and of tokens in a batch.
func newMachineOf(t *testing.T, f *gguf.File, act tensor.Activations, pages tensor.DType, sequences, threads, tokens int) *machine {
	t.Helper()
	b := budget.New(2 << 30)
	lease := b.Lease()
	model, err := models.New(f, models.Limits{Tokens: tokens, Logits: tokens}, lease)
	if err != nil {
		t.Fatal(err)
	}
	cfg := model.Config()
	compute, err := tensor.NewCompute(lease, act, tensor.Limits{
		Threads: threads, Tokens: tokens, MaxCols: cfg.MaxCols, HeadDim: cfg.HeadDim,
	})
	if err != nil {
		t.Fatal(err)
	}
	shape := kvcache.Shape{
		Layers: cfg.Layers, Heads: cfg.KVHeads, HeadDim: cfg.HeadDim, Type: pages,
		Windowed: cfg.Windowed, Window: cfg.Window,
	}
	room := min(cfg.ContextLength, maxContext)
	cache, err := kvcache.New(shape, sequences*shape.PagesFor(room)+shape.PagesAhead(tokens), b)
	if err != nil {
		t.Fatal(err)
	}
	ex := exec.New(threads)
	t.Cleanup(func() {
		ex.Close()
		if err := cache.Close(); err != nil {
			t.Error(err)
		}
		if lease.Close(); b.Used() != 0 {
			t.Errorf("%d bytes of the budget are left", b.Used())
		}
	})
	m := &machine{t: t, model: model, compute: compute, exec: ex, cache: cache, done: make([]int, sequences), tokens: make([][]int32, sequences)}
	for i := range sequences {
		s, _ := cache.Start(fmt.Sprint(i), nil, room) // nothing is shared
		m.seqs = append(m.seqs, s)
	}
	return m
}

// step computes the next tokens of some sequences in one batch and returns the
// logits after each.
func (m *machine) step(chunks map[int][]int32) map[int][][]float32 {
	m.t.Helper()
	return m.stepFor(chunks, func(int) bool { return true })
}

// stepFor is step with logits for some of the sequences only.
func (m *machine) stepFor(chunks map[int][]int32, wanted func(seq int) bool) map[int][][]float32 {
	m.t.Helper()
	var b tensor.Batch
	for s := range m.seqs {
		tokens := chunks[s]
		if !m.seqs[s].Grow(m.done[s] + len(tokens)) {
			m.t.Fatal("no pages")
		}
		for i, id := range tokens {
			if wanted(s) {
				b.Logits = append(b.Logits, int32(b.Len()))
			}
			b.Tokens, b.Positions, b.Seqs = append(b.Tokens, id), append(b.Positions, int32(m.done[s]+i)), append(b.Seqs, int32(s))
		}
		b.Tables = append(b.Tables, m.seqs[s].Table)
		m.done[s] += len(tokens)
		m.tokens[s] = append(m.tokens[s], tokens...)
	}
	rows := m.model.Config().Vocabulary
	logits := make([]float32, rows*len(b.Logits))
	err := m.compute.Step(context.Background(), m.exec, func() error {
		m.model.Forward(m.compute, &b, m.cache.KV(), logits)
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	for s := range m.seqs {
		m.seqs[s].Publish(m.tokens[s])
	}
	out := map[int][][]float32{}
	for i, at := range b.Logits {
		s := int(b.Seqs[at])
		out[s] = append(out[s], logits[i*rows:(i+1)*rows])
	}
	return out
}

// realModel maps the real model's file, or skips the test.
func realModel(t testing.TB) []byte {
	t.Helper()
	return realModelAt(t, "DUNLIN_TEST_MODEL")
}

// realModelAt maps the file whose path the environment variable has.
func realModelAt(t testing.TB, env string) []byte {
	t.Helper()
	path := os.Getenv(env)
	if path == "" {
		t.Skip(env + " is not set to the path of a model; `make test` sets DUNLIN_TEST_MODEL")
	}
	h, err := pool.Open(path, pool.Pinned())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h.Bytes()
}

func parse(t testing.TB, data []byte) *gguf.File {
	t.Helper()
	f, err := gguf.Parse(data, budget.New(1<<30).Lease())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// TestLlamaForward compares the logits of three sequences, computed in ragged
// batches of random chunks, with the reference that takes each alone.
func TestLlamaForward(t *testing.T) {
	for _, shape := range []struct {
		name string
		cfg  testmodel.Config
		data func([]byte) []byte
	}{
		{"tied", testmodel.Config{Seed: 1}, nil},
		{"untied", testmodel.Config{Seed: 2, Untied: true}, nil},
		{"a key head for each", testmodel.Config{Seed: 3, KVHeads: 4}, nil},
		{"one key head", testmodel.Config{Seed: 4, KVHeads: 1, Layers: 3}, nil},
		{"odd sizes", testmodel.Config{Seed: 5, Embedding: 96, Heads: 6, KVHeads: 3, FeedForward: 160}, nil},
		{"half rotated", testmodel.Config{Seed: 6, Keys: map[string]any{"llama.rope.dimension_count": uint32(8), "llama.rope.freq_base": float32(500)}}, nil},
		{"large epsilon", testmodel.Config{Seed: 7, Keys: map[string]any{"llama.attention.layer_norm_rms_epsilon": float32(0.5)}}, nil},
		{"frequency factors", testmodel.Config{Seed: 8}, func(b []byte) []byte {
			return withTensor(b, "rope_freqs.weight", tensor.F32, []uint64{8}, testmodel.Quantize(tensor.F32, []float32{1, 1, 1.5, 2, 3, 4, 8, 8}))
		}},
	} {
		for _, format := range []tensor.DType{tensor.F32, tensor.F16, tensor.Q8_0, tensor.Q4_1} {
			for _, act := range []tensor.Activations{tensor.ActivationsF32, tensor.ActivationsInt8} {
				mode := map[tensor.Activations]string{tensor.ActivationsF32: "f32", tensor.ActivationsInt8: "int8"}[act]
				t.Run(fmt.Sprintf("%s/%v/%s", shape.name, format, mode), func(t *testing.T) {
					if testing.Short() && len(shape.cfg.Keys) > 0 && act == tensor.ActivationsInt8 {
						t.Skip("a key is read alike in both modes")
					}
					cfg := shape.cfg
					cfg.Weights, cfg.HeadType, cfg.ContextLength = format, format, 128
					data := testmodel.Llama(cfg)
					if shape.data != nil {
						data = shape.data(data)
					}
					compareForward(t, parse(t, data), act)
				})
			}
		}
	}
}

func compareForward(t *testing.T, f *gguf.File, act tensor.Activations) {
	rng := rand.New(rand.NewPCG(8, 15))
	lengths := []int{40, 33, 5} // two pages of the cache, and one
	tokens := make([][]int32, len(lengths))
	for s, n := range lengths {
		for range n {
			tokens[s] = append(tokens[s], rng.Int32N(testmodel.Vocabulary))
		}
	}
	m := newMachine(t, f, act, len(lengths))
	got := make([][][]float32, len(lengths))
	for {
		chunks, left := map[int][]int32{}, maxTokens
		for s := range tokens {
			n := min(rng.IntN(20), len(tokens[s])-m.done[s], left)
			chunks[s] = tokens[s][m.done[s]:][:n]
			left -= n
		}
		if left == maxTokens {
			if m.done[0] == lengths[0] && m.done[1] == lengths[1] && m.done[2] == lengths[2] {
				break
			}
			continue
		}
		for s, logits := range m.step(chunks) {
			got[s] = append(got[s], logits...)
		}
	}
	ref := newReference(t, f, act == tensor.ActivationsInt8)
	worst, largest, disagree, n := 0.0, 0.0, 0, 0
	for s := range tokens {
		for pos, want := range ref.logits(tokens[s]) {
			best, bestWant := 0, 0
			for id, w := range want {
				g := float64(got[s][pos][id])
				if math.IsNaN(g) || math.IsNaN(w) {
					t.Fatalf("sequence %d, position %d, token %d: %g, want %g", s, pos, id, g, w)
				}
				worst, largest = max(worst, math.Abs(g-w)), max(largest, math.Abs(w))
				if got[s][pos][id] > got[s][pos][best] {
					best = id
				}
				if w > want[bestWant] {
					bestWant = id
				}
			}
			if n++; best != bestWant {
				disagree++
			}
		}
	}
	// Each of the sums along the way, one after the other through all layers,
	// adds float32's rounding of its terms, as often up as down.
	cfg := m.model.Config()
	bound := math.Sqrt(float64(cfg.MaxCols)) * float64(4*cfg.Layers+1) * 0x1p-24 * largest
	switch {
	case act == tensor.ActivationsF32:
	case !ref.layer(0, "attn_q").quantised:
		bound = largest * 0x1p-10 // keys and values are float16
	default:
		// Where a number lies between two steps of int8, float32 and float64 may
		// take different ones: a few of the largest sum's terms are 1/127 off.
		bound = largest / 127 * 3
	}
	t.Logf("largest difference %.3g of %.3g, bound %.3g; another best token at %d of %d positions", worst, largest, bound, disagree, n)
	if worst > bound {
		t.Errorf("a logit differs by %g, the bound is %g", worst, bound)
	}
	if act == tensor.ActivationsF32 && disagree > 0 {
		t.Errorf("the best token is another at %d of %d positions", disagree, n)
	}
}

package models_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/models/gguf"
	"github.com/dunlin-go/dunlin/models/pool"
	"github.com/dunlin-go/dunlin/tensor"
)

// TestParts: a model in several files, each with a mapping of its own, computes
// the bits that the one file does.
func TestParts(t *testing.T) {
	for arch, model := range testmodel.Architectures {
		for _, count := range []int{2, 5} {
			t.Run(fmt.Sprintf("%s in %d", arch, count), func(t *testing.T) {
				partsCompute(t, model(testmodel.Config{Weights: tensor.Q4_1, HeadType: tensor.Q8_0}), count, testmodel.Vocabulary)
			})
		}
	}
}

func TestPartsRealModel(t *testing.T) {
	partsCompute(t, realModel(t), 3, 49152)
}

func partsCompute(t *testing.T, whole []byte, count, vocabulary int) {
	one, several := parse(t, whole), mapParts(t, whole, count)
	if parts := several.Parts(); len(parts) != count || slices.ContainsFunc(parts, func(p gguf.Part) bool { return p.Tensors == 0 }) {
		t.Fatalf("%+v", parts)
	}
	rng := rand.New(rand.NewPCG(2, 9))
	tokens := make([]int32, 6)
	for i := range tokens {
		tokens[i] = rng.Int32N(int32(vocabulary))
	}
	want := alone(t, one, tensor.F16, tokens)
	if got := alone(t, several, tensor.F16, tokens); !slices.Equal(got, want) {
		t.Errorf("logits %x, those of the single file are %x", got, want)
	}
}

// mapParts writes a model in count files and maps them, found by the name of the
// last.
func mapParts(t *testing.T, whole []byte, count int) *gguf.File {
	t.Helper()
	model := filepath.Join(t.TempDir(), "model.gguf")
	for i, part := range testmodel.Parts(whole, count) {
		if err := os.WriteFile(gguf.PartPath(model, i+1, count), part, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	paths, err := gguf.PartPaths(gguf.PartPath(model, count, count))
	if err != nil {
		t.Fatal(err)
	}
	var parts [][]byte
	for _, path := range paths {
		h, err := pool.Open(path, pool.Pinned())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		})
		parts = append(parts, h.Bytes())
	}
	out, err := gguf.ParseParts(parts, budget.New(1<<30).Lease())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(out.Close)
	return out
}

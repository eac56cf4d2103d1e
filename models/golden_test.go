package models_test

import (
	"cmp"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/dunlin-go/dunlin/models/pool"
	"github.com/dunlin-go/dunlin/tensor"
)

// golden is what Hugging Face Transformers says of a text; the files belong to
// package runtime, whose test also looks at the tokenizer.
type golden struct {
	IDs     []int32   `json:"ids"`
	TopIDs  []int32   `json:"last_top20_ids"`
	Top     []float64 `json:"last_top20_logits"`
	Mean    float64   `json:"mean_loglik"`
	Greedy  []int32   `json:"greedy32"`
	Margins []float64 `json:"greedy32_top1_minus_top2"`
}

func readGolden(t *testing.T, path string) (g golden) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return g
}

// TestGoldenGemma3 compares a real Gemma 3 with Transformers, whose weights were
// those of the same file in float32, token ids in and logits out. The bounds are
// those of package runtime's TestGolden.
func TestGoldenGemma3(t *testing.T) {
	path := os.Getenv("DUNLIN_TEST_GEMMA")
	if path == "" {
		t.Skip("DUNLIN_TEST_GEMMA is not set: the path of what `dunlin pull gemma3-270m` fetches")
	}
	if testing.Short() {
		t.Skip("the real model is slow under -short")
	}
	h, err := pool.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	f := parse(t, h.Bytes())
	paths, err := filepath.Glob("../runtime/testdata/golden/gemma/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, mode := range []struct {
		name                string
		activations         tensor.Activations
		logit, mean, margin float64
	}{
		{"f32", tensor.ActivationsF32, 1e-2, 1e-4, 2e-2},
		{"int8", tensor.ActivationsInt8, 1.0, 0.03, 0.3},
	} {
		for _, p := range paths {
			t.Run(mode.name+"/"+filepath.Base(p), func(t *testing.T) {
				g := readGolden(t, p)
				m := newMachine(t, f, mode.activations, 1)
				all := slices.Concat(g.IDs, g.Greedy)
				worst, mean, compared := 0.0, 0.0, 0
				for chunk := range slices.Chunk(all, maxTokens) {
					at := m.done[0]
					for i, row := range m.step(map[int][]int32{0: chunk})[0] {
						pos := at + i
						if pos+1 < len(g.IDs) {
							mean += logProb(row, g.IDs[pos+1]) / float64(len(g.IDs)-1)
						}
						if pos == len(g.IDs)-1 {
							for n, id := range g.TopIDs {
								worst = max(worst, math.Abs(float64(row[id])-g.Top[n]))
							}
						}
						step := pos + 1 - len(g.IDs)
						if step < 0 || step >= len(g.Greedy) || g.Margins[step] < mode.margin {
							continue
						}
						compared++
						if got := argmax(row); got != g.Greedy[step] {
							t.Errorf("greedy token %d is %d, want %d (margin %.3f)", step, got, g.Greedy[step], g.Margins[step])
						}
					}
				}
				off := math.Abs(mean-g.Mean) / math.Abs(g.Mean)
				t.Logf("largest difference of a top-20 logit %.2g; mean log-probability %.5f, %.4f %% off; %d greedy tokens compared", worst, mean, off*100, compared)
				if !(worst < mode.logit) {
					t.Errorf("a top-20 logit differs by %.4g, the bound is %g", worst, mode.logit)
				}
				if !(off < mode.mean) {
					t.Errorf("mean log-probability %.5f, want %.5f within %g %%", mean, g.Mean, mode.mean*100)
				}
				if compared == 0 {
					t.Error("no greedy step has enough margin to compare")
				}
			})
		}
	}
}

// logProb is the log-probability of a token.
func logProb(row []float32, id int32) float64 {
	top, sum := float64(slices.Max(row)), 0.0
	for _, v := range row {
		sum += math.Exp(float64(v) - top)
	}
	return float64(row[id]) - top - math.Log(sum)
}

func argmax(row []float32) int32 {
	best := 0
	for i, v := range row {
		if cmp.Less(row[best], v) {
			best = i
		}
	}
	return int32(best)
}

package runtime_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dunlin-go/dunlin/runtime"
)

// realModel loads the model that `make test` fetches.
func realModel(t testing.TB, opts ...runtime.Option) *runtime.Model {
	t.Helper()
	return realModelAt(t, "DUNLIN_TEST_MODEL", opts...)
}

// realModelAt loads the model whose path the environment variable has.
func realModelAt(t testing.TB, env string, opts ...runtime.Option) *runtime.Model {
	t.Helper()
	path := os.Getenv(env)
	if path == "" {
		t.Skip(env + " is not set to the path of a model; `make test` sets DUNLIN_TEST_MODEL")
	}
	if testing.Short() {
		t.Skip("the real model is slow under -short")
	}
	return load(t, path, opts...)
}

func load(t testing.TB, path string, opts ...runtime.Option) *runtime.Model {
	t.Helper()
	m, err := runtime.Load(t.Context(), path, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

type golden struct {
	Text    string    `json:"text"`
	IDs     []int32   `json:"ids"`
	TopIDs  []int32   `json:"last_top20_ids"`
	Top     []float64 `json:"last_top20_logits"`
	Mean    float64   `json:"mean_loglik"`
	Scored  int       `json:"n_scored"`
	Greedy  []int32   `json:"greedy32"`
	Margins []float64 `json:"greedy32_top1_minus_top2"`
}

// goldens are those of a directory.
func goldens(t *testing.T, dir string) map[string]golden {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	all := map[string]golden{}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		var g golden
		if err := json.Unmarshal(b, &g); err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		all[strings.TrimSuffix(filepath.Base(p), ".json")] = g
	}
	return all
}

// TestGolden compares with Hugging Face Transformers. The bounds for integer
// activations are what an emulation of them in torch showed, with a little
// room; the reference mode must agree to rounding. Pages of Q8_0 add less than that:
// up to 1.1 % and 0.32 were measured, and 5 and more with the scales of other blocks.
func TestGolden(t *testing.T) { testGolden(t, "DUNLIN_TEST_MODEL", "testdata/golden") }

// TestGoldenGemma is TestGolden for Gemma 3 270M, `dunlin pull gemma3-270m`.
func TestGoldenGemma(t *testing.T) { testGolden(t, "DUNLIN_TEST_GEMMA", "testdata/golden/gemma") }

func testGolden(t *testing.T, env, dir string) {
	for _, mode := range []struct {
		name      string
		option    runtime.Option
		logit     float64 // largest difference of a top-20 logit
		logitOne  float64 // the same for a text of one token
		meanLong  float64 // largest relative difference of the mean log-probability, over 400 tokens
		meanShort float64 // for shorter texts
		margin    float64 // above it the greedy choice must be the same
	}{
		{"f32", runtime.WithActivations(runtime.ActivationsF32), 1e-2, 1e-2, 1e-4, 1e-4, 2e-2},
		{"int8", runtime.WithActivations(runtime.ActivationsInt8), 1.0, 2.5, 0.003, 0.03, 0.3},
		{"int8, pages of Q8_0", runtime.WithKVCacheType(runtime.KVCacheQ8_0), 1.0, 2.5, 0.003, 0.03, 0.3},
	} {
		t.Run(mode.name, func(t *testing.T) {
			m := realModelAt(t, env, mode.option, runtime.WithContextLength(1024))
			for name, g := range goldens(t, dir) {
				t.Run(name, func(t *testing.T) {
					ids, err := m.Tokenize(t.Context(), g.Text, runtime.TokenizeOptions{AddSpecial: true, ParseSpecial: true})
					if err != nil || !slices.Equal(ids, g.IDs) {
						t.Fatalf("ids %v, %v, want %v", ids, err, g.IDs)
					}
					score, err := m.Score(t.Context(), ids, runtime.ScoreOptions{Top: 1000})
					if err != nil {
						t.Fatal(err)
					}
					logitBound := mode.logit
					if len(ids) == 1 {
						logitBound = mode.logitOne
					}
					checkTop(t, score.Top, g, logitBound, mode.name == "f32")
					meanBound := mode.meanShort
					if len(ids) > 400 {
						meanBound = mode.meanLong
					}
					checkMean(t, score.Logprobs, g, meanBound)

					all, err := m.Score(t.Context(), append(slices.Clone(ids), g.Greedy...), runtime.ScoreOptions{})
					if err != nil {
						t.Fatal(err)
					}
					compared := 0
					for i, want := range g.Greedy {
						if g.Margins[i] < mode.margin {
							continue
						}
						compared++
						if got := all.Argmax[len(ids)-1+i]; got != want {
							t.Errorf("greedy token %d is %d, want %d (margin %.3f)", i, got, want, g.Margins[i])
						}
					}
					if compared == 0 {
						t.Error("no greedy step has enough margin to compare")
					}
				})
			}
		})
	}
}

func checkTop(t *testing.T, top []runtime.TokenLogit, g golden, bound float64, order bool) {
	t.Helper()
	logits := map[int32]float64{}
	for _, c := range top {
		logits[c.ID] = float64(c.Logit)
	}
	worst := 0.0
	for i, id := range g.TopIDs {
		got, ok := logits[id]
		if !ok {
			t.Errorf("token %d, number %d of the reference's, isn't among the first %d", id, i, len(top))
			continue
		}
		worst = max(worst, math.Abs(got-g.Top[i]))
		if order && top[i].ID != id && math.Abs(float64(top[i].Logit)-g.Top[i]) > bound {
			t.Errorf("number %d is token %d, want %d", i, top[i].ID, id)
		}
	}
	t.Logf("largest difference of a top-20 logit: %.2g", worst)
	if worst >= bound {
		t.Errorf("a top-20 logit differs by %.4g, the bound is %g", worst, bound)
	}
}

func checkMean(t *testing.T, logprobs []float64, g golden, bound float64) {
	t.Helper()
	if len(logprobs) != g.Scored {
		t.Fatalf("%d log-probabilities, want %d", len(logprobs), g.Scored)
	}
	if g.Scored == 0 {
		return
	}
	mean := 0.0
	for _, l := range logprobs {
		mean += l
	}
	mean /= float64(len(logprobs))
	off := math.Abs(mean-g.Mean) / math.Abs(g.Mean)
	t.Logf("mean log-probability %.5f, reference %.5f: %.3f %% off", mean, g.Mean, off*100)
	if off >= bound {
		t.Errorf("mean log-probability %.5f, want %.5f within %g %%", mean, g.Mean, bound*100)
	}
}

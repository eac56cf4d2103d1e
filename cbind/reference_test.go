package cbind_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/dunlin-go/dunlin/cbind"
	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/runtime"
)

// plainPython is what logits.py gives for texts, one after the other.
func plainPython(t *testing.T, model string, texts [][]int32) []float32 {
	t.Helper()
	dir := os.Getenv("DUNLIN_BRIDGE")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(cache, "dunlin", "bridge")
	}
	in, err := json.Marshal(texts)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "venv/bin/python"), "testdata/logits.py", model, "2")
	cmd.Stdin = bytes.NewReader(in)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	values := make([]float32, len(out)/4)
	for i := range values {
		values[i] = math.Float32frombits(binary.LittleEndian.Uint32(out[4*i:]))
	}
	return values
}

// TestSameBitsAsPython: token ids, logits and hidden states of the golden texts are those of a
// Python that knows nothing of the bridge.
func TestSameBitsAsPython(t *testing.T) {
	for name, dir := range realModels {
		t.Run(name, func(t *testing.T) {
			path := testmodel.Bridge(t, name)
			all := goldens(t, dir)
			names := slices.Sorted(maps.Keys(all))
			var texts [][]int32
			for _, n := range names {
				texts = append(texts, all[n].IDs)
			}
			want := plainPython(t, path, texts)
			for _, way := range ways {
				t.Run(way.name, func(t *testing.T) {
					m, rest, compared := openPath(t, path, way.opts...), want, 0
					for _, n := range names {
						g := all[n]
						ids, err := m.Tokenize(t.Context(), g.Text, runtime.TokenizeOptions{AddSpecial: true, ParseSpecial: true})
						if err != nil || !slices.Equal(ids, g.IDs) {
							t.Errorf("%s: ids %v, %v, want %v", n, ids, err, g.IDs)
						}
						for _, hidden := range []bool{false, true} {
							out, err := m.Infer(t.Context(), cbind.Input{Tokens: g.IDs, Hidden: hidden})
							if err != nil {
								t.Fatal(err)
							}
							got, err := out.Values()
							if err != nil {
								t.Fatal(err)
							}
							if s := out.Shape(); len(s) != 3 || s[0] != 1 || s[1] != len(g.IDs) || len(got) != s[1]*s[2] {
								t.Fatalf("%s: the shape is %v, of %d values", n, s, len(got))
							}
							if i := firstDifference(got, rest[:len(got)]); i >= 0 {
								t.Errorf("%s, hidden %v: value %d is %v, Python has %v", n, hidden, i, got[i], rest[i])
							}
							if !hidden {
								checkGolden(t, n, g, got[(len(g.IDs)-1)*out.Shape()[2]:])
							}
							compared += len(got)
							rest = rest[len(got):]
							out.Release()
						}
					}
					if len(rest) != 0 {
						t.Errorf("Python gave %d values more", len(rest))
					}
					t.Logf("%d values are equal", compared)
				})
			}
		})
	}
}

// firstDifference is the place of the first value whose bits differ, -1 for none.
func firstDifference(a, b []float32) int {
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return i
		}
	}
	return -1
}

// checkGolden compares with the reference values, which another machine computed.
func checkGolden(t *testing.T, name string, g golden, last []float32) {
	t.Helper()
	for i, id := range g.TopIDs {
		if d := math.Abs(float64(last[id] - g.Top[i])); d > 1e-2 {
			t.Errorf("%s: the logit of %d is %v, the reference %v", name, id, last[id], g.Top[i])
		}
	}
}

// TestGreedyIsTransformers: dunlin's greedy decoding over torch's logits, and
// Transformers' own generation, give the reference's continuation.
func TestGreedyIsTransformers(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			m := open(t, "smollm2", way.opts...)
			for name, g := range goldens(t, realModels["smollm2"]) {
				if len(g.IDs) > 100 {
					continue // it takes long and adds nothing
				}
				const n = 8
				res, err := runtime.Generate(t.Context(), m, runtime.Request{Tokens: g.IDs, MaxTokens: n, IgnoreEOS: true})
				if err != nil || !slices.Equal(res.Tokens, g.Greedy[:n]) {
					t.Errorf("%s: %v, %v, want %v", name, res.Tokens, err, g.Greedy[:n])
				}
				var own []int32
				err = m.GenerateReference(t.Context(), g.IDs, n, func(id int32) bool {
					own = append(own, id)
					return len(own) < n-2
				})
				if err != nil || len(own) > n-2 || !slices.Equal(own, g.Greedy[:len(own)]) {
					t.Errorf("%s: Transformers' generate gave %v, %v, want %v", name, own, err, g.Greedy[:n-2])
				}
			}
		})
	}
}

// TestScore: scores come from the same logits.
func TestScore(t *testing.T) {
	m := open(t, "smollm2")
	g := goldens(t, realModels["smollm2"])["01_capital"]
	seen := make([]int32, len(g.IDs))
	score, err := m.Score(t.Context(), g.IDs, runtime.ScoreOptions{Top: 20, Each: func(at int, logits []float32) {
		for id, l := range logits {
			if l > logits[seen[at]] {
				seen[at] = int32(id)
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(seen, score.Argmax) || len(score.Logprobs) != len(g.IDs)-1 {
		t.Errorf("Each saw %v, the score says %v", seen, score.Argmax)
	}
	for i, top := range score.Top {
		if top.ID != g.TopIDs[i] {
			t.Errorf("place %d has %d, the reference %d", i, top.ID, g.TopIDs[i])
		}
	}
}

package loadsim

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// TestSynthetic holds the files to their generator, and their numbers to what they
// say about themselves.
func TestSynthetic(t *testing.T) {
	for _, tc := range []struct {
		trace          *Trace
		rate           float64
		prompt, answer int // medians
		shared         float64
		longest        int // prompt and answer
	}{
		{Chat(), 0.87, 711, 59, 0.72, 3072 + 384},
		{Retrieval(), 0.24, 3075, 30, 0.59, 6000 + 128},
	} {
		t.Run(tc.trace.Name, func(t *testing.T) {
			file, err := os.ReadFile(filepath.Join("..", "..", "docs", "traces", tc.trace.Name+".jsonl"))
			if err != nil {
				t.Fatal(err)
			}
			var made bytes.Buffer
			if err := tc.trace.Write(&made); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(file, made.Bytes()) {
				t.Fatal("the file is not what the generator writes: make generate")
			}
			lease := budget.New(64 << 20).Lease()
			defer lease.Close()
			tr, err := Read(bytes.NewReader(file), ReadOptions{}, lease)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(tr.Name, "synthetic") || !strings.HasPrefix(tr.About[0], "synthetic:") {
				t.Errorf("%q doesn't say that it is synthetic", tr.Name)
			}
			var prompts, answers []int
			for _, e := range tr.Entries {
				prompts, answers = append(prompts, e.Input), append(answers, e.Output)
				if e.Input+e.Output > tc.longest {
					t.Errorf("%d + %d tokens", e.Input, e.Output)
				}
			}
			slices.Sort(prompts)
			slices.Sort(answers)
			if got := prompts[len(prompts)/2]; got != tc.prompt {
				t.Errorf("median prompt %d, want %d", got, tc.prompt)
			}
			if got := answers[len(answers)/2]; got != tc.answer {
				t.Errorf("median answer %d, want %d", got, tc.answer)
			}
			if got := tr.Shared(); math.Abs(got-tc.shared) > 0.01 {
				t.Errorf("%.3f of the prompts is shared, want %.2f", got, tc.shared)
			}
			if got := tr.Rate(); math.Abs(got-tc.rate) > 0.01 {
				t.Errorf("rate %.3f, want %.2f", got, tc.rate)
			}
		})
	}
}

package runtime_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/dunlin-go/dunlin/internal/procmem"
	"github.com/dunlin-go/dunlin/runtime"
)

// memoryChild is set in the process that TestWeightsAreNotCopied starts.
const memoryChild = "DUNLIN_TEST_MEMORY_CHILD"

// maxOwn is the memory that a process may have of its own with a
// model of 98 MB whose weights it shares with every other.
const maxOwn = 60 << 20

// TestWeightsAreNotCopied generates in a process of its own and reads what the
// kernel says of its memory: what it has written itself must be far less than
// the model's file.
func TestWeightsAreNotCopied(t *testing.T) {
	if os.Getenv(memoryChild) != "" {
		memoryOfGeneration(t)
		return
	}
	if os.Getenv("DUNLIN_TEST_MODEL") == "" || testing.Short() {
		t.Skip("needs DUNLIN_TEST_MODEL, and time")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWeightsAreNotCopied$", "-test.v")
	cmd.Env = append(os.Environ(), memoryChild+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "anonymous ") {
			t.Log(strings.TrimSpace(line))
			return
		}
	}
	t.Errorf("the process measured nothing:\n%s", out)
}

func memoryOfGeneration(t *testing.T) {
	m := realModel(t, runtime.WithContextLength(512))
	tokens := make([]int32, 400)
	for i := range tokens {
		tokens[i] = int32(1000 + i*31%20000)
	}
	res, err := runtime.Generate(context.Background(), m, runtime.Request{Tokens: tokens, MaxTokens: 100, IgnoreEOS: true})
	if err != nil || len(res.Tokens) != 100 {
		t.Fatalf("%v, %v", res, err)
	}
	use, err := procmem.Rollup(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("anonymous %.1f MB, Rss %.1f MB, Pss %.1f MB", mega(use.Anonymous), mega(use.Rss), mega(use.Pss))
	if n := use.Anonymous; n == 0 || n > maxOwn && !raceDetector {
		t.Errorf("%d bytes are the process's own, at most %d should be", n, maxOwn)
	}
	if m.Info().FileBytes < maxOwn {
		t.Errorf("the model has only %d bytes: a copy wouldn't be seen", m.Info().FileBytes)
	}
}

func mega(n int64) float64 { return float64(n) / (1 << 20) }

package runtime_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/dunlin-go/dunlin/runtime"
)

// memoryChild is set in the process that TestWeightsAreNotCopied starts.
const memoryChild = "DUNLIN_TEST_MEMORY_CHILD"

// maxPrivateDirty is the memory that a process may have of its own with a
// model of 98 MB whose weights it shares with every other.
const maxPrivateDirty = 60 << 20

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
		if strings.Contains(line, "Private_Dirty") {
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
	use, err := memoryUse()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("Private_Dirty %.1f MB, Rss %.1f MB, Pss %.1f MB", mega(use["Private_Dirty"]), mega(use["Rss"]), mega(use["Pss"]))
	if n := use["Private_Dirty"]; n == 0 || n > maxPrivateDirty && !raceDetector {
		t.Errorf("%d bytes are the process's own, at most %d should be", n, maxPrivateDirty)
	}
	if m.Info().FileBytes < maxPrivateDirty {
		t.Errorf("the model has only %d bytes: a copy wouldn't be seen", m.Info().FileBytes)
	}
}

func mega(n int64) float64 { return float64(n) / (1 << 20) }

// memoryUse reads the sums over all of the process's mappings, in bytes.
func memoryUse() (map[string]int64, error) {
	b, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		return nil, err
	}
	use := map[string]int64{}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) != 3 || f[2] != "kB" {
			continue
		}
		n, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("smaps_rollup: %w", err)
		}
		use[strings.TrimSuffix(f[0], ":")] = n << 10
	}
	return use, nil
}

package cbind_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/dunlin-go/dunlin/cbind"
	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/runtime"
)

// realModels are the Hugging Face directories of the models that golden texts are of.
var realModels = map[string]string{"smollm2": "../runtime/testdata/golden", "gemma3": "../runtime/testdata/golden/gemma"}

// ways are in process and in a child.
var ways = []struct {
	name string
	opts []cbind.Option
}{{"in process", nil}, {"isolated", []cbind.Option{cbind.Isolated()}}}

// open opens one of the models.
func open(t testing.TB, name string, opts ...cbind.Option) *cbind.Model {
	t.Helper()
	return openPath(t, testmodel.Bridge(t, name), opts...)
}

func openPath(t testing.TB, path string, opts ...cbind.Option) *cbind.Model {
	t.Helper()
	m, err := cbind.Open(t.Context(), path, append([]cbind.Option{cbind.WithRuntime(runtime.WithThreads(2))}, opts...)...)
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
	Text   string    `json:"text"`
	IDs    []int32   `json:"ids"`
	TopIDs []int32   `json:"last_top20_ids"`
	Top    []float32 `json:"last_top20_logits"`
	Greedy []int32   `json:"greedy32"`
}

// goldens are those of a directory.
func goldens(t testing.TB, dir string) map[string]golden {
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

// children are the processes that this one has started and that run.
func children(t testing.TB) (pids []int) {
	t.Helper()
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(tasks) == 0 {
		t.Skip("the kernel doesn't list children")
	}
	for _, path := range tasks {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // a thread that has ended
		}
		for _, f := range strings.Fields(string(b)) {
			pid, err := strconv.Atoi(f)
			if err != nil {
				t.Fatal(err)
			}
			if line, err := os.ReadFile("/proc/" + f + "/cmdline"); err == nil && strings.Contains(string(line), "dunlin-bridge") {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// threads and descriptors of this process.
func threads(t testing.TB) int     { return entries(t, "/proc/self/task") }
func descriptors(t testing.TB) int { return entries(t, "/proc/self/fd") }

func entries(t testing.TB, dir string) int {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// allocated is what Go has allocated while f ran, in bytes.
func allocated(f func()) uint64 {
	var before, after goruntime.MemStats
	goruntime.ReadMemStats(&before)
	f()
	goruntime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// addressOf is where a slice lies.
func addressOf(ids []int32) uintptr { return uintptr(unsafe.Pointer(&ids[0])) }

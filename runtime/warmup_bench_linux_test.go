package runtime_test

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dunlin-go/dunlin/runtime"
)

// BenchmarkWarmUp measures the time from Load's call to the first token, the ways of
// warming up in turn, with the file in the page cache and evicted from it. The
// figures are medians.
func BenchmarkWarmUp(b *testing.B) {
	path := os.Getenv("DUNLIN_TEST_MODEL")
	if path == "" {
		b.Skip("DUNLIN_TEST_MODEL is not set to the path of a model")
	}
	ways := []struct {
		name string
		way  runtime.WarmUp
	}{{"none", runtime.WarmUpNone}, {"background", runtime.WarmUpBackground}, {"wait", runtime.WarmUpWait}}
	for _, evicted := range []bool{false, true} {
		b.Run(fmt.Sprintf("evicted=%t", evicted), func(b *testing.B) {
			took := make([][]float64, len(ways))
			for b.Loop() {
				for i, w := range ways {
					if evicted {
						evict(b, path)
					}
					start := time.Now()
					m, err := runtime.Load(b.Context(), path, runtime.WithWarmUp(w.way))
					if err != nil {
						b.Fatal(err)
					}
					if _, err := runtime.Generate(b.Context(), m, runtime.Request{Prompt: "The capital of France is", MaxTokens: 1}); err != nil {
						b.Fatal(err)
					}
					took[i] = append(took[i], float64(time.Since(start))/1e6)
					if err := m.Close(); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(0, "ns/op")
			for i, w := range ways {
				slices.Sort(took[i])
				b.ReportMetric(took[i][len(took[i])/2], w.name+"-ms")
			}
		})
	}
}

// evict takes a file that nobody has mapped out of the page cache.
func evict(b *testing.B, path string) {
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		b.Fatal(err)
	}
}

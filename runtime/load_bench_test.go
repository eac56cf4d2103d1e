package runtime_test

import (
	"os"
	goruntime "runtime"
	"testing"

	"github.com/dunlin-go/dunlin/runtime"
)

// BenchmarkLoad loads a real model and generates one token, with the file in the
// page cache.
func BenchmarkLoad(b *testing.B) {
	for _, model := range []struct{ name, env string }{{"SmolLM2", "DUNLIN_TEST_MODEL"}, {"Gemma3", "DUNLIN_TEST_GEMMA"}} {
		b.Run(model.name, func(b *testing.B) {
			path := os.Getenv(model.env)
			if path == "" {
				b.Skip(model.env + " is not set to the path of a model")
			}
			vocabulary := vocabularyBytes(b, path)
			for b.Loop() {
				m, err := runtime.Load(b.Context(), path)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := runtime.Generate(b.Context(), m, runtime.Request{Prompt: "The capital of France is", MaxTokens: 1}); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := m.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(vocabulary)/(1<<20), "vocab-MiB")
		})
	}
}

// vocabularyBytes is what the heap grows by for a vocabulary.
func vocabularyBytes(b *testing.B, path string) uint64 {
	heap := func() uint64 {
		goruntime.GC()
		var m goruntime.MemStats
		goruntime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	tok, err := runtime.OpenTokenizer(b.Context(), path)
	if err != nil {
		b.Fatal(err)
	}
	grown := heap() - before
	if err := tok.Close(); err != nil {
		b.Fatal(err)
	}
	return grown
}

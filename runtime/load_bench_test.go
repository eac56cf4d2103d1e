package runtime_test

import (
	"os"
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
		})
	}
}

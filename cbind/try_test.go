package cbind_test

import (
	"testing"

	"github.com/dunlin-go/dunlin/cbind"
	"github.com/dunlin-go/dunlin/runtime"
	"github.com/dunlin-go/dunlin/runtime/runtimetest"
)

func TestTry(t *testing.T) {
	for _, o := range [][]cbind.Option{nil, {cbind.Isolated()}} {
		m, err := cbind.Open(t.Context(), "/tmp/brexp/smol", o...)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		r, err := runtime.Generate(t.Context(), m, runtime.Request{Messages: []runtime.Message{{Role: "user", Content: "What is the capital of France?"}}, MaxTokens: 30})
		t.Logf("%+v %v", r, err)
	}
}

func TestConf(t *testing.T) {
	for _, o := range [][]cbind.Option{nil, {cbind.Isolated()}} {
		runtimetest.Conformance(t, func(t *testing.T) runtime.Generator {
			m, err := cbind.Open(t.Context(), "/tmp/brexp/tiny", o...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { m.Close() })
			return m
		})
	}
}

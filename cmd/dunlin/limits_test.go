package main

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/runtime"
	"github.com/dunlin-go/dunlin/runtime/runtimetest"
)

// withRoom leaves so many bytes of the process's limit until the test ends.
func withRoom(t *testing.T, bytes int64) {
	t.Helper()
	before := runtime.ProcessMemory()
	t.Cleanup(func() { _ = runtime.SetMemoryLimit(before.Limit) })
	if err := runtime.SetMemoryLimit(before.Used + bytes); err != nil {
		t.Fatal(err)
	}
}

// TestInspectIsPriced: in full, each byte of an array may become a line of text.
func TestInspectIsPriced(t *testing.T) {
	const elements = 1 << 20
	path := filepath.Join(t.TempDir(), "long.gguf")
	data := testmodel.Llama(testmodel.Config{Keys: map[string]any{"general.long": make([]uint8, elements)}})
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	withRoom(t, 16*elements) // an interface each
	for _, full := range []bool{false, true} {
		lease := budget.Process().Lease()
		_, err := inspect(path, full, lease)
		var e *runtime.MemoryError
		if errors.As(err, &e) != full || !full && err != nil {
			t.Errorf("in full %v: %v", full, err)
		}
		lease.Close()
	}
}

// TestRunIsPriced: an answer that is gathered ends where memory does.
func TestRunIsPriced(t *testing.T) {
	const size = 1 << 20
	f := runtimetest.New(runtimetest.WithContextLength(2*size), runtimetest.WithReply(func(string) string { return strings.Repeat("x", size) }))
	defer f.Close()
	withRoom(t, size)
	a := answer{w: bufio.NewWriter(io.Discard), quiet: true}
	_, err := a.generate(t.Context(), f, runtime.Request{Prompt: "hello"})
	var e *runtime.MemoryError
	if !errors.As(err, &e) {
		t.Errorf("%v, want a refusal", err)
	}
}

//go:build linux || darwin

package gguf

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"testing"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// TestFault truncates a mapped file under Parse: the fault reaches the caller as
// a panic that it can recover from, and leaves nothing reserved.
func TestFault(t *testing.T) {
	size := 4 * os.Getpagesize()
	w := NewWriter()
	w.SetString("general.name", string(make([]byte, size)))
	w.SetStrings("tokenizer.ggml.tokens", []string{"a", "b"})
	path := filepath.Join(t.TempDir(), "model.gguf")
	data := write(t, w)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	mapped, err := syscall.Mmap(int(file.Fd()), 0, len(data), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Munmap(mapped)
	if err := os.Truncate(path, int64(os.Getpagesize())); err != nil {
		t.Fatal(err)
	}

	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	b := budget.New(1 << 20)
	fault := func() (fault any) {
		defer func() { fault = recover() }()
		_, err := Parse(mapped, b.Lease())
		t.Errorf("Parse = %v, want a fault", err)
		return nil
	}()
	if fault == nil {
		t.Error("no fault")
	}
	if b.Used() != 0 {
		t.Errorf("%d bytes are still reserved after a fault", b.Used())
	}
}

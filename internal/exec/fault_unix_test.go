//go:build linux || darwin

package exec

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"unsafe"
)

// TestTruncatedMapping maps a file, truncates it, and reads what is gone: in the
// step's function and on each thread of a Do.
func TestTruncatedMapping(t *testing.T) {
	page := os.Getpagesize()
	path := filepath.Join(t.TempDir(), "model")
	if err := os.WriteFile(path, make([]byte, 4*page), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := syscall.Mmap(int(f.Fd()), 0, 4*page, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Munmap(m)
	if err := f.Truncate(0); err != nil {
		t.Fatal(err)
	}

	var sink byte
	read := func() { sink += m[2*page] }
	want := uintptr(unsafe.Pointer(&m[2*page]))
	e := newExecutor(t, 3)
	check := func(where string, run func(s *Step)) {
		t.Helper()
		err := e.Step(t.Context(), 3, func(s *Step) error { run(s); return nil })
		var fault *FaultError
		var r runtime.Error
		if !errors.As(err, &fault) || !errors.As(err, &r) {
			t.Fatalf("%s: Step = %v, want a FaultError", where, err)
		}
		if fault.Addr != want || len(fault.Stack) == 0 {
			t.Errorf("%s: fault at %#x with %d bytes of stack, want %#x", where, fault.Addr, len(fault.Stack), want)
		}
		usable(t, e, 3)
	}
	check("function", func(*Step) { read() })
	for who := range 3 {
		check("thread", func(s *Step) {
			task, n := onThread(3, who, read)
			s.Do(task, n, 1)
		})
	}
	_ = sink
}

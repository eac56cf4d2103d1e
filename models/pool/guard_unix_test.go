//go:build unix

package pool

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOpenDoesNotWaitForAPipe would hang where it fails.
func TestOpenDoesNotWaitForAPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Skip("no pipes here:", err)
	}
	if h, err := Open(path); !errors.Is(err, ErrNotRegular) || h != nil {
		t.Errorf("Open of a pipe: %v, %v", h, err)
	}
}

func TestGuardTurnsFaultIntoError(t *testing.T) {
	path := write(t, 1<<20)
	h, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	var sum byte
	err = Guard(func() error { sum += h.Bytes()[1<<19]; return nil })
	if !errors.Is(err, ErrFault) || strings.Contains(err.Error(), "nil pointer") {
		t.Errorf("reading a cut file: %v (%d), want ErrFault and nothing of nil pointers", err, sum)
	}
	if err := h.Check(); !errors.Is(err, ErrChanged) {
		t.Errorf("Check: %v, want ErrChanged", err)
	}
	if got := Guard(func() error { return os.ErrInvalid }); got != os.ErrInvalid {
		t.Errorf("Guard changed an ordinary error: %v", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("Guard swallowed a panic that is no fault")
		}
	}()
	_ = Guard(func() error { panic("ours") })
}

//go:build unix && amd64 && !purego

package probe

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/dunlin-go/dunlin/models/pool"
)

// TestReadOfACutFile reads a mapping whose file has become shorter.
func TestReadOfACutFile(t *testing.T) {
	if read == nil {
		t.Skip("no probe for this machine")
	}
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := pool.Open(path, pool.Pinned())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if got := Read(2, h.Bytes()); got <= 0 {
		t.Errorf("%g bytes a second of a whole file", got)
	}
	if err := os.Truncate(path, 4096); err != nil {
		t.Fatal(err)
	}
	if got := Read(2, h.Bytes()); got != 0 {
		t.Errorf("%g bytes a second of a cut file", got)
	}
}

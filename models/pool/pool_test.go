package pool

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func write(t *testing.T, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func mapped() int {
	return len(ReadStats().Mappings)
}

func TestOpenSharesOneMapping(t *testing.T) {
	path := write(t, 10000)
	link := path + ".link"
	if err := os.Link(path, link); err != nil {
		t.Skip("no hard links here:", err)
	}
	a, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			b, err := Open(link)
			if err != nil {
				t.Error(err)
				return
			}
			if &a.Bytes()[0] != &b.Bytes()[0] {
				t.Error("two mappings of one file")
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := a.Bytes()[9999]; got != byte(9999*7%256) {
		t.Errorf("last byte is %d", got)
	}
	for range 2 {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
	if n := mapped(); n != 0 {
		t.Errorf("%d mappings left", n)
	}
}

func TestOpenRefuses(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{t.TempDir(): ErrNotRegular, empty: ErrEmpty, empty + "x": os.ErrNotExist} {
		if h, err := Open(path); !errors.Is(err, want) || h != nil {
			t.Errorf("Open(%s) = %v, %v, want %v", path, h, err, want)
		}
	}
}

func TestChangedFile(t *testing.T) {
	path := write(t, 100)
	a, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.Check(); err != nil {
		t.Errorf("unchanged: %v", err)
	}
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	if err := a.Check(); err != nil {
		t.Errorf("moved: %v", err)
	}
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(path+".old", later, later); err != nil {
		t.Fatal(err)
	}
	if err := a.Check(); !errors.Is(err, ErrChanged) {
		t.Errorf("touched: %v, want ErrChanged", err)
	}
	b, err := Open(path + ".old") // what it is now, not what it was
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Check(); err != nil {
		t.Errorf("opened after the change: %v", err)
	}
	if w := Wrap([]byte{1}); w.Check() != nil || w.Close() != nil {
		t.Error("wrapped bytes have no file to change")
	}
}

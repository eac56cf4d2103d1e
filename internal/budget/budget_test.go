package budget

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestReserve(t *testing.T) {
	b := New(100)
	if err := b.Reserve(KVCache, 60); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int64{41, math.MaxInt64, -1} {
		err := b.Reserve(Request, n)
		var e *ExceededError
		if !errors.As(err, &e) || !errors.Is(err, ErrExceeded) || e.Left != 40 || e.Purpose != Request {
			t.Errorf("Reserve(%d) = %v", n, err)
		}
	}
	if b.Used() != 60 || b.UsedFor(KVCache) != 60 || b.UsedFor(Request) != 0 {
		t.Errorf("used %d, %d, %d", b.Used(), b.UsedFor(KVCache), b.UsedFor(Request))
	}
	if err := b.Reserve(Request, 40); err != nil {
		t.Errorf("the last bytes: %v", err)
	}
}

func TestLease(t *testing.T) {
	b := New(1000)
	l := b.Lease()
	if err := l.ReserveItems(Scratch, 10, 50); err != nil {
		t.Fatal(err)
	}
	for _, n := range []uint64{501, math.MaxUint64, 1 << 63} {
		if err := l.ReserveItems(Scratch, n, 1); !errors.Is(err, ErrExceeded) {
			t.Errorf("%d items: %v", n, err)
		}
		if err := l.ReserveItems(Scratch, 1<<33, n); !errors.Is(err, ErrExceeded) {
			t.Errorf("items of %d: %v", n, err)
		}
	}
	if l.Held() != 500 {
		t.Errorf("held %d", l.Held())
	}
	l.Close()
	l.Close()
	if b.Used() != 0 {
		t.Errorf("%d bytes left after Close", b.Used())
	}
}

func TestConcurrentReservationsNeverExceed(t *testing.T) {
	b := New(1000)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				l := b.Lease()
				for l.Reserve(Metadata, 7) == nil {
					if used := b.Used(); used > 1000 {
						t.Errorf("%d bytes of 1000", used)
					}
				}
				l.Close()
			}
		})
	}
	wg.Wait()
	if b.Used() != 0 {
		t.Errorf("%d bytes left", b.Used())
	}
}

func TestCgroupLimit(t *testing.T) {
	root := t.TempDir()
	write := func(path, text string) string {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("a/memory.max", "5000\n")
	write("a/b/memory.max", "max\n")
	write("memory/c/memory.limit_in_bytes", "700\n")
	for text, want := range map[string]int64{
		"0::/a/b\n":                      5000,
		"0::/\n":                         math.MaxInt64,
		"3:cpu:/c\n2:memory:/c\n":        700,
		"0::/a\n2:memory:/c\nnonsense\n": 700,
		"":                               math.MaxInt64,
	} {
		if got := cgroupLimit(root, write("self", text)); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
	if got := Available(); got <= 0 {
		t.Errorf("Available() = %d", got)
	}
}

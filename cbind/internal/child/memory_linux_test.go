package child

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/dunlin-go/dunlin/cbind/internal/device"
)

// TestMemoryPlaces: spans never overlap, and all of the memory can be had again.
func TestMemoryPlaces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, err := newMemory()
		if err != nil {
			t.Fatal(err)
		}
		defer m.close()
		var held []span
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if len(held) > 0 && rapid.Bool().Draw(t, "free") {
				i := rapid.IntRange(0, len(held)-1).Draw(t, "which")
				m.free(held[i])
				held = append(held[:i], held[i+1:]...)
				continue
			}
			s, err := m.take(rapid.Int64Range(0, 3<<20).Draw(t, "size"))
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range held {
				if s.At < h.At+h.Size && h.At < s.At+s.Size {
					t.Fatalf("%v overlaps %v", s, h)
				}
			}
			held = append(held, s)
		}
		for _, h := range held {
			m.free(h)
		}
		all, err := m.take(memoryBytes)
		if err != nil {
			t.Fatal(err)
		}
		m.free(all)
	})
}

// TestMemoryBounds: what doesn't fit, or isn't there, is an error; the size can't be changed.
func TestMemoryBounds(t *testing.T) {
	m, err := newMemory()
	if err != nil {
		t.Fatal(err)
	}
	var full *device.Error
	if _, err := m.take(memoryBytes + 1); !errors.As(err, &full) || full.Status != device.NoMemory {
		t.Errorf("too large a span gave %v", err)
	}
	for _, s := range []span{{-1, 4}, {0, -4}, {memoryBytes, 4}, {2, 8}, {memoryBytes - 4, 8}, {1 << 62, 1 << 62}} {
		if v, err := view[float32](m, s); err == nil {
			t.Errorf("%v gave %d values", s, len(v))
		}
	}
	if err := m.file.Truncate(1 << 20); !errors.Is(err, unix.EPERM) {
		t.Errorf("the memory could be cut: %v", err)
	}
	s, err := m.take(8)
	if err != nil {
		t.Fatal(err)
	}
	v, err := view[int32](m, s)
	if err != nil {
		t.Fatal(err)
	}
	m.close()
	v[0] = 7 // closing waits for what is used
	if _, err := m.take(8); !errors.Is(err, device.ErrClosed) {
		t.Errorf("a closed memory gave %v", err)
	}
	m.free(s)
	if m.bytes != nil {
		t.Error("it is still mapped")
	}
}

// TestRestart: a child that keeps dying is started ever less often.
func TestRestart(t *testing.T) {
	why := errors.New("it died")
	var r restart
	if err := r.may(); err != nil {
		t.Errorf("the first start: %v", err)
	}
	r.died(why)
	if err := r.may(); err != nil {
		t.Errorf("after one death: %v", err)
	}
	r.died(why)
	if err := r.may(); !errors.Is(err, why) {
		t.Errorf("after two: %v", err)
	}
}

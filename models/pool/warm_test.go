package pool

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
)

func TestWarm(t *testing.T) {
	const bytes = 10<<20 + 5
	h, err := Open(write(t, bytes))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	var seen []int64
	spans := []Span{{0, 9 << 20, bytes - 9<<20}, {0, 0, 0}, {0, 1000, 9<<20 - 1000}}
	if err := h.Warm(t.Context(), spans, func(done int64) { seen = append(seen, done) }); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 1+3 || !slices.IsSorted(seen) || seen[len(seen)-1] != bytes-1000 {
		t.Errorf("progress %v", seen)
	}
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	err = h.Warm(ctx, spans, func(int64) { calls++; cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled after %d pieces: %v", calls, err)
	}
	for _, s := range []Span{{1, 0, 1}, {-1, 0, 1}, {0, -1, 1}, {0, 0, bytes + 1}, {0, bytes, 1}, {0, 1, -1}} {
		if h.Warm(t.Context(), []Span{s}, nil) == nil {
			t.Errorf("%v isn't refused", s)
		}
	}
	if n := h.maps[0].users; n != 0 {
		t.Errorf("%d users are left", n)
	}
}

func TestWarmOfACutFile(t *testing.T) {
	path := write(t, 10<<20)
	h, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := os.Truncate(path, 5<<20); err != nil {
		t.Skip("a mapped file can't be cut here:", err)
	}
	if err := h.Warm(t.Context(), []Span{{0, 0, 10 << 20}}, nil); !errors.Is(err, ErrFault) {
		t.Errorf("%v, want ErrFault", err)
	}
	if err := touch(h.Bytes()); !errors.Is(err, ErrFault) {
		t.Errorf("touching: %v, want ErrFault", err)
	}
}

func TestWarmOfBytes(t *testing.T) {
	h := Wrap(make([]byte, 10))
	if err := h.Warm(t.Context(), []Span{{0, 0, 10}}, nil); err != nil {
		t.Error(err)
	}
}

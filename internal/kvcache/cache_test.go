package kvcache

import (
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/dunlin-go/dunlin/internal/budget"
)

func TestShapePageBytes(t *testing.T) {
	for _, tc := range []struct {
		shape Shape
		want  int64
	}{
		{Shape{Layers: 30, Heads: 3, HeadDim: 64}, 30 * 3 * 64 * 2 * 2 * PageTokens},
		{Shape{Layers: 1, Heads: 1, HeadDim: 32, F32: true}, 32 * 2 * 4 * PageTokens},
		{Shape{Layers: math.MaxInt32, Heads: math.MaxInt32, HeadDim: math.MaxInt32}, math.MaxInt64},
		{Shape{}, math.MaxInt64},
	} {
		if got := tc.shape.PageBytes(); got != tc.want {
			t.Errorf("%+v: %d bytes, want %d", tc.shape, got, tc.want)
		}
	}
}

func TestNewPricesItsPages(t *testing.T) {
	shape := Shape{Layers: 2, Heads: 1, HeadDim: 32}
	b := budget.New(10 * shape.PageBytes())
	if _, err := New(shape, 11, b); !errors.Is(err, budget.ErrExceeded) {
		t.Errorf("11 pages in a budget of 10: %v", err)
	}
	for _, pages := range []int{0, -1, math.MaxInt} {
		if _, err := New(shape, pages, b); err == nil {
			t.Errorf("%d pages: no error", pages)
		}
	}
	c, err := New(shape, 10, b)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.UsedFor(budget.KVCache); got != b.Limit() {
		t.Errorf("%d bytes priced, want %d", got, b.Limit())
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if got := b.Used(); got != 0 {
		t.Errorf("%d bytes still priced", got)
	}
}

// TestLeases plays random sequences against the rules: no page belongs to two,
// a lease that was granted can always grow to its size, and in the end all
// pages are free.
func TestLeases(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, err := New(Shape{Layers: 1, Heads: 1, HeadDim: 8}, rapid.IntRange(1, 20).Draw(t, "pages"), budget.New(1<<30))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		type seq struct {
			l         *Lease
			size, len int
		}
		var live []seq
		for range 60 {
			switch op := rapid.IntRange(0, 2).Draw(t, "op"); {
			case op == 0:
				size := rapid.IntRange(1, 200).Draw(t, "size")
				l, err := c.Lease(size)
				promised := 0
				for _, s := range live {
					promised += PagesFor(s.size)
				}
				if fits := promised+PagesFor(size) <= c.Pages(); (err == nil) != fits {
					t.Fatalf("lease of %d tokens with %d of %d pages promised: %v", size, promised, c.Pages(), err)
				}
				if err == nil {
					live = append(live, seq{l: l, size: size})
				}
			case op == 1 && len(live) > 0:
				s := &live[rapid.IntRange(0, len(live)-1).Draw(t, "grow")]
				s.len = rapid.IntRange(s.len, s.size).Draw(t, "to")
				s.l.Grow(s.len)
			case op == 2 && len(live) > 0:
				i := rapid.IntRange(0, len(live)-1).Draw(t, "end")
				live[i].l.Release()
				live[i].l.Release()
				live = append(live[:i], live[i+1:]...)
			}
			owner := map[int32]bool{}
			for _, s := range live {
				if len(s.l.Table) != PagesFor(s.len) {
					t.Fatalf("%d pages for %d tokens", len(s.l.Table), s.len)
				}
				for _, p := range s.l.Table {
					if owner[p] {
						t.Fatalf("page %d has two owners", p)
					}
					owner[p] = true
				}
			}
			if c.Used() != len(owner) {
				t.Fatalf("%d pages used, %d owned", c.Used(), len(owner))
			}
		}
	})
}

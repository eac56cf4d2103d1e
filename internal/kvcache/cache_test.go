package kvcache

import (
	"errors"
	"math"
	"testing"
	"unsafe"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/tensor"
)

func TestShapePageBytes(t *testing.T) {
	for _, tc := range []struct {
		shape Shape
		want  int64
	}{
		{Shape{Layers: 30, Heads: 3, HeadDim: 64, Type: tensor.F16}, 30 * 3 * 64 * 2 * 2 * PageTokens},
		{Shape{Layers: 30, Heads: 3, HeadDim: 64, Type: tensor.Q8_0}, 30 * 3 * 2 * (64 + 2*2) * PageTokens},
		{Shape{Layers: 1, Heads: 1, HeadDim: 32, Type: tensor.F32}, 32 * 2 * 4 * PageTokens},
		{Shape{Layers: 1, Heads: 1, HeadDim: 48, Type: tensor.Q8_0}, math.MaxInt64},
		{Shape{Layers: 1, Heads: 1, HeadDim: 64, Type: tensor.Q4_0}, math.MaxInt64},
		{Shape{Layers: math.MaxInt32, Heads: math.MaxInt32, HeadDim: math.MaxInt32}, math.MaxInt64},
		{Shape{}, math.MaxInt64},
	} {
		if got := tc.shape.PageBytes(); got != tc.want {
			t.Errorf("%+v: %d bytes, want %d", tc.shape, got, tc.want)
		}
		if got := tc.shape.PagePrice(); got <= tc.want && got != math.MaxInt64 {
			t.Errorf("%+v: the price is %d, the page alone %d", tc.shape, got, tc.want)
		}
	}
}

func TestNewPricesItsPages(t *testing.T) {
	for _, shape := range []Shape{
		{Layers: 2, Heads: 1, HeadDim: 32, Type: tensor.F16},
		{Layers: 2, Heads: 1, HeadDim: 32, Type: tensor.F32},
		{Layers: 3, Heads: 2, HeadDim: 64, Type: tensor.Q8_0},
	} {
		t.Run(shape.Type.String(), func(t *testing.T) { testPrices(t, shape) })
	}
	for _, shape := range []Shape{{Layers: 2, Heads: 1, HeadDim: 48, Type: tensor.Q8_0}, {Layers: 2, Heads: 1, HeadDim: 64, Type: tensor.Q4_0}} {
		if _, err := New(shape, 1, budget.New(1<<30)); err == nil {
			t.Errorf("%+v: no error", shape)
		}
	}
}

func testPrices(t *testing.T, shape Shape) {
	b := budget.New(10 * shape.PagePrice())
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
	kv := c.KV()
	if got, want := 4*len(kv.F32)+2*len(kv.F16)+len(kv.Q8), 10*int(shape.PageBytes()); got != want {
		t.Errorf("pages have %d bytes, want %d", got, want)
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

// TestRecordsArePriced: what a page has besides its keys and values fits its price.
func TestRecordsArePriced(t *testing.T) {
	if n := unsafe.Sizeof(record{}) + 3*unsafe.Sizeof(int32(0)) + maxSaltBytes; n > recordBytes {
		t.Errorf("%d bytes a page, %d are priced", n, recordBytes)
	}
}

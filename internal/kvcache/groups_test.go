package kvcache

import (
	"reflect"
	"slices"
	"testing"

	"github.com/dunlin-go/dunlin/tensor"
)

// every makes each n-th of the layers attend to all positions, the others to the last
// 512.
func every(n, layers, heads, dim int) Shape {
	s := Shape{Layers: layers, Heads: heads, HeadDim: dim, Type: tensor.F16, Window: 512}
	for i := range layers {
		s.Windowed = append(s.Windowed, (i+1)%n != 0)
	}
	return s
}

func TestGroups(t *testing.T) {
	for _, tc := range []struct {
		name  string
		shape Shape
		want  groups
	}{
		{"Gemma 3 270M", every(6, 18, 1, 256), groups{3, 1, 5, 512}},
		{"Gemma 3 1B", every(6, 26, 1, 256), groups{2, 2, 11, 512}},
		{"Gemma 3 4B", every(6, 34, 4, 256), groups{1, 5, 29, 512}},
		{"Gemma 3 12B", every(6, 48, 8, 256), groups{8, 1, 5, 512}},
		{"every other", every(2, 6, 2, 32), groups{3, 1, 1, 512}},
		{"no windows", every(1, 6, 2, 32), groups{layers: 6, full: 1}},
		{"windows only", every(7, 6, 2, 32), groups{layers: 6, full: 1}},
		{"none said", Shape{Layers: 6, Heads: 2, HeadDim: 32, Type: tensor.F16}, groups{layers: 6, full: 1}},
		{"small pages", every(6, 34, 1, 32), groups{layers: 34, full: 1}},
		{"another number of layers", Shape{Layers: 4, Heads: 9, HeadDim: 64, Type: tensor.F16, Windowed: []bool{true, false}, Window: 9}, groups{layers: 4, full: 1}},
		{"no window's size", Shape{Layers: 2, Heads: 9, HeadDim: 64, Type: tensor.F16, Windowed: []bool{true, false}}, groups{layers: 2, full: 1}},
	} {
		g := tc.shape.groups()
		if g != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.name, g, tc.want)
		}
		one := Shape{Layers: 1, Heads: tc.shape.Heads, HeadDim: tc.shape.HeadDim, Type: tc.shape.Type}
		if n := tc.shape.PageBytes() * int64(g.block()); n != int64(tc.shape.Layers)*one.PageBytes() {
			t.Errorf("%s: a block has %d bytes", tc.name, n)
		}
		order := tc.shape.order()
		if g.windowed == 0 {
			if order != nil {
				t.Errorf("%s: one group has the order %v", tc.name, order)
			}
			continue
		}
		for i, at := range order {
			if windowed := int(at)/g.layers >= g.full; windowed != tc.shape.Windowed[i] {
				t.Errorf("%s: layer %d is at %d of %v", tc.name, i, at, order)
			}
		}
		sorted := slices.Sorted(slices.Values(order))
		for i, at := range sorted {
			if int(at) != i {
				t.Fatalf("%s: %v isn't an order", tc.name, order)
			}
		}
	}
	if got, want := every(3, 6, 2, 64).order(), []int32{2, 3, 0, 4, 5, 1}; !reflect.DeepEqual(got, want) {
		t.Errorf("the order is %v, want %v", got, want)
	}
}

// TestPagesFor holds the number of pages to what a sequence that goes on by up to a
// page's worth of tokens really holds, and the capacity to it.
func TestPagesFor(t *testing.T) {
	for _, window := range []int{1, 2, 31, 32, 33, 34, 35, 64, 65, 100} {
		shape := hybrid(2, 3, window)
		g, reach := shape.groups(), 0
		for done := range 400 {
			for n := 1; n <= PageTokens; n++ {
				reach = max(reach, Blocks(done+n)-max(0, done+1-window)/PageTokens)
			}
		}
		if g.reach() != reach {
			t.Errorf("a window of %d touches %d blocks, want %d", window, g.reach(), reach)
		}
		for pages := g.block(); pages < 100; pages++ {
			n := g.capacity(pages)
			if g.pagesFor(n) > pages || g.pagesFor(n+1) <= pages {
				t.Errorf("a window of %d: %d tokens on %d pages, which need %d, and %d for one more", window, n, pages, g.pagesFor(n), g.pagesFor(n+1))
			}
		}
	}
	if one := (Shape{Layers: 3, Heads: 3, HeadDim: 64, Type: tensor.F16}); one.PagesFor(33) != 2 || one.groups().capacity(7) != 7*PageTokens || one.PagesAhead(256) != 0 {
		t.Error("one group has other numbers than blocks")
	}
	if n := hybrid(2, 3, 64).PagesAhead(250); n != 3*8 {
		t.Errorf("a step of 250 tokens takes %d windowed pages", n)
	}
}

// TestWindowedPagesAreGivenBack: a long sequence holds no more than its window
// needs, and the tree keeps the others for those that begin alike.
func TestWindowedPagesAreGivenBack(t *testing.T) {
	const tokens = 8000
	b := newBoardOf(t, hybrid(1, 5, 512), 6*Blocks(tokens))
	defer b.c.Close()
	p, _ := b.start("", nil)
	for at := 0; at < tokens; at += 250 {
		b.compute(p, run(250, int32(at))...)
	}
	b.check()
	if blocks := Blocks(tokens); p.Pages() != blocks+5*16 || b.c.Kept() != 5*(blocks-16) {
		t.Errorf("%d pages are held and %d kept, of %d blocks", p.Pages(), b.c.Kept(), blocks)
	}
	q, cached := b.start("", p.tokens[:5000])
	if cached != 5000 || q.Pages() != Blocks(5000)+5*17 { // 16 and the copy
		t.Errorf("%d tokens are cached, on %d pages", cached, q.Pages())
	}
	b.check()
	// What the copy's tokens put behind the window goes at once.
	if r, cached := b.start("", p.tokens[:5023]); cached != 5023 || r.Pages() != Blocks(5023)+5*16 {
		t.Errorf("%d tokens are cached, on %d pages", cached, r.Pages())
	}
	b.check()
}

// TestPrefixNeedsItsWindow: without the windowed pages before it a place is none to
// begin at; what lies behind it can be.
func TestPrefixNeedsItsWindow(t *testing.T) {
	b := newBoardOf(t, hybrid(1, 1, 2*PageTokens), 20)
	defer b.c.Close()
	p, _ := b.start("", nil)
	b.compute(p, run(8*PageTokens, 7)...) // the blocks 6 and 7 are in the window
	b.check()
	// Four of the others make room, the oldest first: 0 to 3.
	q, _ := b.start("", nil)
	b.compute(q, run(4*PageTokens, 9)...) // takes the 4 free ones and 4
	b.check()
	for blocks, want := range map[int]int{8: 8, 7: 7, 6: 6, 5: 0, 4: 0, 3: 0, 1: 0} {
		got, held := b.c.Lookup("", run(blocks*PageTokens+5, 7))
		if got != want {
			t.Errorf("of %d blocks %d can be begun with, want %d", blocks, got, want)
		}
		if want == 8 && held != 10 || want == 7 && held != 8 || want == 6 && held != 6 {
			t.Errorf("of %d blocks %d pages are held", blocks, held)
		}
	}
	b.end(1)
	b.check()
	// Who computes them anew gives them to the tree.
	r, cached := b.start("", run(3*PageTokens, 7))
	if cached != 0 {
		t.Errorf("%d tokens are cached", cached)
	}
	b.compute(r, run(3*PageTokens, 7)...)
	b.check()
	if got, _ := b.c.Lookup("", run(3*PageTokens, 7)); got != 3 || !slices.Equal([]int32{r.full(0), r.full(1), r.full(2)}, []int32{p.full(0), p.full(1), p.full(2)}) {
		t.Errorf("%d blocks, on the pages %v and %v", got, r.Table, p.Table)
	}
}

// TestPrefixWithAGap: a windowed page that is gone between others counts for no window
// that it lies in.
func TestPrefixWithAGap(t *testing.T) {
	b := newBoardOf(t, hybrid(1, 1, 2*PageTokens), 17)
	defer b.c.Close()
	p, _ := b.start("", nil)
	b.compute(p, run(8*PageTokens, 7)...)
	b.start("", run(PageTokens, 7)) // the page of block 0 is of use
	b.end(1)
	b.c.evict()
	b.check()
	for blocks, want := range map[int]int{1: 1, 2: 1, 3: 1, 4: 4, 8: 8} {
		if got, _ := b.c.Lookup("", run(blocks*PageTokens, 7)); got != want {
			t.Errorf("of %d blocks %d can be begun with, want %d", blocks, got, want)
		}
		if _, cached := b.start("", run(blocks*PageTokens, 7)); cached != want*PageTokens {
			t.Errorf("of %d blocks %d tokens are cached, want %d", blocks, cached, want*PageTokens)
		}
		b.check()
		b.end(1)
	}
}

// TestAdoptWithWindows: a sequence goes on with a block that another one has computed,
// whose window reaches its own.
func TestAdoptWithWindows(t *testing.T) {
	b := newBoardOf(t, hybrid(1, 2, 2*PageTokens), 40)
	defer b.c.Close()
	p, _ := b.start("", nil)
	b.compute(p, run(4*PageTokens, 7)...)
	q, _ := b.start("", run(4*PageTokens, 7))
	for blocks := 5; blocks < 8; blocks++ {
		b.compute(p, run(PageTokens, 7)...)
		if n := q.Adopt(p.tokens); n != blocks*PageTokens {
			t.Fatalf("%d tokens are covered, want %d blocks", n, blocks)
		}
		q.tokens = p.tokens
		b.check()
	}
}

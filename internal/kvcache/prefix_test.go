package kvcache

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/tensor"
)

// player is a sequence that a test plays, with the tokens whose "keys and
// values" it has stored.
type player struct {
	*Sequence
	salt   string
	tokens []int32
}

// board is a cache of pages that hold a mark for each token.
type board struct {
	t    testing.TB
	c    *Cache
	live []*player
}

func newBoard(t testing.TB, pages int) *board {
	return newBoardOf(t, Shape{Layers: 1, Heads: 1, HeadDim: 8, Type: tensor.F16}, pages)
}

// hybrid is a shape with so many groups of one layer, whose pages are as small as can
// be.
func hybrid(full, windowed, window int) Shape {
	s := Shape{Layers: full + windowed, Heads: 1, HeadDim: 64, Type: tensor.F16, Window: window}
	for i := range s.Layers {
		s.Windowed = append(s.Windowed, i%2 == 0 && windowed > 0 || full == 0)
		if s.Windowed[i] {
			windowed--
		} else {
			full--
		}
	}
	return s
}

func newBoardOf(t testing.TB, shape Shape, pages int) *board {
	t.Helper()
	c, err := New(shape, pages, budget.New(1<<30))
	if err != nil {
		t.Fatal(err)
	}
	return &board{t: t, c: c}
}

// mark stands for the keys and values of the last token, which depend on all
// before it and nothing else.
func mark(salt string, tokens []int32) uint16 {
	h := uint32(2166136261)
	for _, b := range []byte(salt) {
		h = (h ^ uint32(b)) * 16777619
	}
	for _, id := range tokens {
		h = (h ^ uint32(id)) * 16777619
	}
	return uint16(h>>16) ^ uint16(h)
}

// at is where a token's marks are: on each of its block's pages that the sequence
// holds.
func (b *board) at(s *Sequence, position int) (marks []*uint16) {
	n := b.c.groups.block()
	for _, page := range s.Table[position/PageTokens*n:][:n] {
		if page != none {
			marks = append(marks, &b.c.kv.F16[int(page)*b.c.kv.PageElements()+position%PageTokens])
		}
	}
	return marks
}

// start begins a sequence and returns how many tokens came from the cache.
func (b *board) start(salt string, tokens []int32) (*player, int) {
	s, cached := b.c.Start(salt, tokens, 1<<20)
	p := &player{s, salt, slices.Clone(tokens[:cached])}
	b.live = append(b.live, p)
	return p, cached
}

// compute stores marks for more tokens, as far as there are pages, and
// publishes them.
func (b *board) compute(p *player, tokens ...int32) {
	p.Grow(len(p.tokens) + len(tokens))
	for _, id := range tokens[:min(len(tokens), p.Room()-len(p.tokens))] {
		p.tokens = append(p.tokens, id)
		for _, at := range b.at(p.Sequence, len(p.tokens)-1) {
			*at = mark(p.salt, p.tokens)
		}
	}
	p.Publish(p.tokens)
}

func (b *board) end(i int) {
	b.live[i].Release()
	b.live = slices.Delete(b.live, i, i+1)
}

// endSome ends the first n, after asking what that will come to.
func (b *board) endSome(n int, salt string, tokens []int32) {
	var some []*Sequence
	for _, p := range b.live[:n] {
		some = append(some, p.Sequence)
	}
	available, held := b.c.Without(some, salt, tokens)
	b.check()
	for range n {
		b.end(0)
	}
	if _, h := b.c.Lookup(salt, tokens); b.c.Available() != available || h != held {
		b.t.Fatalf("%d pages can be had and %d of a prefix are held, not %d and %d", b.c.Available(), h, available, held)
	}
}

// check looks at the invariants, and that everybody still finds what it stored.
func (b *board) check() {
	var all []*Sequence
	used := map[int32]bool{}
	for _, p := range b.live {
		all = append(all, p.Sequence)
		for i := range p.tokens {
			marks := b.at(p.Sequence, i)
			for _, at := range marks {
				if *at != mark(p.salt, p.tokens[:i+1]) {
					b.t.Fatalf("token %d of %d has been overwritten", i, len(p.tokens))
				}
			}
			// The next token sees itself and those before it, Window in all.
			g, begin := b.c.groups, max(0, len(p.tokens)+1-b.c.groups.window)
			if want := i/PageTokens >= begin/PageTokens || g.windowed == 0; want != (len(marks) == g.block()) || len(marks) < g.full {
				b.t.Fatalf("token %d of %d is on %d pages of %d, the window begins at %d", i, len(p.tokens), len(marks), g.block(), begin)
			}
		}
		held := 0
		for _, page := range p.Table {
			if page != none {
				used[page] = true
				held++
			}
		}
		if p.Pages() != held {
			b.t.Fatalf("a sequence holds %d pages, it says %d", held, p.Pages())
		}
	}
	if err := b.c.Check(all); err != nil {
		b.t.Fatal(err)
	}
	if b.c.Used() != len(used) || b.c.Used()+b.c.Available() != b.c.Pages() {
		b.t.Fatalf("%d pages are used, %d are held, %d can be had", b.c.Used(), len(used), b.c.Available())
	}
}

// TestPrefixes plays sequences that begin alike against a model that remembers
// everything: what is found is what somebody with the same salt once stored,
// nothing that anybody holds is ever lost or overwritten, and each page has as
// many references as holders. (rapid prints what fails, shrunk, and its seed.)
func TestPrefixes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		shape := Shape{Layers: 1, Heads: 1, HeadDim: 8, Type: tensor.F16}
		if rapid.Bool().Draw(rt, "hybrid") {
			shape = hybrid(rapid.IntRange(1, 2).Draw(rt, "full"), rapid.IntRange(1, 3).Draw(rt, "windowed"), rapid.IntRange(1, 100).Draw(rt, "window"))
		}
		b := newBoardOf(t, shape, rapid.IntRange(1, 24*(shape.Layers+1)/2).Draw(rt, "pages"))
		defer b.c.Close()
		b.t = failing{t, rt}
		stored := map[string]bool{} // prefixes that were computed
		tokens := func() []int32 {
			// A few beginnings, which differ late, and answers of two tokens.
			n := rapid.IntRange(1, 5*PageTokens).Draw(rt, "length")
			all := make([]int32, n)
			for i, at := 0, rapid.IntRange(0, n).Draw(rt, "differs at"); i < n; i++ {
				if i >= at {
					all[i] = int32(1 + i%2)
				}
			}
			return all
		}
		for range rapid.IntRange(1, 60).Draw(rt, "operations") {
			switch op := rapid.IntRange(0, 9).Draw(rt, "op"); {
			case op < 3:
				salt := rapid.SampledFrom([]string{"", "a", "b"}).Draw(rt, "salt")
				want := tokens()
				blocks, held := b.c.Lookup(salt, want)
				used := b.c.Used()
				p, cached := b.start(salt, want)
				if cached < blocks*PageTokens || cached >= (blocks+1)*PageTokens {
					rt.Fatalf("%d tokens are cached, %d blocks were found", cached, blocks)
				}
				if want := p.Pages() - held; cached%PageTokens == 0 && b.c.Used()-used != want {
					rt.Fatalf("%d more pages are held, %d of %d were held before", b.c.Used()-used, held, p.Pages())
				}
				if cached > 0 && !stored[fmt.Sprint(salt, want[:cached])] {
					rt.Fatalf("%d tokens come from nowhere", cached)
				}
			case op < 7 && len(b.live) > 0:
				p := rapid.SampledFrom(b.live).Draw(rt, "who")
				before := len(p.tokens)
				more := tokens()
				if rapid.Bool().Draw(rt, "answer") || len(more) <= before {
					more = more[:min(len(more), 3)]
				} else {
					more = more[before:] // goes on like others
				}
				b.compute(p, more...)
				for i := before; i < len(p.tokens); i++ {
					stored[fmt.Sprint(p.salt, p.tokens[:i+1])] = true
				}
			case op == 7 && len(b.live) > 0:
				p := rapid.SampledFrom(b.live).Draw(rt, "who")
				all := append(slices.Clone(p.tokens), tokens()...)
				if n := p.Adopt(all); n > len(p.tokens) {
					if !stored[fmt.Sprint(p.salt, all[:n])] {
						rt.Fatalf("%d tokens come from nowhere", n)
					}
					p.tokens = append(p.tokens, all[len(p.tokens):n]...)
				}
			case op == 8 && len(b.live) > 0:
				b.endSome(rapid.IntRange(1, len(b.live)).Draw(rt, "how many"), rapid.SampledFrom([]string{"", "a"}).Draw(rt, "salt"), tokens())
			case op == 9:
				if rapid.Bool().Draw(rt, "forget") {
					if b.c.Forget(); b.c.Kept() != 0 {
						rt.Fatalf("%d pages are kept", b.c.Kept())
					}
				}
				if err := b.c.Trim(); err != nil {
					rt.Fatal(err)
				}
				if free := b.c.Available() - b.c.Kept(); b.c.Committed() != b.c.Pages()-free {
					rt.Fatalf("%d pages are committed, %d are free of %d", b.c.Committed(), free, b.c.Pages())
				}
			}
			b.check()
		}
		for len(b.live) > 0 {
			b.end(0)
			b.check()
		}
		if b.c.Available() != b.c.Pages() {
			rt.Fatalf("%d of %d pages are left", b.c.Available(), b.c.Pages())
		}
	})
}

// failing reports through rapid, which shrinks what failed.
type failing struct {
	testing.TB
	rt *rapid.T
}

func (f failing) Fatal(args ...any)                 { f.rt.Fatal(args...) }
func (f failing) Fatalf(format string, args ...any) { f.rt.Fatalf(format, args...) }

func run(n int, id int32) []int32 { return slices.Repeat([]int32{id}, n) }

// TestStartCopiesPartOfAPage: the last page is shared up to the token where two
// sequences part, and the copy doesn't touch the original.
func TestStartCopiesPartOfAPage(t *testing.T) {
	b := newBoard(t, 8)
	defer b.c.Close()
	first, _ := b.start("", run(2*PageTokens, 7))
	b.compute(first, run(2*PageTokens, 7)...)
	for agree := range PageTokens {
		second, cached := b.start("", slices.Concat(run(PageTokens+agree, 7), run(3, 9)))
		if cached != PageTokens+agree || second.Table[0] != first.Table[0] || agree > 0 && second.Table[1] == first.Table[1] {
			t.Errorf("%d tokens are cached, want %d; pages %v and %v", cached, PageTokens+agree, first.Table, second.Table)
		}
		b.compute(second, run(40, 9)...)
		b.check()
		b.end(1)
	}
	// All but the last token of a prompt that is there in full.
	if _, cached := b.start("", run(2*PageTokens-1, 7)); cached != 2*PageTokens-1 {
		t.Errorf("%d tokens are cached, want all %d", cached, 2*PageTokens-1)
	}
	b.check()
}

// TestSaltsShareNothing asks for the same tokens under another salt.
func TestSaltsShareNothing(t *testing.T) {
	b := newBoard(t, 8)
	defer b.c.Close()
	p, _ := b.start("a", run(100, 7))
	b.compute(p, run(100, 7)...)
	for salt, want := range map[string]int{"a": 96, "b": 0, "": 0, "aa": 0} {
		if _, cached := b.start(salt, run(100, 7)); cached != want {
			t.Errorf("salt %q: %d tokens are cached, want %d", salt, cached, want)
		}
	}
	b.check()
}

// TestLeastRecentlyUsedLeafGoesFirst fills the cache with three prompts and
// uses the oldest again: the second one's last page makes room.
func TestLeastRecentlyUsedLeafGoesFirst(t *testing.T) {
	b := newBoard(t, 6)
	defer b.c.Close()
	for id := range int32(3) {
		p, _ := b.start("", nil)
		b.compute(p, run(2*PageTokens, id)...)
		b.end(0)
	}
	b.start("", run(2*PageTokens, 0))
	b.end(0)
	p, _ := b.start("", nil)
	b.compute(p, run(1, 9)...)
	for id, want := range []int{2, 1, 2} {
		if pages, _ := b.c.Lookup("", run(2*PageTokens, int32(id))); pages != want {
			t.Errorf("prompt %d has %d pages left, want %d", id, pages, want)
		}
	}
	b.check()
}

// TestCopiedPagesStay: a page that was copied from isn't the next to go.
func TestCopiedPagesStay(t *testing.T) {
	b := newBoard(t, 3)
	defer b.c.Close()
	for id := range int32(3) {
		p, _ := b.start("", nil)
		b.compute(p, run(PageTokens, id)...)
		b.end(0)
	}
	if _, cached := b.start("", run(20, 0)); cached != 20 {
		t.Errorf("%d tokens are cached", cached)
	}
	for id, want := range []int{1, 0, 1} {
		if pages, _ := b.c.Lookup("", run(PageTokens, int32(id))); pages != want {
			t.Errorf("prompt %d has %d pages left, want %d", id, pages, want)
		}
	}
	b.check()
}

// TestPublishedTwiceIsKeptOnce lets two sequences compute the same at once.
func TestPublishedTwiceIsKeptOnce(t *testing.T) {
	b := newBoard(t, 8)
	defer b.c.Close()
	p, _ := b.start("", nil)
	q, _ := b.start("", nil)
	p.Grow(3 * PageTokens)
	b.compute(q, run(70, 5)...)
	b.compute(p, run(70, 5)...)
	if b.c.Used() != 4 || !slices.Equal(p.Table[:2], q.Table[:2]) {
		t.Errorf("%d pages for the same 70 tokens: %v, %v", b.c.Used(), p.Table, q.Table)
	}
	b.check()
	if p.Follows(q.Sequence, run(200, 5), run(200, 5)) {
		t.Error("a sequence with a page of its own follows another")
	}
}

// TestTrimmedMemoryReadsAsNew: a page whose memory was given back can be used.
func TestTrimmedMemoryReadsAsNew(t *testing.T) {
	c, err := New(Shape{Layers: 4, Heads: 4, HeadDim: 64, Type: tensor.F16}, 4, budget.New(1<<30))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := &board{t: t, c: c}
	for range 3 {
		p, _ := b.start("", nil)
		b.compute(p, run(100, 3)...)
		if c.Committed() != 4 {
			t.Errorf("%d pages are committed", c.Committed())
		}
		b.check()
		b.end(0)
		c.Forget()
		if err := c.Trim(); err != nil {
			t.Fatal(err)
		}
		if c.Committed() != 0 {
			t.Errorf("%d pages are committed after all", c.Committed())
		}
	}
}

// TestIndexAllocatesNothing: publishing and finding pages is part of decoding.
func TestIndexAllocatesNothing(t *testing.T) {
	b := newBoard(t, 40)
	defer b.c.Close()
	p, _ := b.start("salt", nil)
	tokens := run(40*PageTokens, 1)
	if !p.Grow(len(tokens)) {
		t.Fatal("no pages")
	}
	n := 0
	if allocs := testing.AllocsPerRun(30, func() {
		n += PageTokens
		p.Publish(tokens[:n])
		b.c.Lookup("salt", tokens[:n])
	}); allocs != 0 {
		t.Errorf("%v allocations a page", allocs)
	}
	longest := 0
	for _, head := range b.c.buckets {
		length := 0
		for q := head; q != none; q = b.c.records[q].chain {
			length++
		}
		longest = max(longest, length)
	}
	if longest > 8 {
		t.Errorf("%d of %d pages are in one bucket of %d", longest, n/PageTokens, len(b.c.buckets))
	}
}

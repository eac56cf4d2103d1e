package tokenizer

import (
	"fmt"
	"math"
	goruntime "runtime"
	"sync"
	"unicode/utf8"
)

// partBytes of a long text are worth a goroutine. Tests make it less.
var partBytes = 128 << 10

// maxMarks is how many places a part offers for meeting it.
const maxMarks = 256

// part is a stretch of a long text that is encoded beside the others.
//
// Where a piece ends depends on where it began and what follows, never on what is
// before. So parts may begin anywhere: a part goes on behind its end until it comes
// to a place where the next one begins a piece too, and from there on that one's
// tokens are right. The two mostly meet within a word. Where they don't, the part
// does the next one's work.
type part struct {
	from  int
	out   []ID
	marks []mark        // the first places where it begins pieces
	ready chan struct{} // closed when marks is complete
	next  int           // the part that goes on, or the number of parts
	skip  int           // how many of the next part's tokens aren't used
	err   error
}

type mark struct{ at, tokens int }

// parts are where to begin the parts of a text, one for each processor.
func parts(text string) []part {
	n := min(goruntime.GOMAXPROCS(0), len(text)/partBytes)
	if n < 2 {
		return nil
	}
	all := make([]part, n)
	for k := range all {
		from := k * len(text) / n
		for from < len(text) && !utf8.RuneStart(text[from]) {
			from++
		}
		all[k] = part{from: from, ready: make(chan struct{}), next: n}
	}
	return all
}

// encodeParts encodes a long text on several processors.
func (b *bytePairs) encodeParts(w *work, text string, all []part) error {
	// Each part may end up with the tokens of all that follow.
	if err := w.reserve(4 * int64(len(text))); err != nil {
		return err
	}
	var wg sync.WaitGroup
	for k := range all {
		wg.Go(func() { all[k].err = b.encodePart(w, text, all, k) })
	}
	wg.Wait()
	for k := range all {
		if all[k].err != nil {
			return all[k].err
		}
	}
	skip := 0
	for k := 0; k < len(all); {
		if err := w.add(all[k].out[skip:]...); err != nil {
			return err
		}
		k, skip = all[k].next, all[k].skip
	}
	return nil
}

// encodePart encodes part k on working memory of its own.
func (b *bytePairs) encodePart(of *work, text string, all []part, k int) (err error) {
	p := &all[k]
	marking := true
	marked := func() {
		if marking {
			marking = false
			close(p.ready)
		}
	}
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
		marked()
	}()
	w := scratch.Get().(*work)
	defer w.release()
	*w = work{ctx: of.ctx, budget: of.budget, room: math.MaxInt, arrays: w.arrays}
	// A part that doesn't meet the next one is bounded by the text, as all are.
	meet := k + 1
	for at := p.from; at < len(text); {
		for meet < len(all) && at >= all[meet].from {
			marked()
			<-all[meet].ready
			if skip, ok := all[meet].begins(at); ok {
				p.out, p.next, p.skip = w.out, meet, skip
				return nil
			}
			if meet+1 == len(all) || at < all[meet+1].from {
				break
			}
			meet++
		}
		if len(p.marks) < maxMarks {
			p.marks = append(p.marks, mark{at, len(w.out)})
		} else {
			marked()
		}
		n, err := cutFirst(w, text[at:], b.pre.stages, b)
		if err != nil {
			return err
		}
		at += n
	}
	p.out = w.out
	return nil
}

// begins reports whether the part begins a piece at the place, and how many
// tokens it has before.
func (p *part) begins(at int) (tokens int, ok bool) {
	for _, m := range p.marks {
		if m.at == at {
			return m.tokens, true
		}
	}
	return 0, false
}

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
	marks []mark        // the first places where it begins pieces
	ready chan struct{} // closed when marks is complete
	next  int           // the part that goes on, or the number of parts
	skip  int           // how many of the next part's tokens aren't used
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

// together runs do for 0 to n-1 at once, each on working memory of its own, and
// returns the tokens of each.
func (w *work) together(n int, do func(k int, w *work) error) ([][]ID, error) {
	// A part's tokens are copied. They are priced as they come: a part that meets
	// no other goes on to the end of the text.
	out, errs, priced := make([][]ID, n), make([]error, n), make([]int64, n)
	var wg sync.WaitGroup
	for k := range n {
		wg.Go(func() {
			defer func() {
				if v := recover(); v != nil {
					errs[k] = fmt.Errorf("panic: %v", v)
				}
			}()
			own := scratch.Get().(*work)
			defer own.release()
			*own = work{ctx: w.ctx, budget: w.budget, room: math.MaxInt, ownOut: true, arrays: own.arrays}
			errs[k] = do(k, own)
			// The tokens stay longer than the rest.
			out[k], priced[k] = own.out, own.outBytes
			own.extra -= own.outBytes
		})
	}
	wg.Wait()
	for _, bytes := range priced {
		w.extra += bytes
	}
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// encodeParts encodes a long text on several processors.
func (b *bytePairs) encodeParts(w *work, text string, all []part) error {
	out, err := w.together(len(all), func(k int, w *work) error { return b.encodePart(w, text, all, k) })
	if err != nil {
		return err
	}
	skip := 0
	for k := 0; k < len(all); {
		if err := w.add(out[k][skip:]...); err != nil {
			return err
		}
		k, skip = all[k].next, all[k].skip
	}
	return nil
}

// encodePart encodes part k.
func (b *bytePairs) encodePart(w *work, text string, all []part, k int) error {
	p := &all[k]
	marking := true
	marked := func() {
		if marking {
			marking = false
			close(p.ready)
		}
	}
	defer marked()
	meet := k + 1
	for at := p.from; at < len(text); {
		for meet < len(all) && at >= all[meet].from {
			marked()
			<-all[meet].ready
			if skip, ok := all[meet].begins(at); ok {
				p.next, p.skip = meet, skip
				return nil
			}
			if meet+1 == len(all) || at < all[meet+1].from {
				break
			}
			meet++
		}
		if marking && len(p.marks) < maxMarks { // else the part before may read them
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

// bordersNear are places to cut a long text of SentencePiece at, about equally far
// apart: there no token reaches across.
func (s *sentence) bordersNear(text string) (places []int) {
	if s.charsmap != nil || s.collapse {
		return nil // what is cut off may change with what is before
	}
	n := min(goruntime.GOMAXPROCS(0), len(text)/partBytes)
	for k := 1; k < n; k++ {
		from := k * len(text) / n
		for i := from; i < min(from+partBytes/2, len(text)); i++ {
			before, size := utf8.DecodeLastRuneInString(text[:i])
			after, size2 := utf8.DecodeRuneInString(text[i:])
			whole := before != utf8.RuneError && after != utf8.RuneError && size > 0 && size2 > 0
			if whole && !s.borders.joined(spelled(before), spelled(after)) {
				places = append(places, i)
				break
			}
		}
	}
	return places
}

// spelled is the character as SentencePiece spells it.
func spelled(r rune) rune {
	if r == ' ' {
		return spaceMark
	}
	return r
}

// encodeLong is encode on several processors, for an algorithm that has a token
// for each byte.
func (s *sentence) encodeLong(w *work, text string, start bool, m pieceEncoder) error {
	places := s.bordersNear(text)
	if len(places) == 0 {
		return s.encode(w, text, start, m)
	}
	places = append([]int{0}, append(places, len(text))...)
	out, err := w.together(len(places)-1, func(k int, w *work) error {
		return s.encode(w, text[places[k]:places[k+1]], start && k == 0, m)
	})
	if err != nil {
		return err
	}
	for _, ids := range out {
		if err := w.add(ids...); err != nil {
			return err
		}
	}
	return nil
}

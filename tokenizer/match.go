package tokenizer

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"unicode/utf8"
)

// retry is a choice that match may come back to: a split's other way, or a run
// that may end at any character from low to at.
type retry struct {
	pc      int32
	at, low int32
}

// maxTries bounds the ways that find tries from one place of a text, beyond a few
// for each of its bytes: Oniguruma's limit. A pattern can have exponentially many.
const maxTries = 10_000_000

// find is the first match in text, from start to end; without one both are the
// length of text.
func (p *pattern) find(w *work, text string) (start, end int) {
	for start < len(text) {
		w.tries = maxTries + 16*int64(len(text))
		for left := p.candidates(text[start]); left != 0; left &= left - 1 {
			end := p.exec(w, text, start, int(p.starts[bits.TrailingZeros64(left)]), 0)
			if end > start || w.failed() {
				return start, max(end, start)
			}
		}
		_, n := runeAt(text[start:])
		if p.run >= 0 {
			// A match can't begin within the run either: it would have been found
			// at the run's first character.
			end, _, _ := p.runOf(w, text, start, &inst{set: uint8(p.run), max: math.MaxInt32})
			n = max(n, end-start)
		}
		if w.spend(n) != nil {
			break
		}
		start += n
	}
	return len(text), len(text)
}

// exec runs the program from pc on at text[at:] and returns where the match
// ends, or -1. Choices below base aren't its own. Once w's context is done, or
// the choices don't fit its budget or are too many, any end will do: the next step of w reports
// it.
func (p *pattern) exec(w *work, text string, at, pc, base int) int {
	for {
		in := &p.prog[pc]
		ok := true
		pc++
		switch in.op {
		case opMatch:
			w.retries = w.retries[:base]
			return at
		case opChar:
			n := p.one(text, at, in.set)
			at, ok = at+n, n > 0
		case opRun:
			var low int
			at, low, ok = p.runOf(w, text, at, in)
			if ok && !in.keep && low < at {
				w.retry(pc, at, low)
			}
		case opJump:
			pc = int(in.x)
		case opSplit:
			if in.last {
				w.retries = w.retries[:base]
			}
			w.retry(int(in.y), at, at)
			pc = int(in.x)
			ok = w.spend(1) == nil
		case opLook:
			ok = (p.exec(w, text, at, pc, len(w.retries)) >= 0) != in.negate
			pc = int(in.x)
		case opLine:
			ok = at == len(text) || text[at] == '\n'
		case opEnd:
			ok = at == len(text)
		case opWord:
			ok = wordBefore(text, at) != (at < len(text) && wordAt(text[at:]))
		}
		if ok {
			continue
		}
		if w.tries--; w.tries < 0 {
			w.fail(fmt.Errorf("%w: the pattern %s on a text where it takes too many steps", ErrUnsupported, quote(p.text)))
		}
		if w.spend(1) != nil {
			w.retries = w.retries[:base]
			return at
		}
		last := len(w.retries) - 1
		if last < base {
			return -1
		}
		r := &w.retries[last]
		pc, at = int(r.pc), int(r.at)
		if r.at > r.low {
			_, n := utf8.DecodeLastRuneInString(text[:at])
			at -= n
			r.at = int32(at)
		}
		if r.at == r.low {
			w.retries = w.retries[:last]
		}
	}
}

// one is the length of the character at text[at:] where it is in the set, or 0.
func (p *pattern) one(text string, at int, set uint8) int {
	if at == len(text) {
		return 0
	}
	if c := text[at]; c < utf8.RuneSelf {
		return int(p.ascii[c] >> set & 1)
	}
	r, n := utf8.DecodeRuneInString(text[at:])
	if !p.sets[set].has(r) {
		return 0
	}
	return n
}

// runOf takes the characters of a run: it ends at end and may end from low on.
func (p *pattern) runOf(w *work, text string, at int, in *inst) (end, low int, ok bool) {
	start, low := at, at
	count := int32(0)
	for count < in.max {
		if at-start >= pollSteps {
			if w.spend(at-start) != nil {
				break
			}
			start = at
		}
		n := p.one(text, at, in.set)
		if n == 0 {
			break
		}
		at += n
		if count++; count == in.min {
			low = at
		}
	}
	_ = w.spend(at - start) // the next step reports it
	return at, low, count >= in.min
}

func wordAt(text string) bool {
	r, _ := runeAt(text)
	return wordChars.has(r)
}

func wordBefore(text string, at int) bool {
	r, _ := utf8.DecodeLastRuneInString(text[:at])
	return at > 0 && wordChars.has(r)
}

// retry notes a choice. What the notes take beyond a little is priced.
func (w *work) retry(pc, at, low int) {
	if n := len(w.retries); n == cap(w.retries) && n >= freePiece {
		const size = 12 // of a retry
		if err := w.reserve(int64(n) * size); err != nil {
			w.fail(err)
			return
		}
		w.retries = slices.Grow(w.retries, n)
	}
	w.retries = append(w.retries, retry{int32(pc), int32(at), int32(low)})
}

package tokenizer

import (
	"context"
	"fmt"
	"math"
	"sync"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// EncodeOptions says how text becomes tokens. The zero value takes all text as
// text, without a limit.
type EncodeOptions struct {
	// AddSpecial puts BOS before and EOS after the text where the model wants
	// them.
	AddSpecial bool
	// ParseSpecial makes control tokens of text that looks like them. It is for
	// text that a template wrote, never for what a user sent.
	ParseSpecial bool
	// Limit is the largest number of tokens that Encode may append; 0 is none.
	// A text that can't have so few is refused before any work.
	Limit int
	// Budget, where set, is charged for working memory while Encode runs: 32
	// bytes for each byte of the longest piece (a run of letters, of spaces or
	// of symbols), from 64 KiB on. SentencePiece's algorithms take up to 36 bytes,
	// where a space counts three times; WordPiece takes nothing. The tokens are charged
	// where dst is nil, and those of its parts where a long text is encoded on several
	// processors: 6 bytes each, for at least 64.
	Budget *budget.Budget
}

// Encode appends the tokens of text to dst. After an error dst is returned as
// it was: [ErrTooLong], a refused reservation, [ErrUnsupported] where a pattern
// that a vocabulary brought takes too many steps, or ctx's error, which is looked at
// every few thousand steps.
func (t *Tokenizer) Encode(ctx context.Context, dst []ID, text string, opt EncodeOptions) ([]ID, error) {
	if err := ctx.Err(); err != nil {
		return dst, err
	}
	if len(text) > math.MaxInt32 {
		return dst, fmt.Errorf("tokenizer: %w: %d bytes", ErrTooLong, len(text))
	}
	w := scratch.Get().(*work)
	defer w.release()
	*w = work{ctx: ctx, budget: opt.Budget, out: dst, room: math.MaxInt, ownOut: dst == nil && opt.Budget != nil, arrays: w.arrays}
	if opt.Limit > 0 {
		w.room = opt.Limit
	}
	if err := t.encode(w, text, opt); err != nil {
		return dst, fmt.Errorf("tokenizer: %w", err)
	}
	return w.out, nil
}

func (t *Tokenizer) encode(w *work, text string, opt EncodeOptions) error {
	if t.traits.bounded && t.leastTokens(len(text)) > w.room && t.leastTokens(t.encodable(text)) > w.room {
		return ErrTooLong
	}
	if opt.AddSpecial && t.addBOS {
		if err := w.add(t.bos); err != nil {
			return err
		}
	}
	special := t.userDefined
	if opt.ParseSpecial {
		special = t.special
	}
	for {
		start, end, id, err := special.next(text, w)
		if err != nil {
			return err
		}
		if start > 0 {
			if err := t.model.encode(w, text[:start], true); err != nil {
				return err
			}
		}
		if id == None {
			break
		}
		if err := w.add(id); err != nil {
			return err
		}
		text = text[end:]
	}
	if opt.AddSpecial && t.addEOS {
		return w.add(t.eos)
	}
	return nil
}

// leastTokens is the fewest tokens that n bytes can become in a bounded
// vocabulary.
func (t *Tokenizer) leastTokens(n int) int { return (n + t.maxTokenBytes - 1) / t.maxTokenBytes }

// encodable counts the bytes of text that become part of some token.
func (t *Tokenizer) encodable(text string) int {
	if t.takesAll {
		return len(text)
	}
	n := 0
	for i := range len(text) {
		if t.model.takes(text[i]) {
			n++
		}
	}
	return n
}

const (
	pollSteps  = 4096    // steps between looks at the context
	freePiece  = 1 << 16 // bytes of the longest piece that isn't priced
	pieceBytes = 32      // working memory for each byte of a long piece: arrays below
)

// work is one call of Encode.
type work struct {
	ctx    context.Context
	budget *budget.Budget
	out    []ID
	room   int   // tokens that out may still take
	spent  int   // steps since ctx was looked at
	steps  int   // merges and moves in the queue, for tests of growth
	total  int   // what was spent, for the same
	priced int64 // bytes taken from budget for the longest piece
	extra  int64 // bytes taken from it for other arrays
	err    error // what spend reports from now on
	tries  int64 // of a pattern, before it is given up
	lost   bool  // the last token is the unknown one

	ownOut   bool  // out isn't the caller's, so what it takes is priced
	outBytes int64 // of extra, what out takes
	arrays
}

// arrays are the parts of work that the next call uses again.
type arrays struct {
	spelling   []byte   // of a piece; of byte-level BPE if it is no longer than some token
	ids        []ID     // of the piece, while they are merged
	ranks      []uint32 // of each token with its right neighbour
	next, prev []int32  // the list of tokens
	queue      []uint64
	retries    []retry   // of a pattern
	sums       []float64 // of the scores on the best way to each place
}

var scratch = sync.Pool{New: func() any { return new(work) }}

// release gives the memory back; what a very long piece took isn't kept.
func (w *work) release() {
	if w.priced+w.extra > 0 {
		w.budget.Release(budget.Scratch, w.priced+w.extra)
	}
	if cap(w.ids) > freePiece || cap(w.spelling) > freePiece || cap(w.retries) > freePiece {
		w.arrays = arrays{}
	}
	*w = work{arrays: w.arrays}
	scratch.Put(w)
}

// add appends tokens to the output.
func (w *work) add(ids ...ID) error {
	if len(ids) > w.room {
		return ErrTooLong
	}
	w.room -= len(ids)
	if w.ownOut && len(w.out)+len(ids) > cap(w.out) {
		if err := w.growOut(len(w.out) + len(ids)); err != nil {
			return err
		}
	}
	w.out = append(w.out, ids...)
	return nil
}

// growOut makes room for n tokens in all and some more, priced.
func (w *work) growOut(n int) error {
	n = max(n, cap(w.out)+cap(w.out)/2, 64)
	bytes := 4 * int64(n-cap(w.out))
	if err := w.reserve(bytes); err != nil {
		return err
	}
	if w.budget != nil {
		w.outBytes += bytes
	}
	out := make([]ID, len(w.out), n)
	copy(out, w.out)
	w.out = out
	return nil
}

// spend counts n steps and looks at the context when it is time. After an error
// each further call reports it too.
func (w *work) spend(n int) error {
	w.total += n
	if w.spent += n; w.spent < pollSteps {
		return nil
	}
	return w.poll()
}

// failed reports whether spend has reported an error, which it does again.
func (w *work) failed() bool { return w.spent >= pollSteps && w.poll() != nil }

// fail makes spend report the error from now on.
func (w *work) fail(err error) { w.err, w.spent = err, pollSteps }

// reserve takes bytes from the budget until release.
func (w *work) reserve(bytes int64) error {
	if w.budget == nil {
		return nil
	}
	if err := w.budget.Reserve(budget.Scratch, bytes); err != nil {
		return err
	}
	w.extra += bytes
	return nil
}

// poll looks at the context.
func (w *work) poll() error {
	err := w.err
	if err == nil {
		err = w.ctx.Err()
	}
	if err == nil {
		w.spent = 0
	} else {
		w.spent = pollSteps
	}
	return err
}

// price takes what a piece of n bytes needs from the budget.
func (w *work) price(n int) error {
	return w.priceBytes(n, int64(n)*pieceBytes)
}

// priceBytes takes what a piece of n bytes needs from the budget, given its need.
func (w *work) priceBytes(n int, need int64) error {
	if w.budget == nil || n <= freePiece || need <= w.priced {
		return nil
	}
	if err := w.budget.Reserve(budget.Scratch, need-w.priced); err != nil {
		return err
	}
	w.priced = need
	return nil
}

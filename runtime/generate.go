package runtime

import (
	"context"
	"errors"
	"io"
	"iter"
	"strings"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// Result is a whole answer.
type Result struct {
	Text     string
	Tokens   []int32          // every token chosen, end-of-generation tokens included
	Logprobs []float32        // one for each token, where asked for
	Top      [][]TokenLogprob // one for each token, where asked for
	Finish   FinishReason
	Usage    Usage
	Timing   Timing
}

// Generate runs a request to its end and returns the whole answer. Where it
// fails after it began, the result has what was generated until then and the
// error is not nil; where it could not begin, the result is nil. While it is
// gathered, the answer counts under the limit of [SetMemoryLimit].
func Generate(ctx context.Context, g Generator, req Request) (*Result, error) {
	lease := budget.Process().Lease() // the answer, while it grows
	defer lease.Close()
	if err := lease.Reserve(budget.Request, answerAhead(g, &req)); err != nil {
		return nil, NewError(CodeResourceExhausted, err)
	}
	s, err := g.Start(ctx, req)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	var text strings.Builder
	res := &Result{}
	size := int64(0)
	for {
		ev, err := s.Recv()
		if err == nil {
			size += eventBytes(len(ev.Text), len(ev.TopLogprobs))
			err = NewError(CodeResourceExhausted, lease.Cover(budget.Request, size))
		}
		if err != nil {
			res.Text = text.String()
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return res, err
		}
		text.WriteString(ev.Text)
		switch ev.Kind {
		case EventToken:
			res.Tokens = append(res.Tokens, ev.Token)
			if req.Logprobs {
				res.Logprobs = append(res.Logprobs, ev.Logprob)
			}
			if req.TopLogprobs > 0 {
				res.Top = append(res.Top, ev.TopLogprobs)
			}
		case EventFinish:
			res.Finish, res.Usage, res.Timing = ev.Finish, ev.Usage, ev.Timing
		}
	}
}

// eventBytes is the price of an event in a [Result]: once more for what lists and
// texts leave behind as they grow.
func eventBytes(text, alternatives int) int64 { return 2 * (32 + int64(text) + 8*int64(alternatives)) }

// answerAhead is what is reserved for an answer before it begins, so that a limit
// that is lowered meanwhile doesn't end it: room for as many tokens as it may have,
// of usual length, up to some 2000. What is beyond that is priced as it comes.
func answerAhead(g Generator, req *Request) int64 {
	const most, usualText = 256 << 10, 8
	tokens := req.MaxTokens
	if tokens == 0 {
		tokens = g.Info().ContextLength
	}
	each := eventBytes(usualText, min(max(req.TopLogprobs, 0), maxTopLogprobs)) // it isn't validated yet
	return each * max(min(int64(tokens)+1, most/each), 0)
}

// All starts a request and ranges over its events. An error is yielded last,
// with an empty event. Breaking out of the loop cancels the request.
func All(ctx context.Context, g Generator, req Request) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		s, err := g.Start(ctx, req)
		if err != nil {
			yield(Event{}, err)
			return
		}
		s.All()(yield)
	}
}

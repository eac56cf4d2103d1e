package runtime

import (
	"context"
	"errors"
	"io"
	"iter"
	"strings"
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
// error is not nil; where it could not begin, the result is nil.
func Generate(ctx context.Context, g Generator, req Request) (*Result, error) {
	s, err := g.Start(ctx, req)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	var text strings.Builder
	res := &Result{}
	for {
		ev, err := s.Recv()
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

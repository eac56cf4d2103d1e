package runtime

import (
	"context"
	"errors"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/tokenizer"
)

// vocabulary implements [Tokenizer] over a tokenizer.
type vocabulary struct {
	tok    *tokenizer.Tokenizer
	budget *budget.Budget
}

// Tokenize implements [Tokenizer].
func (v *vocabulary) Tokenize(ctx context.Context, text string, opt TokenizeOptions) ([]int32, error) {
	return v.encode(ctx, text, opt, anyNumber)
}

// anyNumber is a limit that isn't one.
const anyNumber = -1

// encode tokenizes text into at most limit tokens, or any number. The memory
// is priced while it runs, the ids included; what is kept of them is the caller's
// to price.
func (v *vocabulary) encode(ctx context.Context, text string, opt TokenizeOptions, limit int) ([]int32, error) {
	if err := needContext(ctx); err != nil {
		return nil, err
	}
	most := max(limit, 0)
	if limit == 0 {
		most = 1 // where 0 would be any number
	}
	var ids []int32
	err := guarded(CodeInternal, func() (err error) {
		ids, err = v.tok.Encode(ctx, nil, text, tokenizer.EncodeOptions{
			AddSpecial: opt.AddSpecial, ParseSpecial: opt.ParseSpecial, Limit: most, Budget: v.budget,
		})
		return err
	})
	if err == nil && limit != anyNumber && len(ids) > limit {
		err = tokenizer.ErrTooLong
	}
	switch {
	case err != nil && errors.Is(err, ctx.Err()):
		return nil, contextError(ctx)
	case errors.Is(err, tokenizer.ErrTooLong):
		return nil, &Error{Code: CodeContextLength, Err: &ContextLengthError{Prompt: limit + 1, Limit: limit + 1, AtLeast: true}}
	case errors.Is(err, budget.ErrExceeded):
		return nil, NewError(CodeResourceExhausted, err)
	case err != nil:
		return nil, NewError(CodeInvalidRequest, err)
	}
	return ids, nil
}

// TokenBytes implements [Tokenizer].
func (v *vocabulary) TokenBytes(id int32) []byte {
	return v.tok.AppendToken(nil, id, tokenizer.DecodeOptions{Special: true})
}

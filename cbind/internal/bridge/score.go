package bridge

import (
	"context"
	"slices"

	"github.com/dunlin-go/dunlin/cbind/internal/device"
	"github.com/dunlin-go/dunlin/internal/sampler"
	"github.com/dunlin-go/dunlin/runtime"
)

// Score implements [runtime.Scorer] with one forward of all tokens, whose logits
// are in memory together.
func (m *Model) Score(ctx context.Context, tokens []int32, opt runtime.ScoreOptions) (*runtime.Score, error) {
	if err := opt.Validate(len(tokens)); err != nil {
		return nil, err
	}
	tokens = slices.Clone(tokens) // a cancelled call may still read them
	out, err := m.Infer(ctx, Input{Tokens: tokens})
	if err != nil {
		return nil, err
	}
	defer out.Release()
	logits, err := out.Values()
	if err != nil {
		return nil, err
	}
	score, width := &runtime.Score{}, m.desc.Vocabulary
	for at := opt.From; at < len(tokens); at++ {
		if ctx.Err() != nil {
			return nil, runtime.NewError(runtime.CodeCanceled, ctx.Err())
		}
		row := logits[at*width:][:width]
		best, err := sampler.Argmax(row)
		if err != nil {
			return nil, runtime.NewError(runtime.CodeNumerics, err)
		}
		score.Argmax = append(score.Argmax, best)
		if opt.Each != nil {
			if _, err := device.Guarded(func() (struct{}, error) { opt.Each(at, row); return struct{}{}, nil }); err != nil {
				return nil, err
			}
		}
		if at+1 < len(tokens) {
			score.Logprobs = append(score.Logprobs, float64(row[tokens[at+1]])-sampler.LogSumExp(row))
			continue
		}
		for _, c := range sampler.TopK(nil, row, opt.Top) {
			score.Top = append(score.Top, runtime.TokenLogit{ID: c.ID, Logit: c.Logit})
		}
	}
	return score, nil
}

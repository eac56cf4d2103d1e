package main

import (
	"cmp"
	"fmt"
	"math"

	"github.com/dunlin-go/dunlin/internal/sampler"
)

// verifyTop is how many of the reference's highest logits are compared.
const verifyTop = 20

// difference is how the logits of one position differ from the reference's.
type difference struct {
	logit  float64 // largest absolute difference among the reference's highest
	kl     float64 // divergence of the native distribution from the reference's, in nats
	margin float64 // of the reference's likeliest token before its second
	same   bool    // both have the same likeliest token
	err    error
}

// compareLogits compares over the tokens that both vocabularies have: the rest of the
// longer one is padding.
func compareLogits(reference, native []float32) (d difference) {
	n := min(len(reference), len(native))
	reference, native = reference[:n], native[:n]
	refBest, err := sampler.Argmax(reference)
	best, nativeErr := sampler.Argmax(native)
	if err := cmp.Or(err, nativeErr); err != nil {
		return difference{err: err}
	}
	d.same = refBest == best
	top := sampler.TopK(nil, reference, verifyTop)
	for _, c := range top {
		d.logit = max(d.logit, math.Abs(float64(c.Logit)-float64(native[c.ID])))
	}
	d.margin = math.Inf(1)
	if len(top) > 1 {
		d.margin = float64(top[0].Logit) - float64(top[1].Logit)
	}
	d.kl = divergence(reference, native)
	return d
}

// divergence is the sum of p ln(p/q), with p and q the softmax of each.
func divergence(p, q []float32) float64 {
	lp, lq := sampler.LogSumExp(p), sampler.LogSumExp(q)
	sum := 0.0
	for i := range p {
		logP := float64(p[i]) - lp
		sum += math.Exp(logP) * (logP - (float64(q[i]) - lq))
	}
	return max(sum, 0) // rounding may pass zero
}

// textResult is how a text was computed by both.
type textResult struct {
	Name        string `json:"name"`
	Tokens      int    `json:"tokens"`
	TokensEqual bool   `json:"tokens_equal"`
	// FirstDifference is the first token that differs, -1 if none does.
	FirstDifference int `json:"first_difference"`

	LogitLast float64 `json:"logit_last"` // of the last position
	LogitMax  float64 `json:"logit_max"`  // of all positions
	KLMean    float64 `json:"kl_mean"`
	KLMax     float64 `json:"kl_max"`
	Agreement float64 `json:"agreement"` // share of positions
	// MeanLogprob and what follows are nil for a text of one token.
	MeanLogprob          *float64 `json:"mean_logprob"`
	ReferenceMeanLogprob *float64 `json:"reference_mean_logprob"`
	MeanDifference       *float64 `json:"mean_difference"` // relative
	// Of the continuation: the tokens with margin enough, and those that differ.
	GreedyCompared  int `json:"greedy_compared"`
	GreedyDifferent int `json:"greedy_different"`

	Failed []string `json:"failed"`
}

// summarise fills in what the positions say: n of them are the text's, and the last
// of these and what follows are the continuation's.
func (r *textResult) summarise(positions []difference, n int, margin float64) error {
	r.Tokens = n
	agreed, sum := 0, 0.0
	for at, d := range positions {
		if d.err != nil {
			return fmt.Errorf("%s, position %d: %w", r.Name, at, d.err)
		}
		differs := !d.same && d.margin >= margin
		if at >= n-1 && at < len(positions)-1 && d.margin >= margin {
			r.GreedyCompared++
			if differs {
				r.GreedyDifferent++
			}
		}
		if at >= n {
			continue
		}
		if !differs {
			agreed++
		}
		r.LogitLast = d.logit
		r.LogitMax, r.KLMax = max(r.LogitMax, d.logit), max(r.KLMax, d.kl)
		sum += d.kl
	}
	r.KLMean, r.Agreement = sum/float64(n), float64(agreed)/float64(n)
	return nil
}

// means compares the mean log-probabilities of the text's tokens.
func (r *textResult) means(native, reference []float64) {
	r.MeanLogprob, r.ReferenceMeanLogprob = mean(native), mean(reference)
	if r.MeanLogprob == nil || r.ReferenceMeanLogprob == nil {
		return
	}
	off := math.Abs(*r.MeanLogprob-*r.ReferenceMeanLogprob) / math.Abs(*r.ReferenceMeanLogprob)
	r.MeanDifference = &off
}

// judge compares with the bounds. What isn't a number fails.
func (r *textResult) judge(b *verifyBounds) {
	r.Failed = []string{}
	if !r.TokensEqual {
		r.Failed = append(r.Failed, fmt.Sprintf("token %d differs", r.FirstDifference))
		return
	}
	below := func(what string, got, bound float64) {
		if !(got <= bound) {
			r.Failed = append(r.Failed, fmt.Sprintf("%s %.4g > %.4g", what, got, bound))
		}
	}
	logit, meanBound := b.Logit, b.Mean
	if r.Tokens == 1 {
		logit = b.LogitOne
	}
	if r.Tokens >= longText {
		meanBound = b.MeanLong
	}
	below("logit", r.LogitLast, logit)
	below("KL", r.KLMean, b.KL)
	if r.MeanDifference != nil {
		below("mean log-probability", *r.MeanDifference, meanBound)
	}
	if !(r.Agreement >= b.Agreement) {
		r.Failed = append(r.Failed, fmt.Sprintf("agreement %.4g < %.4g", r.Agreement, b.Agreement))
	}
	if r.GreedyDifferent > 0 {
		r.Failed = append(r.Failed, fmt.Sprintf("%d of %d greedy tokens", r.GreedyDifferent, r.GreedyCompared))
	}
}

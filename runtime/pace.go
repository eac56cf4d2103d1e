package runtime

import "time"

// pace learns how long steps take, so that the next one can be sized by time.
// A step costs a floor, most of it reading the weights, something for each token, and
// something for each position that a token attends to. The first two are fitted by
// least squares to the last steps that had prompts in them, with fading weights, and
// to what a step of mere decoding takes: many of those don't make the others
// forgotten. Attention is measured by itself. Where it would be counted as the
// tokens' own, a long prompt's last chunks would make the next one's first look slow.
//
// Work is counted in tokens that attend to nothing.
type pace struct {
	prefill, decode  costs
	attention, pairs float64 // fading sums of its seconds and pairs, of steps with prompts
	mostTokens       int     // of a step so far
	mostPairs        int
}

// costs are fading sums of 1, tokens, seconds and their products.
type costs struct{ weight, n, t, nn, nt float64 }

// Bounds of what a step takes of prompts.
const (
	// minPrefill is how much work on prompts a step has room for however slow
	// the machine is and however many sequences are decoding.
	minPrefill = 4
	// firstChunk is for the first step, before anything was measured.
	firstChunk = 16
)

// fade is the weight that a step keeps when the next one comes.
const fade = 0.9

func (c *costs) add(n, t float64) {
	*c = costs{c.weight*fade + 1, c.n*fade + n, c.t*fade + t, c.nn*fade + n*n, c.nt*fade + n*t}
}

// mean is the same as one step of weight 1.
func (c costs) mean() costs {
	if c.weight == 0 {
		return c
	}
	w := c.weight
	return costs{1, c.n / w, c.t / w, c.nn / w, c.nt / w}
}

// measured is a step's size and cost.
type measured struct {
	tokens          int
	prefill         bool // it had tokens of prompts
	pairs           int  // of tokens and positions they attend to
	took, attention time.Duration
}

// add notes a step.
func (p *pace) add(m measured) {
	c := &p.decode
	if m.prefill {
		c = &p.prefill
		p.attention = p.attention*fade + m.attention.Seconds()
		p.pairs = p.pairs*fade + float64(m.pairs)
	}
	c.add(float64(m.tokens), max(m.took-m.attention, 0).Seconds())
	p.mostTokens, p.mostPairs = max(p.mostTokens, m.tokens), max(p.mostPairs, m.pairs)
}

// fit is what a step takes that has no tokens, and each token, in seconds without
// attention. It is false where the steps were all alike: then all is as if it were the
// tokens'.
func (p *pace) fit() (floor, slope float64, ok bool) {
	a, b := p.prefill, p.decode.mean()
	a = costs{a.weight + b.weight, a.n + b.n, a.t + b.t, a.nn + b.nn, a.nt + b.nt}.mean()
	if a.n == 0 {
		return 0, 0, false
	}
	spread := a.nn - a.n*a.n
	if spread < a.n*a.n/100 {
		return 0, a.t / a.n, false
	}
	slope = (a.nt - a.n*a.t) / spread
	slope = min(max(slope, a.t/a.n/64), a.t/a.n) // noise can make it absurd
	return a.t - slope*a.n, slope, true
}

// price is the work of a pair.
func (p *pace) price() float64 {
	_, slope, _ := p.fit()
	return p.priceAt(slope)
}

// priceAt is the same where a token takes so many seconds.
func (p *pace) priceAt(slope float64) float64 {
	if p.pairs == 0 || slope == 0 {
		return 0
	}
	return p.attention / p.pairs / slope
}

// work is how much fits into a step of the target's length. Where the floor
// alone is longer than that, it is as much as double the floor: a step that
// does little but read the weights helps nobody.
func (p *pace) work(target time.Duration) float64 {
	if p.prefill.weight == 0 {
		return firstChunk
	}
	floor, slope, ok := p.fit()
	most := float64(p.mostTokens) + float64(p.mostPairs)*p.priceAt(slope)
	if !ok {
		return max(minPrefill, most+most/4+1) // the slope shows when one is not like the others
	}
	fit := 2 * most // not far beyond what was seen
	if slope > 0 {  // or the clock is too coarse
		fit = min(fit, max((target.Seconds()-floor)/slope, floor/slope))
	}
	return max(minPrefill, fit)
}

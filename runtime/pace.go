package runtime

import "time"

// pace learns how long steps take, so that the next one can be sized by time.
// A step costs a floor, most of it reading the weights, and something for each
// token. Both are fitted by least squares to the last steps that had prompts
// in them, with fading weights, and to what a step of mere decoding takes: many
// of those don't make the others forgotten.
type pace struct {
	prefill, decode costs
	most            int // tokens of the largest step so far
}

// costs are fading sums of 1, tokens, seconds and their products.
type costs struct{ weight, n, t, nn, nt float64 }

// Bounds of what a step takes of prompts.
const (
	// minPrefill is how many prompt tokens a step has room for however slow
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

// add notes a step; prefill says whether it had tokens of prompts.
func (p *pace) add(tokens int, prefill bool, took time.Duration) {
	c := &p.decode
	if prefill {
		c = &p.prefill
	}
	c.add(float64(tokens), took.Seconds())
	p.most = max(p.most, tokens)
}

// tokens is how many fit into a step of the target's length. Where the floor
// alone is longer than that, it is as many as double the floor: a step that
// does little but read the weights helps nobody.
func (p *pace) tokens(target time.Duration) int {
	if p.prefill.weight == 0 {
		return firstChunk
	}
	a, b := p.prefill, p.decode.mean()
	a = costs{a.weight + b.weight, a.n + b.n, a.t + b.t, a.nn + b.nn, a.nt + b.nt}.mean()
	spread := a.nn - a.n*a.n
	if spread < a.n*a.n/100 {
		return max(minPrefill, p.most+p.most/4+1) // all alike: the slope shows when one is not
	}
	slope := (a.nt - a.n*a.t) / spread
	slope = min(max(slope, a.t/a.n/64), a.t/a.n) // noise can make it absurd
	floor := a.t - slope*a.n
	fit := max((target.Seconds()-floor)/slope, min(floor/slope, 1<<20))
	return max(minPrefill, min(int(fit), 2*p.most)) // not far beyond what was seen
}

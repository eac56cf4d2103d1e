package runtime

import "time"

// pace learns how long steps take, so that the next one can be sized by time.
// A step costs a floor, most of it reading the weights, and something for each
// token. Both are fitted to the last steps by least squares with fading weights.
type pace struct {
	weight, n, t, nn, nt float64 // fading sums of 1, tokens, seconds and their products
	last                 int     // tokens of the last step
}

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

// add notes a step.
func (p *pace) add(tokens int, took time.Duration) {
	n, t := float64(tokens), took.Seconds()
	p.weight = p.weight*fade + 1
	p.n, p.t = p.n*fade+n, p.t*fade+t
	p.nn, p.nt = p.nn*fade+n*n, p.nt*fade+n*t
	p.last = tokens
}

// tokens is how many fit into a step of the target's length. Where the floor
// alone is longer than that, it is as many as double the floor: a step that
// does little but read the weights helps nobody.
func (p *pace) tokens(target time.Duration) int {
	if p.weight == 0 {
		return firstChunk
	}
	n, t := p.n/p.weight, p.t/p.weight
	spread := p.nn/p.weight - n*n
	if spread < n*n/100 {
		return max(minPrefill, p.last+p.last/4+1) // all alike: the slope shows when one is not
	}
	slope := (p.nt/p.weight - n*t) / spread
	slope = min(max(slope, t/n/64), t/n) // noise can make it absurd
	floor := t - slope*n
	fit := max((target.Seconds()-floor)/slope, min(floor/slope, 1<<20))
	return max(minPrefill, min(int(fit), 2*p.last)) // not far beyond what was seen
}

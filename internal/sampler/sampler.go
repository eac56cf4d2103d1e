package sampler

import (
	"cmp"
	"errors"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/dunlin-go/dunlin/tensor"
)

// ErrNotFinite is returned where a model computed NaN or infinite logits.
var ErrNotFinite = errors.New("the model's logits are not finite numbers")

// Config is how a sequence is sampled. The engine has validated it.
type Config struct {
	Temperature float64 // 0 is greedy
	TopK        int     // 0 is all
	TopP        float64 // 0 and 1 are all
	Seed        uint64
}

// Bytes is the memory that a sampler of the configuration comes to hold.
func (c Config) Bytes(vocabulary int) int64 {
	switch {
	case c.Temperature == 0:
		return 0
	case c.TopK > 0 && c.TopK < vocabulary:
		return candidateBytes * int64(c.TopK)
	case c.TopP > 0 && c.TopP < 1:
		return candidateBytes * int64(vocabulary)
	}
	return 0
}

const candidateBytes = 8

// Candidate is a token and its logit.
type Candidate struct {
	ID    int32
	Logit float32
}

// Sampler chooses the tokens of one sequence. It is not safe for concurrent
// use.
type Sampler struct {
	cfg  Config
	rng  *rand.Rand
	heap []Candidate // reused between tokens
}

// New returns a sampler for one sequence.
func New(cfg Config) *Sampler {
	return &Sampler{cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 0x64756e6c696e))}
}

// Next chooses a token.
func (s *Sampler) Next(logits []float32) (int32, error) {
	best, err := Argmax(logits)
	if err != nil || s.cfg.Temperature == 0 {
		return best, err
	}
	u := s.rng.Float64()
	k, p := s.cfg.TopK, s.cfg.TopP
	if p == 0 {
		p = 1
	}
	if (k == 0 || k >= len(logits)) && p >= 1 {
		return s.all(logits, logits[best], u), nil
	}
	return s.top(logits, logits[best], k, p, u), nil
}

// weight is a token's probability up to a common factor.
func (s *Sampler) weight(logit, highest float32) float64 {
	return math.Exp(float64(logit-highest) / s.cfg.Temperature)
}

// all samples from the whole distribution, in the order of ids.
func (s *Sampler) all(logits []float32, highest float32, u float64) int32 {
	total := 0.0
	for _, l := range logits {
		total += s.weight(l, highest)
	}
	u *= total
	last := 0
	for id, l := range logits {
		w := s.weight(l, highest)
		if w > 0 {
			last = id
			if u -= w; u < 0 {
				return int32(id)
			}
		}
	}
	return int32(last) // rounding left a little of u
}

// top samples from the k likeliest tokens, or those of them that reach the
// probability p together, likeliest first.
func (s *Sampler) top(logits []float32, highest float32, k int, p, u float64) int32 {
	var total float64
	if k == 0 || k >= len(logits) {
		// Without a top-k, p is a share of the whole distribution.
		k = len(logits)
		for _, l := range logits {
			total += s.weight(l, highest)
		}
		// All tokens below an equal share of what may be left out come to less
		// than that together: they aren't needed. The margin is for rounding.
		least := float64(highest) + s.cfg.Temperature*(math.Log((1-p)*total/float64(k))-1e-6)
		s.heap = s.heap[:0]
		for id, l := range logits {
			if float64(l) >= least {
				s.heap = append(s.heap, Candidate{int32(id), l})
			}
		}
		k = len(s.heap)
		heapify(s.heap)
	} else {
		s.heap = TopK(s.heap, logits, k)
		for _, c := range s.heap {
			total += s.weight(c.Logit, highest)
		}
		heapify(s.heap)
	}
	// Taking the likeliest off a heap costs log n a token, and the tokens that
	// matter are few.
	kept, reach := 0.0, p*total
	n := 0
	for n < k {
		pop(s.heap[:len(s.heap)-n]) // moves the likeliest behind the others
		n++
		kept += s.weight(s.heap[len(s.heap)-n].Logit, highest)
		if kept >= reach {
			break
		}
	}
	u *= kept
	for i := 1; i <= n; i++ {
		c := s.heap[len(s.heap)-i]
		if u -= s.weight(c.Logit, highest); u < 0 {
			return c.ID
		}
	}
	return s.heap[len(s.heap)-n].ID
}

// Argmax is the id of the highest logit, the lowest id among equals.
func Argmax(logits []float32) (int32, error) {
	best, ok := tensor.Argmax(logits)
	if !ok {
		return 0, ErrNotFinite
	}
	return int32(best), nil
}

// before orders candidates: higher logits first, then lower ids.
func before(a, b Candidate) bool {
	return a.Logit > b.Logit || a.Logit == b.Logit && a.ID < b.ID
}

// TopK returns the k highest logits, highest first, in dst's memory.
func TopK(dst []Candidate, logits []float32, k int) []Candidate {
	dst = dst[:0]
	k = min(k, len(logits))
	if k <= 0 {
		return dst
	}
	// dst is a heap with the lowest candidate on top.
	for id, l := range logits {
		c := Candidate{int32(id), l}
		switch {
		case len(dst) < k:
			dst = append(dst, c)
			for i := len(dst) - 1; i > 0; {
				up := (i - 1) / 2
				if before(dst[i], dst[up]) {
					break
				}
				dst[i], dst[up] = dst[up], dst[i]
				i = up
			}
		case before(c, dst[0]):
			dst[0] = c
			sift(dst, 0, func(a, b Candidate) bool { return before(b, a) })
		}
	}
	slices.SortFunc(dst, func(a, b Candidate) int {
		if c := cmp.Compare(b.Logit, a.Logit); c != 0 {
			return c
		}
		return cmp.Compare(a.ID, b.ID)
	})
	return dst
}

// heapify makes h a heap with the likeliest candidate on top.
func heapify(h []Candidate) {
	for i := len(h)/2 - 1; i >= 0; i-- {
		sift(h, i, before)
	}
}

// pop moves the top of h to its end and makes the rest a heap again.
func pop(h []Candidate) {
	last := len(h) - 1
	h[0], h[last] = h[last], h[0]
	sift(h[:last], 0, before)
}

func sift(h []Candidate, i int, above func(a, b Candidate) bool) {
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && above(h[child+1], h[child]) {
			child++
		}
		if !above(h[child], h[i]) {
			return
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}

// LogSumExp is the logarithm of the sum of the logits' exponentials: a logit
// minus it is a natural log-probability.
func LogSumExp(logits []float32) float64 {
	highest := float32(math.Inf(-1))
	for _, l := range logits {
		highest = max(highest, l)
	}
	sum := 0.0
	for _, l := range logits {
		sum += math.Exp(float64(l - highest))
	}
	return float64(highest) + math.Log(sum)
}

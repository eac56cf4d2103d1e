package loadsim

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// synthSeed makes every run of the generator write the same traces.
const synthSeed = 1

// Chat is a synthetic trace of conversations that share a system prompt. Its
// about lines say which of its numbers were published and which are chosen.
func Chat() *Trace {
	const (
		sessions  = 100
		system    = 256  // tokens
		everySec  = 2.25 // mean seconds between conversations
		thinkSec  = 8.0  // mean seconds from a turn to the next
		goesOn    = 0.55 // probability that another turn follows
		maxPrompt = 3072
	)
	s := newSynth(32)
	s.trace.Name = "chat-synthetic"
	s.trace.About = []string{
		"synthetic: no request of it was ever made; written by dunlin's generator, seed 1",
		"taken from published traces, halved for a model of 135M parameters with a context of 8192 on a CPU: the medians of prompts (1020 tokens, here of a conversation's first) and of answers (129) of Azure's conversations (Splitwise, ISCA 2024, figure 3); a system prompt of 512 tokens that all share, as block 0 in Mooncake's conversations (FAST 2025)",
		"taken as published: intervals of a Gamma distribution with shape 0.5 between arrivals (BurstGPT, 2024, modeled scaling), here of conversations",
		"chosen: log-normal lengths with sigma 0.7; a next turn with probability 0.55 after 8 s in the mean, so that 72 percent of prompt tokens repeat earlier ones, where Mooncake's longer conversations have 40; the rate",
	}
	shared := s.prefix(system)
	var at float64
	for range sessions {
		at += everySec * s.gamma()
		when, blocks := at, shared
		for prompt := system + s.length(510-system, 0.7, 16, 1024); prompt <= maxPrompt; {
			blocks = s.extend(blocks, prompt)
			answer := s.length(64.5, 0.7, 4, 384)
			s.add(when, prompt, answer, blocks)
			if s.rng.Float64() >= goesOn {
				break
			}
			when += thinkSec * s.rng.ExpFloat64()
			prompt += answer + s.length(64.5, 0.7, 8, 512)
		}
	}
	return s.done()
}

// Retrieval is a synthetic trace of questions about retrieved texts: long prompts,
// short answers.
func Retrieval() *Trace {
	const (
		requests     = 150
		applications = 12
		everySec     = 5.0
	)
	s := newSynth(64)
	s.trace.Name = "retrieval-synthetic"
	s.trace.About = []string{
		"synthetic: no request of it was ever made; written by dunlin's generator, seed 1",
		"taken from published traces, halved for a model of 135M parameters with a context of 8192 on a CPU: the median of prompts, 6345 tokens (Mooncake's trace of 23608 requests, 2024), here cut to 2000 to 6000 after halving",
		"taken as published: the median answer of 30 tokens of the same trace, without the long answers of its upper quarter; about 59 percent of prompt tokens repeat earlier ones (Mooncake's tools and agents, FAST 2025); intervals of a Gamma distribution with shape 0.5 between arrivals (BurstGPT, 2024, modeled scaling)",
		"chosen: log-normal lengths with sigma 0.45 and 0.9; 12 applications, the n-th 1/n as frequent as the first, each with a beginning of its own of 75 percent of the median prompt; the rate",
	}
	prefixes := make([][]int64, applications)
	for i := range prefixes {
		prefixes[i] = s.prefix(s.length(0.75*3172, 0.2, 1024, 4096) / s.trace.BlockTokens * s.trace.BlockTokens)
	}
	var at float64
	for range requests {
		at += everySec * s.gamma()
		blocks := prefixes[s.zipf(applications)]
		prompt := max(s.length(3172, 0.45, 2000, 6000), len(blocks)*s.trace.BlockTokens+32)
		s.add(at, prompt, s.length(30, 0.9, 2, 128), s.extend(blocks, prompt))
	}
	return s.done()
}

// synth makes a trace.
type synth struct {
	rng   *rand.Rand
	next  int64 // the next block's id
	trace *Trace
}

func newSynth(block int) *synth {
	return &synth{rng: rand.New(rand.NewPCG(synthSeed, 0)), trace: &Trace{BlockTokens: block}}
}

// gamma is from the Gamma distribution of shape 0.5 and mean 1, which is the square
// of a normal variable; its coefficient of variation is the root of 2.
func (s *synth) gamma() float64 {
	z := s.rng.NormFloat64()
	return z * z
}

// length is from a log-normal distribution, cut to [least, most].
func (s *synth) length(median, sigma float64, least, most int) int {
	return min(max(int(median*math.Exp(sigma*s.rng.NormFloat64())), least), most)
}

// zipf is one of n ranks, rank i with a weight of 1/(i+1).
func (s *synth) zipf(n int) int {
	var sum float64
	for i := range n {
		sum += 1 / float64(i+1)
	}
	for u, i := s.rng.Float64()*sum, 0; ; i++ {
		if u -= 1 / float64(i+1); u < 0 || i == n-1 {
			return i
		}
	}
}

// prefix is the blocks of so many tokens.
func (s *synth) prefix(tokens int) []int64 { return s.extend(nil, tokens) }

// extend adds new blocks until a prompt of so many tokens is covered. It goes on in
// the block that a shorter prompt ended in.
func (s *synth) extend(blocks []int64, tokens int) []int64 {
	blocks = slices.Clone(blocks)
	for len(blocks)*s.trace.BlockTokens < tokens {
		blocks = append(blocks, s.next)
		s.next++
	}
	return blocks
}

func (s *synth) add(seconds float64, prompt, answer int, blocks []int64) {
	arrival := time.Duration(seconds*1e3) * time.Millisecond
	s.trace.Entries = append(s.trace.Entries, Entry{Arrival: arrival, Input: prompt, Output: answer, Blocks: blocks})
}

// done sorts by arrival.
func (s *synth) done() *Trace {
	slices.SortStableFunc(s.trace.Entries, func(a, b Entry) int { return cmp.Compare(a.Arrival, b.Arrival) })
	return s.trace
}

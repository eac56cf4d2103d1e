package tensor

import "math"

// RopeScaling stretches a rotary position embedding over a longer context than
// the model was trained on: [LinearScaling], [YaRNScaling] or [Llama3Scaling].
type RopeScaling interface {
	// scale changes the frequencies, in radians a position, and returns what
	// cosines and sines are multiplied by.
	scale(freqs []float64, base float64) (magnitude float64)
}

// LinearScaling divides every position by Factor.
//
// Source: Chen et al. 2023, https://arxiv.org/abs/2306.15595.
type LinearScaling struct{ Factor float64 }

func (s LinearScaling) scale(freqs []float64, _ float64) float64 {
	for i := range freqs {
		freqs[i] /= s.Factor
	}
	return 1
}

// YaRNScaling divides low frequencies by Factor and keeps high ones: those that turn
// more than BetaFast times in the original context; between that and BetaSlow turns
// it goes from the one to the other by the pair's number. It also makes queries and
// keys larger, by Magnitude.
//
// Source: Peng et al. 2023, https://arxiv.org/abs/2309.00071; reference code:
// transformers/modeling_rope_utils.py.
type YaRNScaling struct {
	Factor    float64
	Original  int     // tokens of the original context
	BetaFast  float64 // 0: 32
	BetaSlow  float64 // 0: 1
	Magnitude float64 // 0: 0.1 ln(Factor) + 1, and 1 where Factor is at most 1
}

func (s YaRNScaling) scale(freqs []float64, base float64) float64 {
	if s.BetaFast == 0 {
		s.BetaFast = 32
	}
	if s.BetaSlow == 0 {
		s.BetaSlow = 1
	}
	if s.Magnitude == 0 {
		s.Magnitude = 0.1*math.Log(max(s.Factor, 1)) + 1
	}
	dims := float64(2 * len(freqs))
	// turning is the number, not whole, of the pair that turns so many times.
	turning := func(turns float64) float64 {
		return dims * math.Log(float64(s.Original)/(turns*2*math.Pi)) / (2 * math.Log(base))
	}
	low := max(0, math.Floor(turning(s.BetaFast)))
	high := min(dims-1, math.Ceil(turning(s.BetaSlow)))
	if low == high {
		high += 0.001
	}
	for i, f := range freqs {
		slow := min(1, max(0, (float64(i)-low)/(high-low)))
		freqs[i] = f/s.Factor*slow + f*(1-slow)
	}
	return s.Magnitude
}

// Llama3Scaling divides frequencies that turn less than LowFrequency times in the
// original context by Factor and keeps those that turn more than HighFrequency
// times; between the two it goes from the one to the other by the turns.
//
// Source: Grattafiori et al. 2024 (Llama 3), https://arxiv.org/abs/2407.21783;
// reference code: transformers/modeling_rope_utils.py.
type Llama3Scaling struct {
	Factor        float64
	Original      int     // tokens of the original context
	LowFrequency  float64 // turns; 1 in Llama 3.1
	HighFrequency float64 // 4
}

func (s Llama3Scaling) scale(freqs []float64, _ float64) float64 {
	for i, f := range freqs {
		turns := f * float64(s.Original) / (2 * math.Pi)
		fast := min(1, max(0, (turns-s.LowFrequency)/(s.HighFrequency-s.LowFrequency)))
		freqs[i] = f/s.Factor*(1-fast) + f*fast
	}
	return 1
}

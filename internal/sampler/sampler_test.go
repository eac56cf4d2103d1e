package sampler

import (
	"errors"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestArgmax(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, tc := range []struct {
		logits []float32
		want   int32
		err    error
	}{
		{[]float32{1, 3, 2}, 1, nil},
		{[]float32{-5, -5, -7}, 0, nil},
		{[]float32{0, 2, 2}, 1, nil},
		{nil, 0, ErrNotFinite},
		{[]float32{1, nan}, 0, ErrNotFinite},
		{[]float32{nan, 1}, 0, ErrNotFinite},
		{[]float32{1, inf}, 0, ErrNotFinite},
		{[]float32{1, -inf}, 0, ErrNotFinite},
		{[]float32{math.MaxFloat32, math.MaxFloat32}, 0, nil},
	} {
		for _, temperature := range []float64{0, 1} {
			got, err := New(Config{Temperature: temperature}).Next(tc.logits)
			if !errors.Is(err, tc.err) || temperature == 0 && got != tc.want {
				t.Errorf("%v at %g: %d, %v, want %d, %v", tc.logits, temperature, got, err, tc.want, tc.err)
			}
		}
	}
}

// TestDistribution draws many tokens and compares how often each comes with
// the probabilities worked out from the definition.
func TestDistribution(t *testing.T) {
	logits := []float32{1, 3, 2, 0.5, 2.5, -1, 2}
	for _, tc := range []struct {
		name string
		cfg  Config
		kept []int // ids that may come
	}{
		{"all", Config{Temperature: 1}, []int{0, 1, 2, 3, 4, 5, 6}},
		{"hot", Config{Temperature: 3}, []int{0, 1, 2, 3, 4, 5, 6}},
		{"cold", Config{Temperature: 0.3}, []int{0, 1, 2, 3, 4, 5, 6}},
		{"top-k", Config{Temperature: 1, TopK: 3}, []int{1, 4, 2}}, // 2 and 6 tie: the lower id
		{"top-k of all", Config{Temperature: 1, TopK: 99}, []int{0, 1, 2, 3, 4, 5, 6}},
		{"top-p", Config{Temperature: 1, TopP: 0.6}, []int{1, 4}},
		{"top-p of one", Config{Temperature: 1, TopP: 0.01}, []int{1}},
		{"top-k, then top-p of it", Config{Temperature: 1, TopK: 2, TopP: 0.7}, []int{1, 4}},
		{"top-k of one", Config{Temperature: 1, TopK: 1}, []int{1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			want := make([]float64, len(logits))
			total := 0.0
			for _, id := range tc.kept {
				want[id] = math.Exp(float64(logits[id]) / tc.cfg.Temperature)
				total += want[id]
			}
			const draws = 20000
			got := make([]float64, len(logits))
			tc.cfg.Seed = 7
			s := New(tc.cfg)
			for range draws {
				id, err := s.Next(logits)
				if err != nil {
					t.Fatal(err)
				}
				got[id]++
			}
			for id := range want {
				p := want[id] / total
				// Five standard deviations of a binomial.
				if bound := 5*math.Sqrt(p*(1-p)/draws) + 1e-9; math.Abs(got[id]/draws-p) > bound {
					t.Errorf("token %d came with %.4f, want %.4f ± %.4f", id, got[id]/draws, p, bound)
				}
			}
		})
	}
}

func TestSeedRepeats(t *testing.T) {
	logits := make([]float32, 1000)
	for i := range logits {
		logits[i] = float32(math.Sin(float64(i)))
	}
	draw := func(seed uint64) []int32 {
		s := New(Config{Temperature: 1, TopP: 0.9, Seed: seed})
		out := make([]int32, 50)
		for i := range out {
			out[i], _ = s.Next(logits)
		}
		return out
	}
	if a, b := draw(1), draw(1); !slices.Equal(a, b) {
		t.Errorf("one seed, two answers: %v, %v", a, b)
	}
	if a, b := draw(1), draw(2); slices.Equal(a, b) {
		t.Error("two seeds, one answer")
	}
}

func TestTopK(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		logits := rapid.SliceOfN(rapid.Map(rapid.IntRange(-5, 5), func(i int) float32 { return float32(i) }), 1, 60).Draw(t, "logits")
		k := rapid.IntRange(0, 70).Draw(t, "k")
		all := make([]Candidate, len(logits))
		for i, l := range logits {
			all[i] = Candidate{int32(i), l}
		}
		slices.SortStableFunc(all, func(a, b Candidate) int { return int(b.Logit - a.Logit) })
		if got, want := TopK(nil, logits, k), all[:min(k, len(all))]; !slices.Equal(got, want) {
			t.Fatalf("top %d of %v: %v, want %v", k, logits, got, want)
		}
	})
}

func TestStopper(t *testing.T) {
	for _, tc := range []struct {
		stops   []string
		pieces  []string
		want    string
		stopped bool
	}{
		{nil, []string{"a", "b"}, "ab", false},
		{[]string{"END"}, []string{"some E", "N", "D more"}, "some ", true},
		{[]string{"END"}, []string{"some EN", "E"}, "some ENE", false},
		{[]string{"END"}, []string{"some EN"}, "some EN", false},
		{[]string{"aab"}, []string{"a", "a", "a", "b"}, "a", true},
		{[]string{"xyz", "yz"}, []string{"1xyz"}, "1", true},
		{[]string{"abcd", "c"}, []string{"ab", "c"}, "ab", true},
		{[]string{"\n\n"}, []string{"line\n", "line\n", "\nrest"}, "line\nline", true},
	} {
		s := NewStopper(tc.stops)
		got, stopped := "", false
		for _, p := range tc.pieces {
			var text string
			text, stopped = s.Push(p)
			got += text
			if stopped {
				break
			}
		}
		got += s.Rest()
		if got != tc.want || stopped != tc.stopped {
			t.Errorf("%q in %q: %q, %v, want %q, %v", tc.stops, tc.pieces, got, stopped, tc.want, tc.stopped)
		}
	}
}

// TestStopperSplits cuts a text at random: the pieces must not matter.
func TestStopperSplits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		letters := rapid.StringOfN(rapid.RuneFrom([]rune("ab")), 1, 30, -1)
		text := letters.Draw(t, "text")
		stops := rapid.SliceOfN(rapid.StringOfN(rapid.RuneFrom([]rune("ab")), 1, 4, -1), 0, 3).Draw(t, "stops")
		whole := NewStopper(stops)
		want, wantStop := whole.Push(text)
		want += whole.Rest()
		s := NewStopper(stops)
		got, stopped := "", false
		for at := 0; at < len(text) && !stopped; {
			n := rapid.IntRange(1, len(text)-at).Draw(t, "n")
			var piece string
			piece, stopped = s.Push(text[at : at+n])
			got += piece
			at += n
		}
		got += s.Rest()
		// An earlier stop can be seen before a longer one that begins before it.
		if stopped != wantStop || len(stops) < 2 && got != want {
			t.Fatalf("%q with %q: %q, %v, want %q, %v", text, stops, got, stopped, want, wantStop)
		}
	})
}

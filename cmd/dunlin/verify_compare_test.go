package main

import (
	"math"
	"slices"
	"strings"
	"testing"
)

// logs are logits whose softmax is the given probabilities, shifted.
func logs(shift float64, probabilities ...float64) []float32 {
	var all []float32
	for _, p := range probabilities {
		all = append(all, float32(math.Log(p)+shift))
	}
	return all
}

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-6*max(1, math.Abs(b)) }

// TestCompareLogits has values that were worked out by hand.
func TestCompareLogits(t *testing.T) {
	third := 1.0 / 3
	for _, tc := range []struct {
		name              string
		reference, native []float32
		want              difference
	}{
		{"equal", logs(0, 0.5, 0.25, 0.25), logs(0, 0.5, 0.25, 0.25), difference{margin: math.Ln2, same: true}},
		{"shifted", logs(0, 0.5, 0.25, 0.25), logs(3, 0.5, 0.25, 0.25), difference{logit: 3, margin: math.Ln2, same: true}},
		// 1/2 ln(1/2 : 1/4) + 1/4 ln(1/4 : 1/2) + 0 = 1/4 ln 2
		{"swapped", logs(0, 0.5, 0.25, 0.25), logs(0, 0.25, 0.5, 0.25), difference{logit: math.Ln2, kl: math.Ln2 / 4, margin: math.Ln2}},
		// of the reference from the native, which isn't the other way round
		{"from even", logs(0, 0.5, 0.5), logs(0, 0.75, 0.25), difference{logit: math.Ln2, kl: math.Log(4*third) / 2, margin: 0, same: true}},
		{"to even", logs(0, 0.75, 0.25), logs(0, 0.5, 0.5), difference{logit: math.Ln2, kl: 0.75*math.Log(1.5) - 0.25*math.Ln2, margin: math.Log(3), same: true}},
		{"padding of the reference", append(logs(0, 0.5, 0.25, 0.25), 50), logs(0, 0.5, 0.25, 0.25), difference{margin: math.Ln2, same: true}},
		{"padding of the model", logs(0, 0.5, 0.25, 0.25), append(logs(0, 0.5, 0.25, 0.25), 50), difference{margin: math.Ln2, same: true}},
		{"one token", []float32{1}, []float32{2}, difference{logit: 1, margin: math.Inf(1), same: true}},
	} {
		got := compareLogits(tc.reference, tc.native)
		if !near(got.logit, tc.want.logit) || !near(got.kl, tc.want.kl) || got.margin != tc.want.margin && !near(got.margin, tc.want.margin) || got.same != tc.want.same || got.err != nil {
			t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
		}
	}
	for _, bad := range [][]float32{{1, float32(math.NaN()), 0}, nil} {
		if got := compareLogits(bad, bad); got.err == nil {
			t.Errorf("%v: %+v", bad, got)
		}
	}
}

// TestCompareTop: of the tokens that the reference thinks unlikely the distribution tells.
func TestCompareTop(t *testing.T) {
	reference, native := make([]float32, 30), make([]float32, 30)
	for i := range reference {
		reference[i], native[i] = -float32(i), -float32(i)
	}
	native[verifyTop] -= 5
	if d := compareLogits(reference, native); d.logit != 0 || !(d.kl > 0) {
		t.Errorf("number %d: %+v", verifyTop, d)
	}
	native[verifyTop-1] -= 5
	if d := compareLogits(reference, native); d.logit != 5 {
		t.Errorf("number %d: %+v", verifyTop-1, d)
	}
}

// TestSummarise: three positions are the text's, and two tokens of the continuation
// come after them, of which the second has no successor.
func TestSummarise(t *testing.T) {
	positions := []difference{
		{logit: 4, kl: 0.1, margin: 1, same: false},
		{logit: 1, kl: 0.5, margin: 0.2, same: false}, // no margin, no matter
		{logit: 2, kl: 0.3, margin: 1, same: true},
		{logit: 9, kl: 9, margin: 1, same: false},
		{logit: 9, kl: 9, margin: 1, same: false},
	}
	r := textResult{TokensEqual: true}
	if err := r.summarise(positions, 3, 0.3); err != nil {
		t.Fatal(err)
	}
	if r.Tokens != 3 || r.LogitLast != 2 || r.LogitMax != 4 || !near(r.KLMean, 0.3) || r.KLMax != 0.5 || !near(r.Agreement, 2.0/3) || r.GreedyCompared != 2 || r.GreedyDifferent != 1 {
		t.Errorf("%+v", r)
	}
	r.means([]float64{-1, -2}, []float64{-2, -2})
	if *r.MeanLogprob != -1.5 || *r.ReferenceMeanLogprob != -2 || *r.MeanDifference != 0.25 {
		t.Errorf("means %v, %v, %v", *r.MeanLogprob, *r.ReferenceMeanLogprob, *r.MeanDifference)
	}
	positions[4] = compareLogits([]float32{float32(math.NaN())}, []float32{1})
	if err := r.summarise(positions, 3, 0.3); err == nil || !strings.Contains(err.Error(), "position 4") {
		t.Errorf("a position that isn't a number: %v", err)
	}
}

// TestJudge has one fault at a time.
func TestJudge(t *testing.T) {
	bounds := verifyBounds{Logit: 1, LogitOne: 2, Mean: 0.03, MeanLong: 0.003, KL: 0.1, Agreement: 0.9}
	for _, tc := range []struct {
		name   string
		change func(r *textResult)
		want   string // none for a pass
	}{
		{"fine", func(*textResult) {}, ""},
		{"at the bounds", func(r *textResult) { r.LogitLast, r.KLMean, r.MeanDifference, r.Agreement = 1, 0.1, ptr(0.03), 0.9 }, ""},
		{"the largest of all", func(r *textResult) { r.LogitMax, r.KLMax = 50, 50 }, ""},
		{"tokens", func(r *textResult) { r.TokensEqual, r.FirstDifference = false, 7 }, "token 7 differs"},
		{"logit", func(r *textResult) { r.LogitLast = 1.5 }, "logit 1.5 > 1"},
		{"logit of one token", func(r *textResult) { r.Tokens, r.LogitLast = 1, 1.5 }, ""},
		{"logit of one token, beyond", func(r *textResult) { r.Tokens, r.LogitLast = 1, 2.5 }, "logit 2.5 > 2"},
		{"KL", func(r *textResult) { r.KLMean = 0.2 }, "KL 0.2 > 0.1"},
		{"not a number", func(r *textResult) { r.KLMean = math.NaN() }, "KL NaN > 0.1"},
		{"mean", func(r *textResult) { r.MeanDifference = ptr(0.04) }, "mean log-probability 0.04 > 0.03"},
		{"mean of a text not long", func(r *textResult) { r.Tokens, r.MeanDifference = 399, ptr(0.02) }, ""},
		{"mean of a long text", func(r *textResult) { r.Tokens, r.MeanDifference = 400, ptr(0.02) }, "mean log-probability 0.02 > 0.003"},
		{"agreement", func(r *textResult) { r.Agreement = 0.5 }, "agreement 0.5 < 0.9"},
		{"greedy", func(r *textResult) { r.GreedyCompared, r.GreedyDifferent = 9, 1 }, "1 of 9 greedy tokens"},
	} {
		r := textResult{Tokens: 10, TokensEqual: true, Agreement: 1}
		tc.change(&r)
		r.judge(&bounds)
		var want []string
		if tc.want != "" {
			want = []string{tc.want}
		}
		if !slices.Equal(r.Failed, want) {
			t.Errorf("%s: %q, want %q", tc.name, r.Failed, tc.want)
		}
	}
}

func TestBoundFlags(t *testing.T) {
	if got := (&boundFlags{}).bounds("int8"); got != int8Bounds {
		t.Errorf("int8: %+v", got)
	}
	if got := (&boundFlags{}).bounds("f32"); got != f32Bounds {
		t.Errorf("f32: %+v", got)
	}
	f := boundFlags{ptr(1), ptr(2), ptr(3), ptr(4), ptr(5), ptr(6), ptr(7)}
	want := verifyBounds{Logit: 1, LogitOne: 2, Mean: 3, MeanLong: 4, KL: 5, Margin: 6, Agreement: 7}
	if got := f.bounds("int8"); got != want {
		t.Errorf("all flags: %+v", got)
	}
}

func TestFirstDifference(t *testing.T) {
	for _, tc := range []struct {
		a, b []int32
		want int
	}{{[]int32{1, 2}, []int32{1, 3}, 1}, {[]int32{1}, []int32{1, 2}, 1}, {nil, []int32{4}, 0}} {
		if got := firstDifference(tc.a, tc.b); got != tc.want {
			t.Errorf("%v and %v: %d, want %d", tc.a, tc.b, got, tc.want)
		}
	}
}

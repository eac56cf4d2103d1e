package runtime

import (
	"testing"
	"time"

	"github.com/dunlin-go/dunlin/internal/exec"
)

// TestPace lets machines of known cost take steps of the size that pace asks
// for, and looks where it settles.
func TestPace(t *testing.T) {
	const target = 40 * time.Millisecond
	for _, tc := range []struct {
		name         string
		floor, token time.Duration
		least, most  int
	}{
		{"fast", 2 * time.Millisecond, 100 * time.Microsecond, 250, 500},
		{"usual", 10 * time.Millisecond, time.Millisecond, 24, 40},
		{"all floor", 60 * time.Millisecond, time.Millisecond, 45, 80},
		{"hopeless", 500 * time.Millisecond, 200 * time.Millisecond, minPrefill, 8},
		{"no floor", 0, 2 * time.Millisecond, 16, 26},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var p pace
			p.add(1, false, tc.floor+tc.token) // somebody was decoding
			var sizes []int
			for range 60 {
				n := p.tokens(target)
				sizes = append(sizes, n)
				p.add(n, true, tc.floor+time.Duration(n)*tc.token)
			}
			for _, n := range sizes[20:] {
				if n < tc.least || n > tc.most {
					t.Fatalf("steps of %v, want %d to %d", sizes, tc.least, tc.most)
				}
			}
			for range 500 {
				p.add(1, false, tc.floor+tc.token)
			}
			if n := p.tokens(target); n < tc.least || n > tc.most {
				t.Errorf("after a long answer a step of %d, want %d to %d", n, tc.least, tc.most)
			}
		})
	}
}

// paced is what an engine needs to size steps, on a machine that takes a millisecond
// for a token and ten for the weights.
func paced(t *testing.T, ex *exec.Executor) *engine {
	e := &engine{exec: ex.NewClient()}
	t.Cleanup(e.exec.Close)
	for range 20 {
		for _, n := range []int{1, 100, 200} {
			e.pace.add(n, n > 1, time.Duration(10+n)*time.Millisecond)
		}
	}
	return e
}

// TestPromptsHaveAsManyAsAnswers: a crowd that decodes leaves prompts as many tokens
// as it has itself.
func TestPromptsHaveAsManyAsAnswers(t *testing.T) {
	e := paced(t, exec.New(1))
	for decoding := range 200 {
		if n := e.prefillTokens(decoding); n < max(decoding, minPrefill) {
			t.Errorf("beside %d that decode there is room for %d tokens of prompts", decoding, n)
		}
	}
}

// TestStepsBesideOthers: where another model has steps, too, those with prompts are as
// long as the model's share of them.
func TestStepsBesideOthers(t *testing.T) {
	ex := exec.New(1)
	e, other := paced(t, ex), ex.NewClient()
	defer other.Close()
	tokens := func(target time.Duration) int { return max(int(target/time.Millisecond)-10, 10) } // what reading the weights is worth
	check := func(decoding int, target time.Duration) {
		t.Helper()
		want := tokens(target)
		if got := e.prefillTokens(decoding) + decoding; got < want-16 || got > want+1 {
			t.Errorf("a step of %d tokens beside %d that decode, want %d", got, decoding, want)
		}
	}
	check(0, stepTimeAlone)
	check(1, stepTime)
	if err := other.Step(t.Context(), 1, func(*exec.Step) error { return nil }); err != nil {
		t.Fatal(err)
	}
	for _, weight := range []float64{1, 3, 1. / 8} {
		other.SetWeight(weight)
		target := max(time.Duration(float64(stepTime)/(1+weight)), stepTime/4)
		check(0, target)
		check(1, target)
	}
	other.Idle()
	check(0, stepTimeAlone)
}

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
			p.add(measured{tokens: 1, took: tc.floor + tc.token}) // somebody was decoding
			var sizes []int
			for range 60 {
				n := int(p.work(target))
				sizes = append(sizes, n)
				p.add(measured{tokens: n, prefill: true, took: tc.floor + time.Duration(n)*tc.token})
			}
			for _, n := range sizes[20:] {
				if n < tc.least || n > tc.most {
					t.Fatalf("steps of %v, want %d to %d", sizes, tc.least, tc.most)
				}
			}
			for range 500 {
				p.add(measured{tokens: 1, took: tc.floor + tc.token})
			}
			if n := int(p.work(target)); n < tc.least || n > tc.most {
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
			e.pace.add(measured{tokens: n, prefill: n > 1, took: time.Duration(10+n) * time.Millisecond})
		}
	}
	return e
}

// TestPromptsHaveAsManyAsAnswers: a crowd that decodes leaves prompts as many tokens
// as it has itself.
func TestPromptsHaveAsManyAsAnswers(t *testing.T) {
	e := paced(t, exec.New(1))
	for decoding := range 200 {
		if n := int(e.prefillWork(decoding, float64(decoding))); n < max(decoding, minPrefill) {
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
		if got := int(e.prefillWork(decoding, float64(decoding))) + decoding; got < want-1 || got > want+1 {
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

// TestPaceKnowsAttention computes a long prompt, whose tokens cost the more the later
// they are, then another one: its steps are as long as they should be, from the first
// to the last, and so are the next one's.
func TestPaceKnowsAttention(t *testing.T) {
	const target, floor, token, pair = 40 * time.Millisecond, 5 * time.Millisecond, 400 * time.Microsecond, 500 * time.Nanosecond
	var p pace
	p.add(measured{tokens: 1, took: floor + token}) // somebody was decoding
	for prompt := range 3 {
		for done, steps := 0, 0; done < 6000; steps++ {
			n := max(1, int(p.work(target)/(1+p.price()*float64(done))))
			pairs := n * (done + n/2)
			m := measured{tokens: n, prefill: true, pairs: pairs, attention: time.Duration(pairs) * pair}
			m.took = floor + time.Duration(n)*token + m.attention
			if prompt+steps > 5 && (m.took < target*3/4 || m.took > target*5/4) {
				t.Errorf("prompt %d, %d tokens from %d on take %v", prompt, n, done, m.took)
			}
			p.add(m)
			done += n
		}
	}
}

// TestPaceWithoutTime: a clock too coarse for the steps doesn't make them small.
func TestPaceWithoutTime(t *testing.T) {
	var p pace
	for _, n := range []int{16, 20, 30} {
		p.add(measured{tokens: n, prefill: true, pairs: n * n / 2})
	}
	if w := p.work(stepTime); !(w >= 30 && w < 1<<20) || p.price() != 0 {
		t.Errorf("room for %g, a pair is %g", w, p.price())
	}
}

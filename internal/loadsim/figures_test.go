package loadsim

import (
	"strings"
	"testing"
	"time"
)

func TestParseObjectives(t *testing.T) {
	for _, tc := range []struct {
		text string
		want Objectives
	}{
		{"ttft=500ms", Objectives{FirstToken: 500 * time.Millisecond}},
		{"tbt=50ms,tpot=20ms,e2e=1m0s", Objectives{Between: 50 * time.Millisecond, PerToken: 20 * time.Millisecond, EndToEnd: time.Minute}},
	} {
		if got, err := ParseObjectives(tc.text); err != nil || got != tc.want || got.String() != tc.text {
			t.Errorf("%s: got %v, %v", tc.text, got, err)
		}
	}
	for _, text := range []string{"", "ttft", "ttft=", "ttft=5", "ttft=-1s", "ttft=0s", "speed=1s", "ttft=1s,", "ttft=1s tbt=1s"} {
		if got, err := ParseObjectives(text); err == nil {
			t.Errorf("%q: got %v", text, got)
		}
	}
}

// TestObjectives has an answer of 5 tokens in 4 pieces: after 2 s, with gaps of 1, 3
// and 0 s, its end at 6.5 s.
func TestObjectives(t *testing.T) {
	s := time.Second
	r := &outcome{pieces: 4, first: 2 * s, last: 6 * s, end: 6500 * time.Millisecond, gaps: []time.Duration{s, 3 * s, 0}, usage: Usage{Output: 5, Told: true}}
	for _, tc := range []struct {
		text string
		want bool
	}{
		{"ttft=2s", true},
		{"ttft=1999ms", false},
		{"tbt=3s", true},
		{"tbt=2999ms", false},
		{"tpot=1s", true},
		{"tpot=999ms", false},
		{"e2e=6500ms", true},
		{"e2e=6499ms", false},
		{"ttft=2s,tbt=3s,tpot=1s,e2e=7s", true},
		{"ttft=2s,tbt=3s,tpot=1s,e2e=6s", false},
	} {
		o, err := ParseObjectives(tc.text)
		if err != nil {
			t.Fatal(err)
		}
		if got := o.kept(r); got != tc.want {
			t.Errorf("%s: kept is %v", tc.text, got)
		}
		if o.kept(&outcome{usage: Usage{Output: 5, Told: true}}) {
			t.Errorf("%s is kept by an answer without text", tc.text)
		}
	}
	r.usage = Usage{}
	if got := r.perToken(); got != 4*s/3 {
		t.Errorf("%v a token, by 4 pieces", got)
	}
}

func TestQuantiles(t *testing.T) {
	var times []time.Duration
	for i := range 200 {
		times = append(times, time.Duration(200-i)*time.Millisecond)
	}
	if got, want := quantiles(times), (Quantiles{101, 181, 199}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, want := quantiles(times[:1]), (Quantiles{1, 1, 1}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := quantiles(nil); got != (Quantiles{}) {
		t.Errorf("got %v of nothing", got)
	}
}

func TestShorten(t *testing.T) {
	got := shorten("a\nb " + strings.Repeat("ö", 200))
	if want := "a b " + strings.Repeat("ö", 98) + "..."; got != want {
		t.Errorf("got %q", got)
	}
}

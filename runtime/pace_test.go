package runtime

import (
	"testing"
	"time"
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

package runtime_test

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/runtime"
)

// pressures are options of streams, and at how many unread events they hold a
// request.
var pressures = map[string]struct {
	options []runtime.Option
	high    int
}{
	"defaults":    {nil, 48},
	"full buffer": {[]runtime.Option{runtime.WithHighWater(1)}, 63},
	"large":       {[]runtime.Option{runtime.WithStreamBuffer(256), runtime.WithHighWater(0.5), runtime.WithHeartbeat(10 * time.Millisecond)}, 128},
	"small":       {[]runtime.Option{runtime.WithHighWater(0.1)}, 7},
	"one":         {[]runtime.Option{runtime.WithHighWater(1e-9), runtime.WithHeartbeat(50 * time.Millisecond)}, 1},
}

// TestHighWater: whoever isn't read computes up to the mark and no further, while
// others go on; and it goes on when half of that was read, no sooner.
func TestHighWater(t *testing.T) {
	for name, tc := range pressures {
		t.Run(name, func(t *testing.T) {
			m := tiny(t, testmodel.Config{ContextLength: 2048}, tc.options...)
			s, err := m.Start(t.Context(), runtime.Request{Prompt: "hello", IgnoreEOS: true})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			const other = 20
			total := int64(0)
			held := func(unread int64, what string) {
				t.Helper()
				waitFor(t, what, func() bool { return m.Stats().CompletionTokens >= total+unread })
				generate(t, m, runtime.Request{Prompt: "you", MaxTokens: other, IgnoreEOS: true}) // others go on, for many steps
				total += other
				if n := m.Stats().CompletionTokens; n != total+unread {
					t.Errorf("%s: %d tokens, want %d and %d of others", what, n-total, unread, total)
				}
			}
			read := func(n int) {
				t.Helper()
				for i := 0; i < n; {
					ev, err := s.Recv()
					if err != nil {
						t.Fatal(err)
					}
					if ev.Kind == runtime.EventToken {
						i++
					}
				}
			}
			high := int64(tc.high)
			held(high, "up to the mark")
			back := tc.high - tc.high/2 // so many have to be read
			read(back - 1)
			held(high, "less than half was read")
			read(1)
			held(high+int64(back), "half was read")
		})
	}
}

// TestPressureChangesNothing reads many streams, some fast, some slowly, some not
// at all for a while: with all options each gets the same tokens and
// log-probabilities.
func TestPressureChangesNothing(t *testing.T) {
	cfg := testmodel.Config{Seed: 5, ContextLength: 1024}
	var requests []runtime.Request
	for i := range 12 {
		seed := uint64(i)
		requests = append(requests, runtime.Request{
			Prompt: fmt.Sprint("hello ", i), MaxTokens: 150 + 10*i, IgnoreEOS: true, Logprobs: true, TopLogprobs: 2,
			Temperature: float64(i%2) * 0.8, Seed: &seed,
		})
	}
	var want []*runtime.Result
	alone := tiny(t, cfg, runtime.WithMaxSequences(1))
	for _, r := range requests {
		want = append(want, generate(t, alone, r))
	}
	for name, tc := range pressures {
		t.Run(name, func(t *testing.T) {
			m := tiny(t, cfg, append(tc.options, runtime.WithMaxSequences(8), runtime.WithKVCacheBytes(60*9000))...)
			fast := make(chan struct{}) // closed when the fast readers are done
			var wg, quick sync.WaitGroup
			for i, r := range requests {
				s, err := m.Start(t.Context(), r)
				if err != nil {
					t.Fatal(err)
				}
				g := &wg
				if i%3 == 0 {
					g = &quick
				}
				g.Go(func() {
					defer s.Close()
					got := &runtime.Result{}
					for n := 0; ; n++ {
						switch {
						case i%3 == 1 && n%20 == 0:
							<-time.After(time.Millisecond) // slow
						case i%3 == 2 && n == 30:
							<-fast // stops
						}
						ev, err := s.Recv()
						if errors.Is(err, io.EOF) {
							break
						}
						if err != nil {
							t.Error(err)
							return
						}
						got.Text += ev.Text
						switch ev.Kind {
						case runtime.EventToken:
							got.Tokens, got.Logprobs, got.Top = append(got.Tokens, ev.Token), append(got.Logprobs, ev.Logprob), append(got.Top, ev.TopLogprobs)
						case runtime.EventFinish:
							got.Finish, got.Usage = ev.Finish, ev.Usage
						}
					}
					if !reflect.DeepEqual(outcome(got), outcome(want[i])) {
						t.Errorf("request %d: not the same", i)
					}
				})
			}
			quick.Wait()
			close(fast)
			wg.Wait()
		})
	}
}

// TestStoppedReadersHoldUpNobody fills half of the places with streams that are
// never read; the others serve many requests meanwhile.
func TestStoppedReadersHoldUpNobody(t *testing.T) {
	m := tiny(t, testmodel.Config{}, runtime.WithMaxSequences(4))
	for range 2 {
		s, err := m.Start(t.Context(), runtime.Request{Prompt: "hello", IgnoreEOS: true})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
	}
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			for range 5 {
				if _, err := runtime.Generate(t.Context(), m, runtime.Request{Prompt: "you", MaxTokens: 30, IgnoreEOS: true}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	runtime.WaitFor(t, "the last ones to have left", func() bool { return m.Stats().Running == 2 })
	if s := m.Stats(); s.CompletionTokens != 6*5*30+2*48 || s.Ended[runtime.OutcomeStalled] != 0 {
		t.Errorf("%+v", s)
	}
}

func TestStreamOptionsAreBounded(t *testing.T) {
	_, err := runtime.LoadBytes(
		t.Context(), nil, runtime.WithStreamBuffer(63), runtime.WithStreamBuffer(257), runtime.WithHighWater(0), runtime.WithHighWater(1.01),
		runtime.WithHeartbeat(9*time.Millisecond), runtime.WithHeartbeat(51*time.Millisecond),
	)
	for _, what := range []string{"buffer is 63", "buffer is 257", "water is 0", "water is 1.01", "heartbeat is 9ms", "heartbeat is 51ms"} {
		if !contains(err, what) {
			t.Errorf("%q says nothing of %s", err, what)
		}
	}
}

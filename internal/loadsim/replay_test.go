package loadsim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// slow is a target in a bubble of [synctest], whose clock it moves. Requests of
// eight tokens are the warm-up and take no time.
type slow struct {
	first, gap time.Duration
	silent     bool // it doesn't tell its usage
	fail       func(n int) error

	mu    sync.Mutex
	begin time.Time
	asked []string        // how long an answer each asked for, and when
	texts map[string]bool // all different
}

func (s *slow) Do(ctx context.Context, req Request, piece func()) (Usage, error) {
	s.mu.Lock()
	if s.texts == nil { // the warm-up
		s.texts, s.begin = map[string]bool{}, time.Now()
		s.mu.Unlock()
		return Usage{}, nil
	}
	n := len(s.asked)
	s.asked = append(s.asked, fmt.Sprint(req.MaxTokens, " after ", time.Since(s.begin)))
	s.texts[req.Text] = true
	s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail(n); err != nil {
			return Usage{}, err
		}
	}
	for i := range req.MaxTokens {
		wait := s.gap
		if i == 0 {
			wait = s.first
		}
		select {
		case <-ctx.Done():
			return Usage{}, ctx.Err()
		case <-time.After(wait):
		}
		piece()
	}
	return Usage{Prompt: 100, Output: req.MaxTokens, Cached: 10, Told: !s.silent, CachedTold: !s.silent}, nil
}

// four arrive at 5, 6, 6 and 9 seconds.
func four() *Trace {
	t := &Trace{BlockTokens: 16}
	for i, at := range []int{5, 6, 6, 9} {
		t.Entries = append(t.Entries, Entry{Arrival: time.Duration(at) * time.Second, Input: 50, Output: i + 1})
	}
	return t
}

func run(t *testing.T, ctx context.Context, s *slow, opt Options) *Figures {
	t.Helper()
	memory := budget.New(1 << 20)
	f, err := Run(ctx, s, four(), opt, memory)
	if err != nil {
		t.Fatal(err)
	}
	if memory.Used() != 0 {
		t.Errorf("%d bytes are still reserved", memory.Used())
	}
	if len(s.texts) != len(s.asked) {
		t.Errorf("%d texts in %d requests", len(s.texts), len(s.asked))
	}
	return f
}

// TestOpenLoop: requests go out when they are due although the first takes a minute,
// and all figures are those of the target's clock.
func TestOpenLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{first: time.Minute, gap: time.Second}
		f := run(t, t.Context(), s, Options{Objectives: Objectives{FirstToken: time.Minute, EndToEnd: 62 * time.Second}})
		slices.Sort(s.asked)
		if want := []string{"1 after 0s", "2 after 1s", "3 after 1s", "4 after 4s"}; !slices.Equal(s.asked, want) {
			t.Errorf("asked %q, want %q", s.asked, want)
		}
		cached := 40
		want := &Figures{
			Requests: 4, Done: 4, Failures: []Failed{}, Seconds: 67, PerSecond: 0.06, Peak: 4,
			PromptTokens: 400, AskedPrompt: 200, CachedTokens: &cached, OutputTokens: 10, AskedOutput: 10,
			PromptPerSecond: 5.97, OutputPerSecond: 0.149, CountedBy: "usage",
			TimeToFirstToken: Quantiles{60e3, 60e3, 60e3}, TimeBetweenTokens: Quantiles{1e3, 1e3, 1e3}, TimePerOutputToken: 1e3,
			EndToEnd: Quantiles{62e3, 63e3, 63e3},
			Goodput:  &Goodput{Objectives: "ttft=1m0s,e2e=1m2s", Requests: 3, PerSecond: 0.045},
		}
		if diff := cmp.Diff(want, f); diff != "" {
			t.Error(diff)
		}
	})
}

func TestRateAndSpeed(t *testing.T) {
	for _, tc := range []struct {
		opt  Options
		want []string
		rate float64
	}{
		{Options{Speed: 2}, []string{"1 after 0s", "2 after 500ms", "3 after 500ms", "4 after 2s"}, 1.5},
		{Options{Rate: 0.375}, []string{"1 after 0s", "2 after 2s", "3 after 2s", "4 after 8s"}, 0.375},
	} {
		if rate, err := tc.opt.ArrivalRate(four()); err != nil || rate != tc.rate {
			t.Errorf("%+v: rate %v, %v", tc.opt, rate, err)
		}
		synctest.Test(t, func(t *testing.T) {
			s := &slow{first: time.Minute}
			run(t, t.Context(), s, tc.opt)
			slices.Sort(s.asked)
			if !slices.Equal(s.asked, tc.want) {
				t.Errorf("asked %q, want %q", s.asked, tc.want)
			}
		})
	}
}

func TestClosedLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{first: 10 * time.Second, gap: time.Second, silent: true}
		f := run(t, t.Context(), s, Options{Concurrency: 2})
		// The first takes 10 s, the second 11; then 12 and 13.
		want := []string{"1 after 0s", "2 after 0s", "3 after 10s", "4 after 11s"}
		slices.Sort(s.asked)
		if !slices.Equal(s.asked, want) {
			t.Errorf("asked %q, want %q", s.asked, want)
		}
		if f.Done != 4 || f.Peak != 2 || f.Seconds != 24 || f.CountedBy != "pieces" || f.OutputTokens != 10 || f.PromptTokens != 200 || f.CachedTokens != nil {
			t.Errorf("%+v", f)
		}
	})
}

func TestOptionsRefused(t *testing.T) {
	once := &Trace{Entries: make([]Entry, 3)}
	for _, tc := range []struct {
		opt Options
		t   *Trace
	}{
		{Options{Rate: 1, Speed: 1}, four()},
		{Options{Concurrency: 1, Speed: 1}, four()},
		{Options{Concurrency: 1, Rate: 1}, four()},
		{Options{Concurrency: -1}, four()},
		{Options{Rate: -1}, four()},
		{Options{Speed: 1e300}, four()},
		{Options{Rate: 1}, once},
	} {
		s := &slow{}
		if f, err := Run(t.Context(), s, tc.t, tc.opt, budget.New(1<<20)); err == nil || s.texts != nil {
			t.Errorf("%+v: %v", tc.opt, f)
		}
	}
}

// TestInterrupted: those under way end, the rest isn't sent, and what was done stays.
func TestInterrupted(t *testing.T) {
	for _, clients := range []int{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
			defer cancel()
			s := &slow{first: 1500 * time.Millisecond, gap: 10 * time.Second}
			f := run(t, ctx, s, Options{Concurrency: clients})
			want := []Failed{{Cause: causeInterrupted, Count: 2, Example: context.DeadlineExceeded.Error()}}
			notSent := 1
			if clients == 1 {
				want[0].Count, notSent = 1, 2
			}
			if f.Done != 1 || f.NotSent != notSent || f.Failed != want[0].Count || !cmp.Equal(want, f.Failures) || f.Seconds != 2.5 {
				t.Errorf("%d clients: %+v", clients, f)
			}
		})
	}
}

func TestFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{first: time.Second, gap: time.Hour, fail: func(n int) error {
			switch n {
			case 0:
				return &RequestError{Cause: "HTTP 500", Err: errors.New("sorry,\nit is late")}
			case 1:
				return errors.New("what is this?")
			}
			return nil // it takes too long
		}}
		f := run(t, t.Context(), s, Options{Timeout: time.Minute})
		want := []Failed{
			{Cause: causeTimeout, Count: 2, Example: context.DeadlineExceeded.Error()},
			{Cause: "HTTP 500", Count: 1, Example: "sorry, it is late"},
			{Cause: causeInternal, Count: 1, Example: "what is this?"},
		}
		slices.SortFunc(f.Failures, func(a, b Failed) int { return b.Count - a.Count })
		if f.Done != 0 || f.Failed != 4 || !cmp.Equal(want, f.Failures) || f.PromptTokens != 0 || f.TimeToFirstToken != (Quantiles{}) {
			t.Errorf("%+v", f)
		}
	})
}

// TestMemory: prompts that the budget has no room for fail, each by itself.
func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := four()
		tr.Entries[1].Input = maxTokens
		memory := budget.New(1 << 20)
		for _, clients := range []int{0, 2} {
			f, err := Run(t.Context(), &slow{}, tr, Options{Concurrency: clients}, memory)
			if err != nil || f.Done != 3 || len(f.Failures) != 1 || f.Failures[0].Cause != causeMemory || memory.Used() != 0 {
				t.Errorf("%+v, %v, %d bytes are still reserved", f, err, memory.Used())
			}
		}
	})
}

// TestWarmUp: a target that can't answer ends the run before it begins.
func TestWarmUp(t *testing.T) {
	if f, err := Run(t.Context(), broken{}, four(), Options{}, budget.New(1<<20)); err == nil || err.Error() != "HTTP 404: no such model" {
		t.Errorf("got %v, %v", f, err)
	}
}

type broken struct{}

func (broken) Do(context.Context, Request, func()) (Usage, error) {
	return Usage{}, &RequestError{Cause: "HTTP 404", Err: errors.New("no such model")}
}

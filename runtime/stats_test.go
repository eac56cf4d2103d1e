package runtime

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/dunlin-go/dunlin/internal/testmodel"
)

func TestHistogramBounds(t *testing.T) {
	for _, i := range []int{-1, -2, math.MinInt} {
		if b := HistogramBound(i); b != 0 {
			t.Errorf("bound %d is %v", i, b)
		}
	}
	for i := range HistogramBuckets {
		bound := HistogramBound(i)
		if b := bucketOf(bound); b != i {
			t.Errorf("%v, the bound of bucket %d, is in bucket %d", bound, i, b)
		}
		if i == HistogramBuckets-1 {
			break
		}
		if b := bucketOf(bound + 1); b != i+1 {
			t.Errorf("%v, above the bound of bucket %d, is in bucket %d", bound+1, i, b)
		}
	}
	for d, want := range map[time.Duration]int{math.MinInt64: 0, 0: 0, 1: 0, 150 * time.Microsecond: 1, time.Hour: HistogramBuckets - 1} {
		if b := bucketOf(d); b != want {
			t.Errorf("%v is in bucket %d, want %d", d, b, want)
		}
	}
	if last := HistogramBound(HistogramBuckets - 2); last.Round(time.Second) != 105*time.Second {
		t.Errorf("the last finite bound is %v", last)
	}
}

// TestQuantile compares with durations that are known: the estimate lies in their
// bucket.
func TestQuantile(t *testing.T) {
	var m meter
	if h := m.histogram(); h.Quantile(0.5) != 0 {
		t.Error("a median of nothing")
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var sum time.Duration
	for range 10_000 {
		d := time.Duration(rng.Int64N(int64(time.Second)))
		sum += d
		m.add(d)
	}
	h := m.histogram()
	if h.Count() != 10_000 || h.Sum != sum {
		t.Errorf("%d durations of %v, want %v", h.Count(), h.Sum, sum)
	}
	last := time.Duration(0)
	for _, q := range []float64{0.01, 0.1, 0.5, 0.9, 0.99, 1} {
		got, want := h.Quantile(q).Seconds(), q
		if got < want*0.9 || got > want*1.25 || h.Quantile(q) < last { // the last bucket ends at 1.23 s
			t.Errorf("the quantile %v of all up to a second is %v", q, got)
		}
		last = h.Quantile(q)
	}
	m = meter{}
	m.add(time.Hour)
	if h := m.histogram(); h.Quantile(0.5) != HistogramBound(HistogramBuckets-2) {
		t.Errorf("the median of an hour is %v", h.Quantile(0.5))
	}
}

// TestRates plays ten seconds of work at 100 and 10 tokens a second, in steps
// of many lengths, then a pause, then work again.
func TestRates(t *testing.T) {
	for _, step := range []time.Duration{time.Millisecond, 30 * time.Millisecond, 499 * time.Millisecond, 700 * time.Millisecond, 8 * time.Second} {
		t.Run(step.String(), func(t *testing.T) {
			var r rates
			now := rateSample{at: time.Unix(1000, 0)}
			r.add(now)
			var tokens float64
			work := func(d time.Duration) {
				for ; d > 0; d -= step {
					now.at = now.at.Add(min(step, d))
					tokens += min(step, d).Seconds() * 100
					now.prompt, now.completion = int64(tokens), int64(tokens/10)
					r.add(now)
				}
			}
			want := func(what string, rate float64) {
				t.Helper()
				p, c := r.last(now)
				if math.Abs(p-rate) > 1 || math.Abs(c-rate/10) > 1 {
					t.Errorf("%s: %.2f and %.2f tokens a second, want %.2f", what, p, c, rate)
				}
			}
			want("before all", 0)
			work(10 * time.Second)
			want("after ten seconds", 100)
			now.at = now.at.Add(2 * time.Second)
			want("two seconds later", 60)
			now.at = now.at.Add(8 * time.Second)
			want("ten seconds later", 0)
			r.add(now) // a request comes
			want("and a request", 0)
			work(time.Second)
			want("after a second of work", 20)
			work(4 * time.Second)
			want("after five seconds of work", 100)
		})
	}
}

func TestOutcomes(t *testing.T) {
	seen := map[string]bool{}
	for o := range Outcome(NumOutcomes) {
		if s := o.String(); s == "" || seen[s] {
			t.Errorf("outcome %d is called %q", o, s)
		}
		seen[o.String()] = true
	}
	if s := Outcome(200).String(); s != "outcome_200" {
		t.Error(s)
	}
	ended := func(cause error) error {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		return contextError(ctx)
	}
	late, cancel := context.WithTimeout(t.Context(), -1)
	defer cancel()
	for want, errs := range map[Outcome][]error{
		OutcomeCanceled:     {ended(nil), ended(errors.New("boom")), ended(&Error{Code: CodeNumerics, Err: errors.New("boom")}), NewError(CodeInternal, context.Canceled)},
		OutcomeDeadline:     {contextError(late)},
		OutcomeClosed:       {errStreamClosed},
		OutcomeDropped:      {errStreamDropped},
		OutcomeStalled:      {&Error{Code: CodeClosed, Err: fmt.Errorf("%w: x", errStalled)}},
		OutcomeInvalid:      {invalid("tokens", "x"), &Error{Code: CodeContextLength, Err: &ContextLengthError{}}, &Error{Code: CodeUnsupported, Err: errors.New("x")}},
		OutcomeOverloaded:   {&Error{Code: CodeOverloaded, Err: &OverloadedError{}}},
		OutcomeExhausted:    {NewError(CodeResourceExhausted, errors.New("x"))},
		OutcomeModelClosed:  {errModelClosed},
		OutcomeModelChanged: {NewError(CodeModelChanged, errors.New("x"))},
		OutcomeNumerics:     {NewError(CodeNumerics, errors.New("x"))},
		OutcomeInternal:     {errors.New("x"), NewError(CodeInternal, errors.New("x"))},
	} {
		for _, err := range errs {
			if got := OutcomeOf(err); got != want {
				t.Errorf("%v (%v) is %v, want %v", err, CodeOf(err), got, want)
			}
		}
	}
}

// TestCountedBeforeSeen: whoever reads a token finds it in the model's figures.
func TestCountedBeforeSeen(t *testing.T) {
	m := checkedOf(t, testmodel.Llama(testmodel.Config{Seed: 1}))
	for n := int64(0); n < 1000; {
		s, err := m.Start(t.Context(), Request{Prompt: "hello", MaxTokens: 1, IgnoreEOS: true})
		if err != nil {
			t.Fatal(err)
		}
		for ev, err := range s.All() {
			if err != nil {
				t.Fatal(err)
			}
			if ev.Kind == EventToken {
				n++
			}
			if s := m.Stats(); s.CompletionTokens < n || s.TimeToFirstToken.Count() < n {
				t.Fatalf("token %d was read; counted are %d tokens, %d first ones", n, s.CompletionTokens, s.TimeToFirstToken.Count())
			}
		}
	}
}

package runtime

import (
	"context"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

// BenchmarkCanary has a stable model decode 8 streams of 200 tokens, in turns alone and
// beside a second model of the same file that decodes one stream, or computes one prompt of
// 2,000 tokens after the other. It tells the stable one's rate and its times between steps (as
// the engine has them) and between tokens (as their readers see them), what is
// left of the rate in the median of the pairs, and what the canary computes
// meanwhile.
func BenchmarkCanary(b *testing.B) {
	path := os.Getenv("DUNLIN_TEST_MODEL")
	if path == "" {
		b.Skip("DUNLIN_TEST_MODEL is not set to the path of a model")
	}
	for _, canary := range []struct {
		name   string
		prompt int
		answer int
	}{{"decodes", 1, 1000}, {"prefills", 2000, 1}} {
		b.Run(canary.name, func(b *testing.B) {
			var models [2]*Model
			for i := range models {
				m, err := Load(b.Context(), path)
				if err != nil {
					b.Fatal(err)
				}
				defer m.Close()
				models[i] = m
			}
			stable, beside := models[0], models[1]
			var mu sync.Mutex
			var steps []time.Time
			stable.engine.check = func() { // the loop sleeps: the first request brings it the news
				mu.Lock()
				defer mu.Unlock()
				steps = append(steps, time.Now())
			}
			rng := rand.New(rand.NewPCG(1, 2))
			start := func() (stop func()) {
				ctx, cancel := context.WithCancel(b.Context())
				var wg sync.WaitGroup
				before := beside.Stats().Steps
				wg.Go(func() {
					for ctx.Err() == nil {
						prompt := make([]int32, canary.prompt)
						for i := range prompt {
							prompt[i] = rng.Int32N(49_000)
						}
						_, _ = Generate(ctx, beside, Request{Tokens: prompt, MaxTokens: canary.answer, IgnoreEOS: true}) // the last one is canceled
					}
				})
				WaitFor(b, "the canary to compute", func() bool { return beside.Stats().Steps > before+1 })
				return func() { cancel(); wg.Wait() }
			}
			var alone, both rounds
			var left []float64
			pair := func() {
				steps = steps[:0]
				was := alone.run(b, stable, beside, &steps)
				stop := start()
				steps = steps[:0]
				left = append(left, both.run(b, stable, beside, &steps)/was)
				stop()
			}
			pair() // warms up, and lets steps find their sizes
			alone, both, left = rounds{}, rounds{}, nil
			for b.Loop() {
				pair()
			}
			slices.Sort(left)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(100*left[len(left)/2], "left-%")
			b.ReportMetric(float64(both.canary)/both.wall.Seconds(), "canary-tok/s")
			alone.report(b, "alone-")
			both.report(b, "stable-")
		})
	}
}

// rounds are what was seen of the stable model's answers, while all streams decode.
type rounds struct {
	tokens  int
	took    time.Duration
	between []time.Duration // between the tokens of a stream
	steps   []time.Duration // between steps
	canary  int64           // tokens, of prompts and of answers
	wall    time.Duration   // meanwhile
}

// run adds a round and returns its tokens a second.
func (r *rounds) run(b *testing.B, stable, beside *Model, steps *[]time.Time) float64 {
	const streams, tokens = 8, 200
	sum := func(s Stats) int64 { return s.PromptTokens + s.CompletionTokens }
	begin, before := time.Now(), sum(beside.Stats())
	var at [streams][]time.Time
	var wg sync.WaitGroup
	for i := range streams {
		wg.Go(func() {
			s, err := stable.Start(b.Context(), Request{Tokens: []int32{int32(1000 + i)}, MaxTokens: tokens, IgnoreEOS: true})
			if err != nil {
				b.Error(err)
				return
			}
			for ev, err := range s.All() {
				if err != nil {
					b.Error(err)
				}
				if ev.Kind == EventToken {
					at[i] = append(at[i], time.Now())
				}
			}
		})
	}
	wg.Wait()
	r.canary += sum(beside.Stats()) - before
	r.wall += time.Since(begin)
	var first, last time.Time
	for _, at := range at {
		if len(at) != tokens {
			b.Fatalf("%d tokens", len(at))
		}
		if first.Before(at[0]) {
			first = at[0]
		}
		if end := at[tokens-1]; last.IsZero() || end.Before(last) {
			last = end
		}
	}
	inside := func(at []time.Time) (gaps []time.Duration) {
		for i := 1; i < len(at); i++ {
			if !at[i-1].Before(first) && !at[i].After(last) {
				gaps = append(gaps, at[i].Sub(at[i-1]))
			}
		}
		return gaps
	}
	n := 0
	for _, at := range at {
		gaps := inside(at)
		n += len(gaps)
		r.between = append(r.between, gaps...)
	}
	r.steps = append(r.steps, inside(*steps)...)
	r.tokens += n
	r.took += last.Sub(first)
	return float64(n) / last.Sub(first).Seconds()
}

func (r *rounds) report(b *testing.B, whose string) {
	b.ReportMetric(float64(r.tokens)/r.took.Seconds(), whose+"tok/s")
	for _, kind := range []struct {
		name string
		all  []time.Duration
	}{{"token", r.between}, {"step", r.steps}} {
		slices.Sort(kind.all)
		for _, q := range []struct {
			name string
			at   float64
		}{{"p50", 0.5}, {"p99", 0.99}} {
			b.ReportMetric(kind.all[int(q.at*float64(len(kind.all)-1))].Seconds()*1e3, whose+kind.name+"-"+q.name+"-ms")
		}
	}
}

package runtime_test

import (
	"context"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dunlin-go/dunlin/runtime"
)

// BenchmarkCanary has a stable model decode 8 streams of 100 tokens, round after round,
// beside a second model of the same file that does nothing, decodes one stream, or
// computes one prompt of 2,000 tokens after the other. It tells the stable one's
// rate and the times between its tokens as their readers see them, and what the
// canary computes meanwhile.
func BenchmarkCanary(b *testing.B) {
	path := os.Getenv("DUNLIN_TEST_MODEL")
	if path == "" {
		b.Skip("DUNLIN_TEST_MODEL is not set to the path of a model")
	}
	const vocabulary, long = 49_000, 2000
	for _, canary := range []struct {
		name string
		req  func(prompt []int32) runtime.Request
	}{
		{name: "alone"},
		{"decodes", func(prompt []int32) runtime.Request {
			return runtime.Request{Tokens: prompt[:1], MaxTokens: 1000, IgnoreEOS: true}
		}},
		{"prefills", func(prompt []int32) runtime.Request {
			return runtime.Request{Tokens: prompt, MaxTokens: 1, IgnoreEOS: true}
		}},
	} {
		b.Run(canary.name, func(b *testing.B) {
			var models [2]*runtime.Model
			for i := range models {
				m, err := runtime.Load(b.Context(), path)
				if err != nil {
					b.Fatal(err)
				}
				defer m.Close()
				models[i] = m
			}
			stable, beside := models[0], models[1]
			ctx, cancel := context.WithCancel(b.Context())
			var wg sync.WaitGroup
			if canary.req != nil {
				rng := rand.New(rand.NewPCG(1, 2))
				wg.Go(func() {
					for ctx.Err() == nil {
						prompt := make([]int32, long)
						for i := range prompt {
							prompt[i] = rng.Int32N(vocabulary)
						}
						_, _ = runtime.Generate(ctx, beside, canary.req(prompt)) // the last one is canceled
					}
				})
				waitFor(b, "the canary to compute", func() bool { return beside.Stats().Steps > 20 })
			}
			var r rounds
			r.run(b, stable, beside) // warms up, and lets steps find their sizes
			r = rounds{}
			for b.Loop() {
				r.run(b, stable, beside)
			}
			cancel()
			wg.Wait()
			r.report(b)
		})
	}
}

// rounds are what was seen of the stable model's answers.
type rounds struct {
	tokens   int
	took     time.Duration
	between  []time.Duration // of the tokens of a stream
	canary   int64           // tokens, of prompts and of answers
	computed time.Duration   // meanwhile
}

func (r *rounds) run(b *testing.B, stable, beside *runtime.Model) {
	const streams, tokens = 8, 100
	sum := func(s runtime.Stats) int64 { return s.PromptTokens + s.CompletionTokens }
	begin, before := time.Now(), sum(beside.Stats())
	var at [streams][]time.Time
	var wg sync.WaitGroup
	for i := range streams {
		wg.Go(func() {
			s, err := stable.Start(b.Context(), runtime.Request{Tokens: []int32{int32(1000 + i)}, MaxTokens: tokens, IgnoreEOS: true})
			if err != nil {
				b.Error(err)
				return
			}
			for ev, err := range s.All() {
				if err != nil {
					b.Error(err)
				}
				if ev.Kind == runtime.EventToken {
					at[i] = append(at[i], time.Now())
				}
			}
		})
	}
	wg.Wait()
	r.canary += sum(beside.Stats()) - before
	r.computed += time.Since(begin)
	var first, last time.Time // while all of them decode
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
	for _, at := range at {
		for i := 1; i < tokens; i++ {
			if !at[i-1].Before(first) && !at[i].After(last) {
				r.tokens++
				r.between = append(r.between, at[i].Sub(at[i-1]))
			}
		}
	}
	r.took += last.Sub(first)
}

func (r *rounds) report(b *testing.B) {
	slices.Sort(r.between)
	at := func(q float64) float64 { return r.between[int(q*float64(len(r.between)-1))].Seconds() * 1e3 }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(r.tokens)/r.took.Seconds(), "stable-tok/s")
	b.ReportMetric(at(0.5), "p50-ms")
	b.ReportMetric(at(0.99), "p99-ms")
	b.ReportMetric(at(1), "max-ms")
	b.ReportMetric(float64(r.canary)/r.computed.Seconds(), "canary-tok/s")
}

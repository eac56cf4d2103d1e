package runtime_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dunlin-go/dunlin/runtime"
)

// randomTokens are a prompt that no other one begins like.
func randomTokens(n int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = 1000 + rand.Int32N(20000)
	}
	return ids
}

// firstToken runs a request of one token.
func firstToken(b *testing.B, m *runtime.Model, prompt []int32) time.Duration {
	b.Helper()
	res, err := runtime.Generate(b.Context(), m, runtime.Request{Tokens: prompt, MaxTokens: 1, IgnoreEOS: true})
	if err != nil {
		b.Fatal(err)
	}
	return res.Timing.TimeToFirstToken
}

func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[min(int(q*float64(len(d))), len(d)-1)]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// BenchmarkSharedPrompt is the time to the first token of a request whose 1,000
// tokens of system prompt another one had before it.
func BenchmarkSharedPrompt(b *testing.B) {
	m := realModel(b)
	var first, second []time.Duration
	for b.Loop() {
		system := randomTokens(1000)
		first = append(first, firstToken(b, m, append(slices.Clone(system), randomTokens(20)...)))
		second = append(second, firstToken(b, m, append(slices.Clone(system), randomTokens(20)...)))
	}
	one, two := quantile(first, 0.5), quantile(second, 0.5)
	b.ReportMetric(milliseconds(one), "first-ms")
	b.ReportMetric(milliseconds(two), "second-ms")
	b.ReportMetric(100*float64(two)/float64(one), "%")
}

// BenchmarkLongPrompt is what a prompt of 6,000 tokens and 8 streams that are
// being decoded do to one another: the streams' time between tokens without and
// with it, and its own time to the first token alone and beside them.
func BenchmarkLongPrompt(b *testing.B) {
	m := realModel(b)
	var alone, beside, quiet, busy []time.Duration
	for b.Loop() {
		alone = append(alone, firstToken(b, m, randomTokens(6000)))
		ctx, cancel := context.WithCancel(b.Context())
		w := watch(ctx, b, m, 8)
		w.waitForAll()
		w.collect()
		time.Sleep(3 * time.Second)
		quiet = append(quiet, w.collect()...)
		beside = append(beside, firstToken(b, m, randomTokens(6000)))
		busy = append(busy, w.collect()...)
		cancel()
		w.streams.Wait()
	}
	for _, r := range []struct {
		name string
		d    time.Duration
	}{
		{"tbt-p50-ms", quantile(quiet, 0.5)},
		{"tbt-p99-ms", quantile(quiet, 0.99)},
		{"tbt-p50-beside-ms", quantile(busy, 0.5)},
		{"tbt-p99-beside-ms", quantile(busy, 0.99)},
		{"ttft-ms", quantile(alone, 0.5)},
		{"ttft-beside-ms", quantile(beside, 0.5)},
	} {
		b.ReportMetric(milliseconds(r.d), r.name)
	}
	b.ReportMetric(float64(quantile(busy, 0.99))/float64(quantile(quiet, 0.99)), "tbt-p99-x")
	b.ReportMetric(float64(quantile(beside, 0.5))/float64(quantile(alone, 0.5)), "ttft-x")
}

// BenchmarkDecodeLongContext is the time of a token, in one stream, after 4,000
// tokens.
func BenchmarkDecodeLongContext(b *testing.B) {
	const tokens = 64
	for _, model := range []struct{ name, env string }{{"SmolLM2", "DUNLIN_TEST_MODEL"}, {"Gemma3", "DUNLIN_TEST_GEMMA"}} {
		b.Run(model.name, func(b *testing.B) {
			m := realModelAt(b, model.env, runtime.WithContextLength(4096))
			var took []time.Duration
			prompt := randomTokens(4000)
			for b.Loop() {
				res, err := runtime.Generate(b.Context(), m, runtime.Request{Tokens: prompt, MaxTokens: tokens + 1, IgnoreEOS: true})
				if err != nil {
					b.Fatal(err)
				}
				took = append(took, res.Timing.Decode/tokens)
			}
			b.ReportMetric(milliseconds(quantile(took, 0.5)), "ms/token")
		})
	}
}

// watched is the times between the tokens of some streams.
type watched struct {
	streams sync.WaitGroup
	started sync.WaitGroup

	mu   sync.Mutex
	gaps []time.Duration
}

// watch starts streams that go on until ctx ends.
func watch(ctx context.Context, b *testing.B, m *runtime.Model, streams int) *watched {
	b.Helper()
	w := &watched{}
	w.started.Add(streams)
	for range streams {
		s, err := m.Start(ctx, runtime.Request{Tokens: randomTokens(100), IgnoreEOS: true})
		if err != nil {
			b.Fatal(err)
		}
		w.streams.Go(func() { w.follow(s) })
	}
	return w
}

func (w *watched) follow(s *runtime.Stream) {
	started := sync.OnceFunc(w.started.Done)
	defer started()
	var last time.Time
	for ev, err := range s.All() {
		if err != nil {
			return
		}
		if ev.Kind != runtime.EventToken {
			continue
		}
		now := time.Now()
		if !last.IsZero() {
			w.mu.Lock()
			w.gaps = append(w.gaps, now.Sub(last))
			w.mu.Unlock()
		}
		last = now
		started()
	}
}

// waitForAll waits until each stream has a token.
func (w *watched) waitForAll() { w.started.Wait() }

// collect takes the times since the last call.
func (w *watched) collect() []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.gaps
	w.gaps = nil
	return g
}

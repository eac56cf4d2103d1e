package exec

import (
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// meet is a barrier in both directions: no thread leaves its item before all of
// them have one, so a Do is as slow as its slowest thread's way there and back.
type meet struct{ left atomic.Int64 }

func (m *meet) Do(int, int, int) {
	m.left.Add(-1)
	for m.left.Load() > 0 {
		pause()
	}
}

// BenchmarkBarrier is the cost of a Do in which all threads must take part and have
// nothing to do. The mean is the machine's: it has every moment in it at which the
// system gave one of the CPUs to somebody else. median-ns is the executor's.
func BenchmarkBarrier(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU()))
	const batch = 16 // so that reading the clock doesn't count
	for threads := 1; threads <= min(8, runtime.NumCPU()); threads *= 2 {
		b.Run(fmt.Sprintf("threads=%d", threads), func(b *testing.B) {
			e := newExecutor(b, threads)
			var m meet
			var times []time.Duration
			step(b, e, threads, func(s *Step) {
				for i, begin := 0, time.Now(); b.Loop(); i++ {
					m.left.Store(int64(threads))
					s.Do(&m, threads, 1)
					if i%batch == batch-1 {
						end := time.Now()
						times = append(times, end.Sub(begin))
						begin = end
					}
				}
			})
			if len(times) > 0 {
				slices.Sort(times)
				b.ReportMetric(float64(times[len(times)/2])/batch, "median-ns")
			}
		})
	}
}

// BenchmarkDo is the cost of a Do whose work is nothing: thread 0 may do it all.
func BenchmarkDo(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU()))
	for threads := 1; threads <= min(8, runtime.NumCPU()); threads *= 2 {
		b.Run(fmt.Sprintf("threads=%d", threads), func(b *testing.B) {
			e := newExecutor(b, threads)
			b.ReportAllocs()
			step(b, e, threads, func(s *Step) {
				for b.Loop() {
					s.Do(nothing{}, 1024, 16)
				}
			})
		})
	}
}

// BenchmarkStep is the cost of a turn, with the workers awake as between the
// tokens of one sequence: of a client that is alone, of one beside another that it
// needn't wait for, and without a client.
func BenchmarkStep(b *testing.B) {
	for _, who := range []string{"alone", "beside", "nobody"} {
		b.Run(who, func(b *testing.B) {
			e := newExecutor(b, 2)
			c, other := e.NewClient(), e.NewClient()
			defer c.Close()
			defer other.Close()
			f := func(*Step) error { return nil }
			var s Stepper = c
			switch who {
			case "beside":
				other.virtual = 1e9
				step(b, other, 2, func(*Step) {})
				c.Step(b.Context(), 2, f)
				c.virtual = 0
			case "nobody":
				s = e
			}
			b.ReportAllocs()
			ctx := b.Context()
			for b.Loop() {
				s.Step(ctx, 2, f)
			}
		})
	}
}

package exec

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
)

// More threads than most machines that run this have CPUs: the tests are about
// interleavings, and a thread without a CPU is one of the cases.
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(8)
	os.Exit(m.Run())
}

// taskFunc lets a test write a task in place.
type taskFunc func(worker, lo, hi int)

func (f taskFunc) Do(worker, lo, hi int) { f(worker, lo, hi) }

// newExecutor returns an executor that is closed with the test, and checks
// that it leaves no goroutine.
func newExecutor(t testing.TB, threads int) *Executor {
	t.Helper()
	before := goleak.IgnoreCurrent()
	e := New(threads)
	t.Cleanup(func() {
		e.Close()
		goleak.VerifyNone(t, before)
	})
	return e
}

// step runs f and fails the test if the step doesn't succeed.
func step(t testing.TB, e Stepper, threads int, f func(s *Step)) {
	t.Helper()
	err := e.Step(t.Context(), threads, func(s *Step) error { f(s); return nil })
	if err != nil {
		t.Fatal(err)
	}
}

// together is a task of n chunks of one item that returns from none of them before
// all have begun, so that n threads must take part, and remembers who did what.
type together struct {
	begun  sync.WaitGroup
	worker []atomic.Int64
}

func newTogether(n int) *together {
	t := &together{worker: make([]atomic.Int64, n)}
	t.begun.Add(n)
	return t
}

func (t *together) Do(worker, lo, _ int) {
	t.worker[lo].Store(int64(worker))
	t.begun.Done()
	t.begun.Wait()
}

// live counts workers that have a goroutine.
func live(e *Executor) (n int) {
	for _, w := range e.slots {
		if w.state.Load() != gone {
			n++
		}
	}
	return n
}

func TestEveryItemOnce(t *testing.T) {
	e := newExecutor(t, 8)
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	for round := range 300 {
		threads := 1 + r.IntN(8)
		n := r.IntN(1 << r.IntN(12))
		grain := 1 + r.IntN(1<<r.IntN(8))
		seen := make([]atomic.Int32, n)
		busy := make([]atomic.Bool, threads)
		var bad atomic.Pointer[string]
		task := taskFunc(func(worker, lo, hi int) {
			if worker < 0 || worker >= threads || lo >= hi || lo%grain != 0 || (hi%grain != 0 && hi != n) {
				s := fmt.Sprintf("Do(%d, %d, %d)", worker, lo, hi)
				bad.Store(&s)
				return
			}
			if busy[worker].Swap(true) {
				s := fmt.Sprintf("worker %d is in two calls", worker)
				bad.Store(&s)
			}
			for i := lo; i < hi; i++ {
				seen[i].Add(1)
			}
			busy[worker].Store(false)
		})
		step(t, e, threads, func(s *Step) {
			if s.Threads() != threads {
				t.Errorf("Threads() = %d, want %d", s.Threads(), threads)
			}
			for range 3 {
				s.Do(task, n, grain)
			}
		})
		where := fmt.Sprintf("seed %d round %d: n %d, grain %d, threads %d", seed, round, n, grain, threads)
		if s := bad.Load(); s != nil {
			t.Fatalf("%s: %s", where, *s)
		}
		for i := range seen {
			if got := seen[i].Load(); got != 3 {
				t.Fatalf("%s: item %d visited %d times in 3 Do", where, i, got)
			}
		}
	}
}

// TestResultsAreVisible has no atomics in its tasks: each Do reads what other
// threads wrote in the one before, so that the race detector and the sums check the
// barrier.
func TestResultsAreVisible(t *testing.T) {
	const n, layers = 512, 60
	e := newExecutor(t, 4)
	from, to := make([]uint64, n), make([]uint64, n)
	task := taskFunc(func(_, lo, hi int) {
		for i := lo; i < hi; i++ {
			to[i] = from[n-1-i] + from[(i+n/2)%n]
		}
	})
	for i := range from {
		from[i] = 1
	}
	step(t, e, 4, func(s *Step) {
		for range layers {
			s.Do(task, n, 8)
			from, to = to, from
		}
	})
	for i, v := range from {
		if v != 1<<layers {
			t.Fatalf("item %d is %#x, want %#x", i, v, uint64(1)<<layers)
		}
	}
}

func TestShares(t *testing.T) {
	tests := []struct {
		n, grain, threads int
		want              string // shares, with their chunks
	}{
		{4, 1, 4, "[0 1):1 [1 2):1 [2 3):1 [3 4):1"},
		{5, 1, 2, "[0 3):1,1,1 [3 5):1,1"},
		{36, 1, 2, "[0 18):4,4,4,3,1,1,1 [18 36):4,4,4,3,1,1,1"},
		{65, 16, 2, "[0 3):1,1,1 [3 5):1,1"},
		{1 << 40, 1, 2, ""},
		{0, 1, 3, "[0 0):"},
	}
	for _, tt := range tests {
		j := job{n: tt.n, grain: tt.grain}
		j.split(tt.threads)
		var got []string
		for i := range j.parts {
			lo, hi := j.share(i)
			if hi-lo > indexMask {
				t.Fatalf("a cursor can't count a share of %d grains", hi-lo)
			}
			var cursor atomic.Uint64
			var chunks []string
			for at := 0; ; {
				from, to := claim(&cursor, 1, hi-lo)
				if from >= to {
					if at != hi-lo {
						t.Errorf("the chunks of [%d %d) end after %d", lo, hi, at)
					}
					break
				}
				if from != at {
					t.Fatalf("a chunk of [%d %d) begins at %d, not %d", lo, hi, from, at)
				}
				at = to
				chunks = append(chunks, strconv.Itoa(to-from))
			}
			got = append(got, fmt.Sprintf("[%d %d):%s", lo, hi, strings.Join(chunks, ",")))
		}
		if s := strings.Join(got, " "); tt.want != "" && s != tt.want {
			t.Errorf("%d items by %d on %d threads:\n got %s\nwant %s", tt.n, tt.grain, tt.threads, s, tt.want)
		}
	}
}

// TestShare holds what a step says about shares to what its threads get.
func TestShare(t *testing.T) {
	e := newExecutor(t, 3)
	step(t, e, 3, func(s *Step) {
		for _, n := range []int{0, 1, 16, 17, 100} {
			next := 0
			for i := range s.Threads() {
				lo, hi := s.Share(i, n, 16)
				if lo == hi {
					continue
				}
				if lo != next {
					t.Errorf("%d items: the share of thread %d begins at %d, not %d", n, i, lo, next)
				}
				next = hi
			}
			if next != n {
				t.Errorf("%d items: the shares end at %d", n, next)
			}
			if lo, hi := s.Share(s.Threads(), n, 16); lo != hi {
				t.Errorf("%d items: a thread that isn't there has [%d %d)", n, lo, hi)
			}
		}
	})
}

func TestThreadsAreLimited(t *testing.T) {
	e := newExecutor(t, 6)
	for _, tt := range []struct{ procs, ask, want int }{
		{8, 0, 6}, {8, -1, 6}, {8, 100, 6}, {8, 3, 3}, {8, 1, 1}, {4, 5, 4}, {4, 0, 4}, {1, 8, 1}, {8, 5, 5},
	} {
		procs := runtime.GOMAXPROCS(tt.procs)
		step(t, e, tt.ask, func(s *Step) {
			if got := s.Threads(); got != tt.want {
				t.Errorf("GOMAXPROCS %d, asked for %d: %d threads, want %d", tt.procs, tt.ask, got, tt.want)
			}
		})
		runtime.GOMAXPROCS(procs)
	}
}

func TestAllThreadsTakePart(t *testing.T) {
	e := newExecutor(t, 8)
	for _, threads := range []int{1, 2, 3, 8} {
		task := newTogether(threads)
		step(t, e, threads, func(s *Step) { s.Do(task, threads, 1) })
		seen := map[int64]bool{}
		for i := range task.worker {
			seen[task.worker[i].Load()] = true
		}
		if len(seen) != threads {
			t.Errorf("%d workers took part, want %d", len(seen), threads)
		}
	}
}

// TestInline checks that n <= grain stays on the calling goroutine.
func TestInline(t *testing.T) {
	e := newExecutor(t, 4)
	calls := 0 // no atomic: the race detector would speak up
	step(t, e, 4, func(s *Step) {
		s.Do(taskFunc(func(worker, lo, hi int) {
			calls++
			if worker != 0 || lo != 0 || hi != 7 {
				t.Errorf("Do(%d, %d, %d), want (0, 0, 7)", worker, lo, hi)
			}
		}), 7, 7)
		s.Do(taskFunc(func(int, int, int) { calls++ }), 0, 1)
		s.Do(taskFunc(func(int, int, int) { calls++ }), -5, 0)
	})
	if calls != 1 {
		t.Errorf("%d calls, want 1", calls)
	}
}

// TestTakeover holds worker 1 in the first chunk of its share until all other
// chunks of all shares are done, those of its own share among them. If nobody took
// them over, the test would hang.
func TestTakeover(t *testing.T) {
	const n, grain = 640, 10
	e := newExecutor(t, 3)
	for _, threads := range []int{2, 3} {
		var left atomic.Int64
		left.Store(n)
		held, free := make(chan struct{}), make(chan struct{})
		var once sync.Once
		task := taskFunc(func(worker, lo, hi int) {
			if worker == 1 {
				once.Do(func() { left.Add(int64(lo - hi)); close(held) })
				<-free
				return
			}
			<-held // nobody can be in worker 1's share before worker 1
			if left.Add(int64(lo-hi)) == 0 {
				close(free)
			}
		})
		step(t, e, threads, func(s *Step) { s.Do(task, n, grain) })
	}
}

// TestAbsentWorker takes a worker away altogether: the slot says that there is
// one, but no goroutine stands behind it.
func TestAbsentWorker(t *testing.T) {
	e := newExecutor(t, 2)
	e.slots = []*slot{{index: 0}, {index: 1}}
	e.slots[1].state.Store(awake)
	var sum atomic.Int64
	step(t, e, 2, func(s *Step) {
		for range 3 {
			s.Do(taskFunc(func(_, lo, hi int) { sum.Add(int64(hi - lo)) }), 1000, 1)
		}
	})
	if sum.Load() != 3000 {
		t.Errorf("%d items, want 3000", sum.Load())
	}
	e.slots[1].state.Store(gone)
}

func TestConcurrentSteps(t *testing.T) {
	e := newExecutor(t, 4)
	e.Retain()
	defer e.Release()
	var inside atomic.Int32
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			items := make([]int, 100+g)
			task := taskFunc(func(_, lo, hi int) {
				for i := lo; i < hi; i++ {
					items[i]++
				}
			})
			for range 50 {
				err := e.Step(t.Context(), 1+g%4, func(s *Step) error {
					if inside.Add(1) != 1 {
						t.Error("two steps at once")
					}
					s.Do(task, len(items), 3)
					s.Do(task, len(items), 3)
					inside.Add(-1)
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
			for i, v := range items {
				if v != 100 {
					t.Errorf("engine %d item %d: %d visits, want 100", g, i, v)
					break
				}
			}
		})
	}
	wg.Wait()
}

// TestFewerCPUs runs jobs that need all threads at once while the CPUs go.
func TestFewerCPUs(t *testing.T) {
	e := newExecutor(t, 4)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	step(t, e, 4, func(s *Step) {
		for _, procs := range []int{8, 1, 2, 1, 8} {
			runtime.GOMAXPROCS(procs)
			for range 20 {
				s.Do(newTogether(4), 4, 1)
			}
		}
	})
}

func TestNoAllocations(t *testing.T) {
	e := newExecutor(t, 4)
	var sum atomic.Int64
	count := &counter{sum: &sum}
	f := func(s *Step) error {
		for range 10 {
			s.Do(count, 1000, 4)
		}
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, threads := range []int{1, 4} {
		if got := testing.AllocsPerRun(200, func() { e.Step(ctx, threads, f) }); got != 0 {
			t.Errorf("%d threads: %v allocations a step, want 0", threads, got)
		}
	}
	if sum.Load() != 2*201*10*1000 {
		t.Errorf("%d items", sum.Load())
	}
}

type counter struct{ sum *atomic.Int64 }

func (c *counter) Do(_, lo, hi int) { c.sum.Add(int64(hi - lo)) }

func TestError(t *testing.T) {
	e := newExecutor(t, 2)
	want := errors.New("no")
	if got := e.Step(t.Context(), 2, func(*Step) error { return want }); got != want {
		t.Errorf("Step = %v, want %v", got, want)
	}
}

// idling is a task whose workers have something to do for a while after their part.
type idling struct {
	*together
	left atomic.Int64
	done chan int // the worker that came to the end
}

func (t *idling) Idle(worker int) bool {
	n := t.left.Add(-1)
	if n == 0 {
		t.done <- worker
	}
	return n > 0
}

// TestIdler demands that a worker idles for its last task until that has enough,
// and no longer than to the next job.
func TestIdler(t *testing.T) {
	e := newExecutor(t, 2)
	step(t, e, 2, func(s *Step) {
		task := &idling{together: newTogether(2), done: make(chan int, 1)}
		task.left.Store(3)
		s.Do(task, 2, 1)
		if w := <-task.done; w != 1 {
			t.Errorf("thread %d idled, want 1", w)
		}

		endless := &idling{together: newTogether(2)}
		endless.left.Store(1 << 62)
		s.Do(endless, 2, 1)
		s.Do(newTogether(2), 2, 1) // the worker comes
		before := endless.left.Load()
		s.Do(newTogether(2), 2, 1)
		if after := endless.left.Load(); after != before {
			t.Errorf("a worker idled %d times for a job before the last one", before-after)
		}
	})
}

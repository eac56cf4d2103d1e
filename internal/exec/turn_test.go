package exec

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// party is a client that has a step, thinks, and has the next one, on a bubble's clock.
type party struct {
	*Client
	name        string
	step, think func() time.Duration
	used        time.Duration // by its steps; under the market's mu
}

func always(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

// market is an executor in a bubble, and who used it.
type market struct {
	t     *testing.T
	e     *Executor
	begin time.Time
	wg    sync.WaitGroup
	mu    sync.Mutex
	order strings.Builder // of the steps' names
	end   context.Context
	stop  context.CancelFunc
}

// inMarket runs f in a bubble with an executor of its own.
func inMarket(t *testing.T, f func(m *market)) {
	synctest.Test(t, func(t *testing.T) {
		m := &market{t: t, e: New(1), begin: time.Now()}
		m.end, m.stop = context.WithCancel(t.Context())
		f(m)
		m.stop()
		m.wg.Wait()
		m.e.Close()
		synctest.Wait()
		if q := &m.e.turn; len(q.present) > 0 || q.first != nil || q.held || !q.until.IsZero() {
			t.Errorf("%d are present, somebody waits: %v, holds: %v, is waited for: %v", len(q.present), q.first != nil, q.held, !q.until.IsZero())
		}
	})
}

func (m *market) party(name string, weight float64, step, think time.Duration) *party {
	p := &party{Client: m.e.NewClient(), name: name, step: always(step), think: always(think)}
	p.SetWeight(weight)
	return p
}

// one is a step of p.
func (m *market) one(p *party) error {
	return p.Step(m.end, 1, func(*Step) error {
		d := p.step()
		time.Sleep(d)
		m.mu.Lock()
		defer m.mu.Unlock()
		p.used += d
		m.order.WriteString(p.name)
		return nil
	})
}

// run lets p have steps until the market ends.
func (m *market) run(p *party) {
	m.wg.Go(func() {
		defer p.Close()
		for m.one(p) == nil {
			time.Sleep(p.think())
		}
	})
	synctest.Wait() // so that it is known who asked first
}

func (m *market) had(p *party) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return p.used
}

// after lets time pass and ends the market.
func (m *market) after(d time.Duration) {
	time.Sleep(d)
	m.stop()
	m.wg.Wait()
}

func (m *market) wantOrder(want string) {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if got := m.order.String(); !strings.HasPrefix(got, want) {
		m.t.Errorf("steps in the order %s, want %s", got[:min(len(got), len(want)+10)], want)
	}
}

func TestTurnsByWeight(t *testing.T) {
	const ms, us = time.Millisecond, time.Microsecond
	for _, tt := range []struct {
		name           string
		weight         float64 // of a; b has 1
		stepA, stepB   time.Duration
		thinkA, thinkB time.Duration
		want           string
	}{
		{"equal", 1, 10 * ms, 10 * ms, 100 * us, 100 * us, "abababab"},
		{"twice the weight", 2, 10 * ms, 9 * ms, 100 * us, 100 * us, "ababaabaabaab"},
		{"twice the time", 1, 10 * ms, 19 * ms, 100 * us, 100 * us, "ababaabaabaab"},
		{"both", 8, 12 * ms, 40 * ms, 200 * us, 20 * us, "ab" + strings.Repeat("a", 26) + "b" + strings.Repeat("a", 27) + "b"},
		{"nothing between steps", 2, 10 * ms, 9 * ms, 0, 0, "ababaabaabaab"},
		{"steps of no length", 1, 0, 0, 100 * us, 100 * us, "abababab"},
		// It has a right to more, and isn't there to use it.
		{"slow between steps", 8, 10 * ms, 10 * ms, 2 * ms, 100 * us, "abababab"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inMarket(t, func(m *market) {
				m.run(m.party("a", tt.weight, tt.stepA, tt.thinkA))
				m.run(m.party("b", 1, tt.stepB, tt.thinkB))
				m.after(2 * time.Second)
				m.wantOrder(tt.want)
			})
		})
	}
}

// TestShareIsAsWeights holds clients that are always there to the bound of
// start-time fair queueing: what two of them have had for their weight never
// differs by more than a step of each.
func TestShareIsAsWeights(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			inMarket(t, func(m *market) {
				rng := rand.New(rand.NewPCG(seed, 24))
				const longest = 50 * time.Millisecond
				var all []*party
				below := func(d time.Duration) func() time.Duration {
					return func() time.Duration { return time.Duration(rng.Int64N(int64(d))) }
				}
				var mu sync.Mutex // rng is shared by those that think
				guarded := func(f func() time.Duration) func() time.Duration {
					return func() time.Duration { mu.Lock(); defer mu.Unlock(); return f() }
				}
				for i := range 2 + rng.IntN(5) {
					p := m.party(string(rune('a'+i)), []float64{1, 2, 8, 0.1, 100}[rng.IntN(5)], 0, 0)
					p.step, p.think = guarded(below(1+time.Duration(rng.Int64N(int64(longest))))), guarded(below(patience))
					all = append(all, p)
				}
				free := hold(m.e) // all come at once
				for _, p := range all {
					m.run(p)
				}
				free()
				for range 100 {
					time.Sleep(200 * time.Millisecond)
					for _, p := range all {
						for _, q := range all {
							had := func(p *party) float64 { return m.had(p).Seconds() / p.weight }
							slack := longest.Seconds()*(1/p.weight+1/q.weight) + 1e-3 // of steps without length
							if d := had(p) - had(q); d > slack {
								t.Fatalf("%s with weight %v had %v, %s with %v %v", p.name, p.weight, m.had(p), q.name, q.weight, m.had(q))
							}
						}
					}
				}
			})
		})
	}
}

// TestPausesSaveNothing: who comes back after a pause is next, and doesn't get
// what it left to others; who ran ahead before it stays there.
func TestPausesSaveNothing(t *testing.T) {
	inMarket(t, func(m *market) {
		a := m.party("a", 1, 10*time.Millisecond, 0)
		b := m.party("b", 1, 10*time.Millisecond, 0)
		m.one(b)
		b.Idle()
		m.run(a)
		time.Sleep(995 * time.Millisecond)
		m.run(b)
		m.after(100 * time.Millisecond)
		m.wantOrder("b" + strings.Repeat("a", 100) + "babababa")
	})
	inMarket(t, func(m *market) {
		m.run(m.party("a", 1, 10*time.Millisecond, 0))
		b := m.party("b", 1, 45*time.Millisecond, 0)
		m.one(b)
		b.Idle()
		m.run(b)
		m.after(200 * time.Millisecond)
		m.wantOrder("abaaaab")
	})
}

// TestAnticipation looks how long b, which asks, waits for a, which has less virtual
// time and is between two steps.
func TestAnticipation(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name string
		a    func(m *market, a *party)
		want time.Duration // after b asked
		at   string        // what ran until b did
	}{
		{"it comes", func(m *market, a *party) { time.Sleep(ms / 2); m.one(a) }, ms/2 + 10*ms + ms, "baab"},
		{"it is late", func(m *market, a *party) { time.Sleep(2 * ms) }, ms, "bab"},
		{"it is idle", func(m *market, a *party) { time.Sleep(ms / 4); a.Idle() }, ms / 4, "bab"},
		{"it was idle", func(m *market, a *party) { a.Idle() }, 0, "bab"},
		{"it is closed", func(m *market, a *party) { time.Sleep(ms / 4); a.Close() }, ms / 4, "bab"},
		{"the executor is closed", func(m *market, a *party) { time.Sleep(ms / 4); go m.e.Close() }, ms / 4, "bab"},
		{"another one comes", func(m *market, a *party) {
			time.Sleep(ms / 4)
			if err := m.e.Step(m.end, 1, func(*Step) error { m.order.WriteString("c"); time.Sleep(2 * ms); return nil }); err != nil {
				m.t.Error(err)
			}
			time.Sleep(ms)
		}, ms/4 + 2*ms + ms, "bacb"},
		{"it asks in vain", func(m *market, a *party) {
			time.Sleep(ms / 4)
			ctx, cancel := context.WithCancel(m.end)
			cancel()
			a.Step(ctx, 1, func(*Step) error { m.t.Error("it ran"); return nil })
			time.Sleep(2 * ms)
		}, ms, "bab"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inMarket(t, func(m *market) {
				a, b := m.party("a", 8, 10*ms, 0), m.party("b", 1, 40*ms, 0)
				both := hold(m.e)
				m.wg.Go(func() { m.one(b) })
				synctest.Wait()
				asked := make(chan time.Time)
				m.wg.Go(func() { m.one(a); asked <- time.Now(); tt.a(m, a) })
				synctest.Wait()
				both()
				begin := <-asked
				var began time.Time
				b.step = func() time.Duration { began = time.Now(); return 0 }
				m.one(b)
				m.wg.Wait()
				if got := began.Sub(begin); got != tt.want {
					t.Errorf("it waited for %v, want %v", got, tt.want)
				}
				m.wantOrder(tt.at)
				a.Idle()
				b.Idle()
			})
		})
	}
}

// TestLateAreNotWaitedForAgain: waiting in vain costs patience once, until the
// client is quick again.
func TestLateAreNotWaitedForAgain(t *testing.T) {
	inMarket(t, func(m *market) {
		a, b := m.party("a", 8, 10*time.Millisecond, 0), m.party("b", 1, 10*time.Millisecond, 0)
		var quick atomic.Bool
		a.think = func() time.Duration {
			if quick.Load() {
				return patience / 2
			}
			return 5 * patience
		}
		free := hold(m.e)
		m.run(a)
		m.run(b)
		free()
		begin := time.Now()
		time.Sleep(time.Second)
		idle := time.Since(begin) - m.had(a) - m.had(b)
		if idle > patience+20*time.Millisecond { // what has begun counts when it ends
			t.Errorf("nothing ran for %v", idle)
		}
		before := m.had(b)
		quick.Store(true)
		time.Sleep(time.Second)
		if share := (m.had(b) - before).Seconds(); share < 1./9-0.03 || share > 1./9+0.03 {
			t.Errorf("b had %.3f of the time", share)
		}
	})
}

// TestNobodyStarves has a client with the least of weights among heavy ones that come
// and go: it has its share.
func TestNobodyStarves(t *testing.T) {
	inMarket(t, func(m *market) {
		light := m.party("l", 0.01, 10*time.Millisecond, 0)
		m.run(light)
		for i := range 4 {
			p := m.party("h", 1, 10*time.Millisecond, time.Duration(i)*400*time.Microsecond)
			m.wg.Go(func() {
				defer p.Close()
				for m.one(p) == nil {
					if i%2 == 0 {
						p.Idle()
					}
					time.Sleep(p.think())
				}
			})
		}
		m.after(60 * time.Second)
		if want := 60 * time.Second / 400; light.used < want-10*time.Millisecond {
			t.Errorf("it had %v of a minute, want %v", light.used, want)
		}
	})
}

func TestShareOf(t *testing.T) {
	inMarket(t, func(m *market) {
		a, b := m.party("a", 3, time.Millisecond, 0), m.party("b", 1, time.Millisecond, 0)
		want := func(a0, b0 float64) {
			t.Helper()
			if a, b := a.Share(), b.Share(); a != a0 || b != b0 {
				t.Errorf("the shares are %v and %v, want %v and %v", a, b, a0, b0)
			}
		}
		want(1, 1)
		m.one(a)
		want(1, 0.25)
		m.one(b)
		want(0.75, 0.25)
		m.e.Step(m.end, 1, func(*Step) error { return nil })
		want(0.75, 0.25)
		time.Sleep(time.Hour) // it hasn't said that it is idle
		want(0.75, 0.25)
		a.Idle()
		want(0.75, 1)
		b.Close()
		want(1, 1)
		a.Close()
	})
}

// TestFailuresCount: a step that panics, is stopped or canceled costs what it took.
func TestFailuresCount(t *testing.T) {
	inMarket(t, func(m *market) {
		good, bad := m.party("g", 1, 10*time.Millisecond, 0), m.party("b", 1, 0, 0)
		m.run(good)
		m.wg.Go(func() {
			defer bad.Close()
			for i := 0; m.end.Err() == nil; i++ {
				ctx, cancel := context.WithCancel(m.end)
				err := bad.Step(ctx, 1, func(s *Step) error {
					time.Sleep(20 * time.Millisecond)
					switch i % 3 {
					case 0:
						panic("bad")
					case 1:
						s.Stop()
					}
					cancel()
					s.Stopped()
					return nil
				})
				cancel()
				if err == nil {
					t.Error("it succeeded")
				}
			}
		})
		m.after(6 * time.Second)
		if share := good.used.Seconds() / 6; share < 0.49 || share > 0.51 {
			t.Errorf("the other one had %.3f of the time", share)
		}
	})
}

// TestTurnsInDisorder lets clients and others step, cancel, panic, end their goroutines, become
// idle and leave on the machine's own clock: every call ends, one step runs at a time, and
// the turn is free when all have left.
func TestTurnsInDisorder(t *testing.T) {
	rounds := 300
	if testing.Short() {
		rounds = 100
	}
	e := newExecutor(t, 2)
	var inside atomic.Int32
	var steps atomic.Int64
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 25))
			c := e.NewClient()
			defer func() { c.Close() }()
			for range rounds {
				ctx, cancel := context.WithCancel(context.Background())
				switch rng.IntN(4) {
				case 0:
					ctx, cancel = context.WithTimeout(ctx, time.Duration(rng.IntN(300))*time.Microsecond)
				case 1:
					go cancel()
				}
				what, busy := rng.IntN(10), rng.IntN(2000)
				f := func(s *Step) error {
					if inside.Add(1) != 1 {
						t.Error("two steps run at once")
					}
					defer inside.Add(-1)
					steps.Add(1)
					s.Do(taskFunc(func(int, int, int) {
						for range busy {
							pause()
						}
						if what == 0 {
							panic("disorder")
						}
					}), 8, 1)
					if what == 1 {
						runtime.Goexit()
					}
					return nil
				}
				var s Stepper = c
				if what == 2 {
					s = e
				}
				ended := make(chan struct{})
				go func() { // which may end in f
					defer close(ended)
					err := s.Step(ctx, 1+what%2, f)
					var p *PanicError
					if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) && !errors.As(err, &p) {
						t.Error(err)
					}
				}()
				<-ended
				cancel()
				switch rng.IntN(8) {
				case 0:
					c.Idle()
				case 1:
					c.SetWeight(0.01 + rng.Float64()*10)
				case 2:
					c.Close()
					c = e.NewClient()
				case 3:
					time.Sleep(time.Duration(rng.IntN(3)) * patience)
				}
			}
		})
	}
	wg.Wait()
	if steps.Load() == 0 {
		t.Error("nothing ran")
	}
	if q := &e.turn; len(q.present) > 0 || q.first != nil || q.held || !q.until.IsZero() {
		t.Errorf("%d are present, somebody waits: %v, holds: %v, is waited for: %v", len(q.present), q.first != nil, q.held, !q.until.IsZero())
	}
	usable(t, e, 2)
}

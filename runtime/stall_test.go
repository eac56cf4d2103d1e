package runtime

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/internal/kvcache"
	"github.com/dunlin-go/dunlin/internal/sched"
)

// waits puts a request of a few tokens before a test's engine.
func waits(t *testing.T, e *engine) (*Stream, *sequence) {
	s := &sequence{prompt: []int32{1, 2, 3}, lease: budget.New(1 << 20).Lease(), Sequence: sched.Sequence{Tokens: []int32{1, 2, 3}, From: 2, Limit: 9}}
	s.Owner = s
	var stream *Stream
	stream, s.writer = NewStream(context.Background(), e.streamBuffer, e.poke)
	t.Cleanup(func() { stream.Close() })
	e.arrivals = append(e.arrivals, s)
	return stream, s
}

// untilEnd turns an engine that can't plan anything until a sequence has ended.
func untilEnd(e *engine, s *sequence) time.Duration {
	begin := time.Now()
	for range 1000 {
		e.gather()
		if s.writer.Ended() {
			return time.Since(begin)
		}
		e.sleep()
	}
	return -1
}

func stallEngine(t *testing.T) *engine {
	e := testEngine(t, kvcache.Shape{Layers: 1, Heads: 1, HeadDim: 64, Type: KVCacheF16}, 10)
	e.sched = sched.New(e.cache, 1, nil)
	return e
}

// TestStallLimit: an unread stream ends when its time is over, however often the
// engine is woken before; what is read begins anew.
func TestStallLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := stallEngine(t)
		stream, s := waits(t, e)
		e.gather()
		for s.writer.TrySend(Event{Kind: EventToken}) {
		}
		_, other := waits(t, e)
		for _, d := range []time.Duration{10 * time.Second, 20 * time.Second, 29 * time.Second} {
			time.AfterFunc(d, e.signal)
		}
		time.AfterFunc(5*time.Second, func() { _, _ = stream.Recv() })
		if took := untilEnd(e, s); took != 35*time.Second {
			t.Errorf("it ended after %v", took)
		}
		if o, err := s.outcome(); o != OutcomeStalled || CodeOf(err) != CodeClosed {
			t.Errorf("%v, %v", o, err)
		}
		e.gather()
		if running := e.sched.Running(); len(running) != 1 || owner(running[0]) != other {
			t.Errorf("%d run", len(running))
		}
	})
}

// TestStalledKeepsItsPlaceInPeace: a stream that was unread for hours while nobody
// waited is ended for none that finds a place beside it.
func TestStalledKeepsItsPlaceInPeace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := testEngine(t, kvcache.Shape{Layers: 1, Heads: 1, HeadDim: 64, Type: KVCacheF16}, 10)
		_, s := waits(t, e)
		e.gather()
		for s.writer.TrySend(Event{Kind: EventToken}) {
		}
		e.gather()
		time.AfterFunc(time.Hour, e.signal)
		e.sleep()
		waits(t, e)
		e.gather()
		if s.writer.Ended() || len(e.sched.Running()) != 2 {
			t.Errorf("ended %v, %d run", s.writer.Ended(), len(e.sched.Running()))
		}
	})
}

// TestStalledTimeCountsWhileOthersWait: what was unread for hours in peace has its whole
// limit when somebody comes, and a single one that waits ends a single stream, the one
// that is unread for longest.
func TestStalledTimeCountsWhileOthersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := testEngine(t, kvcache.Shape{Layers: 1, Heads: 1, HeadDim: 64, Type: KVCacheF16}, 10)
		e.sched = sched.New(e.cache, 2, nil)
		fill := func() *sequence {
			_, s := waits(t, e)
			e.gather()
			for s.writer.TrySend(Event{Kind: EventToken}) {
			}
			e.gather()
			time.Sleep(time.Hour)
			return s
		}
		longest, other := fill(), fill()
		waits(t, e)
		if took := untilEnd(e, longest); took != 30*time.Second {
			t.Errorf("it ended after %v", took)
		}
		if other.writer.Ended() {
			t.Error("two ended for one that waits")
		}
		e.gather()
		if running, waiting := len(e.sched.Running()), e.sched.Waiting(); running != 2 || waiting != 0 {
			t.Errorf("%d run, %d wait", running, waiting)
		}
		waits(t, e) // and the next one's wait is its own
		if took := untilEnd(e, other); took != 30*time.Second {
			t.Errorf("the other ended after %v", took)
		}
	})
}

// TestWater: the writer is told once the reader has come from the high mark down
// to the low one, and not in between.
func TestWater(t *testing.T) {
	for _, tc := range []struct {
		buffer    int
		share     float64
		high, low int
	}{{64, 0.75, 48, 24}, {64, 1, 63, 31}, {64, 1e-9, 1, 0}, {256, 0.5, 128, 64}, {64, 0.101, 7, 3}} {
		marks := waterOf(tc.buffer, tc.share)
		if marks.high != tc.high || marks.low != tc.low {
			t.Errorf("%v of %d: %+v", tc.share, tc.buffer, marks)
		}
		told := 0
		s, w := NewStream(t.Context(), tc.buffer, func() { told++ })
		held := false
		for round := range 3 {
			n := 0
			for ; ; n++ {
				if held, _ = w.held(marks, held); held {
					break
				}
				if w.Room(0) < 2 || !w.TrySend(Event{Kind: EventToken}) {
					t.Fatal("no room for a token and the finish below the mark")
				}
			}
			if w.unread() != marks.high {
				t.Errorf("held at %d unread events, want %d", w.unread(), marks.high)
			}
			for n := marks.high - 1; n >= marks.low; n-- {
				if told != round {
					t.Errorf("told with %d unread, %+v", n+1, marks)
				}
				if _, err := s.Recv(); err != nil {
					t.Fatal(err)
				}
			}
			if held, _ = w.held(marks, held); held || told != round+1 {
				t.Errorf("at the low mark: held %v, told %d times in round %d", held, told, round)
			}
		}
		s.Close()
	}
}

// TestHeartbeat runs on a clock of the test's own.
func TestHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := NewStream(t.Context(), 8, nil)
		w.s.heartbeat = 20 * time.Millisecond
		begin := time.Now()
		go func() {
			time.Sleep(50 * time.Millisecond)
			w.TrySend(Event{Kind: EventToken})
			w.TrySend(Event{Kind: EventToken})
			time.Sleep(25 * time.Millisecond)
			w.Finish(nil)
		}()
		want := []struct {
			at   time.Duration
			kind EventKind
		}{{20, EventHeartbeat}, {40, EventHeartbeat}, {50, EventToken}, {50, EventToken}, {70, EventHeartbeat}}
		i := 0
		for ev, err := range s.All() {
			if err != nil || i == len(want) || ev.Kind != want[i].kind || time.Since(begin) != want[i].at*time.Millisecond {
				t.Errorf("after %v: %+v, %v", time.Since(begin), ev, err)
			}
			i++
		}
		if i != len(want) || time.Since(begin) != 75*time.Millisecond {
			t.Errorf("%d events until %v", i, time.Since(begin))
		}
	})
}

// TestProgressNeverComesBack: who is preempted computes anew, and its reader
// hears nothing of that.
func TestProgressNeverComesBack(t *testing.T) {
	m := checked(t, WithKVCacheBytes(10*9000), WithMaxSequences(2))
	m.engine.check = func() { m.engine.pace = pace{} } // so that each prompt takes several steps
	prompt := make([]int32, 60)
	for i := range prompt {
		prompt[i] = int32(3 + i)
	}
	slow, err := m.Start(t.Context(), Request{Tokens: prompt, IgnoreEOS: true, MaxTokens: 100})
	if err != nil {
		t.Fatal(err)
	}
	WaitFor(t, "the reader to be behind", func() bool { return m.Stats().CompletionTokens >= 40 })
	capacity := m.Info().ContextLength
	if _, err := Generate(t.Context(), m, Request{Tokens: make([]int32, capacity-20), IgnoreEOS: true, MaxTokens: 20}); err != nil {
		t.Fatal(err)
	}
	if m.Stats().Preemptions == 0 {
		t.Fatal("nobody was preempted")
	}
	last := EventKind(0)
	for ev, err := range slow.All() {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Kind < last {
			t.Errorf("kind %d after %d", ev.Kind, last)
		}
		last = ev.Kind
	}
}

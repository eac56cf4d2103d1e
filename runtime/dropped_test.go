package runtime

import (
	"context"
	goruntime "runtime"
	"testing"
)

// TestDroppedStreams: streams that nobody closes, reads or references any more
// end when the garbage collector comes by, and give all back.
func TestDroppedStreams(t *testing.T) {
	m := checked(t, WithMaxSequences(2))
	idle := m.Stats().BudgetUsed
	for i := range 6 { // the last ones wait
		s, err := m.Start(context.Background(), Request{Prompt: "hello", IgnoreEOS: true}) // one that never ends
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if _, err := s.Recv(); err != nil {
				t.Fatal(err)
			}
		}
	}
	WaitFor(t, "all to end", func() bool {
		goruntime.GC()
		s := m.Stats()
		return s.Running == 0 && s.Waiting == 0 && s.KVPagesUsed == 0 && s.BudgetUsed == idle && s.Ended[OutcomeDropped] == 6
	})
}

// TestReadersKeepTheirStream: whoever waits in a call has the stream, though it
// may be the last thing that is done with it.
func TestReadersKeepTheirStream(t *testing.T) {
	for name, read := range map[string]func(*Stream) (Event, error){
		"Recv": func(s *Stream) (Event, error) { return s.Recv() },
		"All": func(s *Stream) (ev Event, err error) {
			for ev, err = range s.All() {
				break
			}
			return ev, err
		},
		"Drain": func(s *Stream) (Event, error) {
			var dst [1]Event
			<-s.Ready()
			_, err := s.Drain(dst[:])
			return dst[0], err
		},
	} {
		t.Run(name, func(t *testing.T) {
			writer := make(chan *StreamWriter)
			done := make(chan struct{})
			go func() {
				defer close(done)
				s, w := NewStream(t.Context(), 1, nil)
				writer <- w
				if ev, err := read(s); err != nil || ev.Kind != EventToken {
					t.Errorf("%+v, %v", ev, err)
				}
			}()
			w := <-writer
			for range 5 {
				goruntime.GC()
				goruntime.Gosched()
			}
			w.TrySend(Event{Kind: EventToken})
			<-done
			WaitFor(t, "the end", func() bool { goruntime.GC(); return w.Ended() })
		})
	}
}

// TestFreedWithinAStep ends a stream between two steps and in the middle of one,
// while another one is computed, too: after the step that follows its pages are
// free, and it took no part in that.
func TestFreedWithinAStep(t *testing.T) {
	const after = 3 // tokens
	for name, end := range map[string]func(s *Stream, cancel context.CancelFunc){
		"close":  func(s *Stream, _ context.CancelFunc) { s.Close() },
		"cancel": func(_ *Stream, cancel context.CancelFunc) { cancel() },
		"break":  nil, // by itself
	} {
		for _, inStep := range []bool{false, true} {
			where := map[bool]string{false: "between steps", true: "in a step"}[inStep]
			t.Run(name+" "+where, func(t *testing.T) {
				m := checked(t, WithMaxSequences(2))
				e := m.engine
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var victim *Stream
				started := make(chan struct{})
				// The rest is the loop's.
				var s *sequence
				ended, checked := int64(-1), false
				giveUp := func() {
					<-started
					if end != nil {
						end(victim, cancel)
					}
					for !s.writer.Ended() {
						goruntime.Gosched()
					}
					ended = e.counts.steps.Load()
				}
				due := func() bool { return s != nil && s.generated == after && ended < 0 }
				forward := e.forward
				e.forward = func() error {
					if inStep && due() {
						giveUp()
					}
					return forward()
				}
				e.check = func() {
					for l := range e.live {
						if l.id == 2 {
							s = l
						}
					}
					steps := e.counts.steps.Load()
					switch {
					case !inStep && due():
						giveUp()
					case ended >= 0 && !checked && steps == ended+1 && inStep:
						// The one that was running.
					case ended >= 0 && !checked:
						checked = true
						want := ended + 1
						if inStep {
							want++
						}
						pages := 0
						for l := range e.live {
							pages += len(l.Table())
						}
						if _, still := e.live[s]; still || steps != want || len(e.live) != 1 || len(e.step) != 1 || e.cache.Used() != pages {
							t.Errorf("it ended after %d steps; after %d there are %d requests, %d in the step, %d pages, %d of them used", ended, steps, len(e.live), len(e.step), e.cache.Used(), pages)
						}
					}
				}
				other, err := m.Start(t.Context(), Request{Prompt: "you", IgnoreEOS: true})
				if err != nil {
					t.Fatal(err)
				}
				if victim, err = m.Start(ctx, Request{Prompt: "hello", IgnoreEOS: true}); err != nil {
					t.Fatal(err)
				}
				close(started)
				read := make(chan struct{})
				go func() {
					defer close(read)
					n := 0
					for ev := range victim.All() {
						if ev.Kind == EventToken {
							n++
						}
						if n == after && end == nil {
							break
						}
					}
				}()
				for _, err := range other.All() {
					if err != nil {
						t.Error(err)
					}
				}
				<-read
				if m.Close(); !checked {
					t.Error("nothing was looked at")
				}
			})
		}
	}
}

package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dunlin-go/dunlin/runtime"
)

func token(id int) runtime.Event {
	return runtime.Event{Kind: runtime.EventToken, Token: int32(id), Text: fmt.Sprint(id)}
}

// readAll is the ids of a stream's tokens and how it ended.
func readAll(s *runtime.Stream) (ids []int, err error) {
	for {
		ev, err := s.Recv()
		if err != nil {
			return ids, err
		}
		ids = append(ids, int(ev.Token))
	}
}

func TestStreamOrder(t *testing.T) {
	for _, capacity := range []int{-1, 0, 1, 2, 3, 64} {
		t.Run(fmt.Sprint(capacity), func(t *testing.T) {
			room := make(chan struct{}, 1)
			s, w := runtime.NewStream(t.Context(), capacity, func() {
				select {
				case room <- struct{}{}:
				default:
				}
			})
			const n = 500
			var wg sync.WaitGroup
			wg.Go(func() {
				for i := range n {
					for !w.TrySend(token(i)) {
						<-room
					}
				}
				w.Finish(nil)
			})
			ids, err := readAll(s)
			wg.Wait()
			if !errors.Is(err, io.EOF) || len(ids) != n || !slices.IsSorted(ids) {
				t.Errorf("%d of %d events, in order %v, then %v", len(ids), n, slices.IsSorted(ids), err)
			}
			if _, err := s.Recv(); !errors.Is(err, io.EOF) {
				t.Errorf("and then %v", err)
			}
		})
	}
}

func TestStreamBackPressure(t *testing.T) {
	notified := 0
	s, w := runtime.NewStream(t.Context(), 2, func() { notified++ })
	if w.Room(2) != 2 || !w.TrySend(token(1)) || !w.TrySend(token(2)) {
		t.Fatal("no room for two events")
	}
	mustRecv := func() {
		t.Helper()
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	mustRecv()
	if notified != 0 {
		t.Error("notified without having been refused")
	}
	w.TrySend(token(3))
	if w.TrySend(token(4)) || w.Room(0) != 0 {
		t.Error("room for a third event")
	}
	mustRecv()
	mustRecv()
	if notified != 1 {
		t.Errorf("notified %d times for one refusal", notified)
	}
	if w.Room(2) != 2 {
		t.Errorf("room for %d", w.Room(2))
	}
	w.TrySend(token(4))
	if w.Room(2) != 1 {
		t.Errorf("room for %d", w.Room(2))
	}
	mustRecv()
	if notified != 2 {
		t.Errorf("notified %d times in all, Room was a refusal too", notified)
	}
	s.Close()
	if notified != 3 || !w.Ended() || w.Room(0) != 0 || w.TrySend(token(5)) {
		t.Errorf("after Close: notified %d times, ended %v", notified, w.Ended())
	}
	s.Close()
	w.Finish(nil)
	if notified != 3 {
		t.Errorf("after the end: notified %d times", notified)
	}
}

func TestStreamDrain(t *testing.T) {
	s, w := runtime.NewStream(t.Context(), 4, nil)
	var dst [3]runtime.Event
	want := func(n int, err error) {
		t.Helper()
		if gotN, gotErr := s.Drain(dst[:]); gotN != n || !errors.Is(gotErr, err) {
			t.Errorf("Drain gave %d, %v; want %d, %v", gotN, gotErr, n, err)
		}
	}
	want(0, nil)
	for i := range 4 {
		w.TrySend(token(i))
	}
	<-s.Ready()
	want(3, nil)
	if dst[0].Token != 0 || dst[2].Token != 2 {
		t.Errorf("got %v", dst)
	}
	w.Finish(nil)
	want(1, nil) // the end comes alone
	want(0, io.EOF)
	want(0, io.EOF)
	if n, err := s.Drain(nil); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("Drain into nothing gave %d, %v", n, err)
	}
}

// TestStreamReady waits with Ready only, as one does in a select.
func TestStreamReady(t *testing.T) {
	room := make(chan struct{}, 1)
	s, w := runtime.NewStream(t.Context(), 3, func() {
		select {
		case room <- struct{}{}:
		default:
		}
	})
	const n = 500
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range n {
			for !w.TrySend(token(i)) {
				<-room
			}
		}
		w.Finish(nil)
	})
	defer wg.Wait()
	got := 0
	var dst [2]runtime.Event
	for timeout := time.After(20 * time.Second); ; {
		k, err := s.Drain(dst[:])
		if errors.Is(err, io.EOF) {
			break
		}
		if got += k; k > 0 {
			continue
		}
		select {
		case <-s.Ready():
		case <-timeout:
			t.Fatalf("stuck after %d events", got)
		}
	}
	if got != n {
		t.Errorf("%d of %d events", got, n)
	}
}

func TestStreamEnds(t *testing.T) {
	boom := errors.New("boom")
	own := &runtime.Error{Code: runtime.CodeNumerics, Err: boom}
	finishEvent := runtime.Event{Kind: runtime.EventFinish, Finish: runtime.FinishStop}
	for _, tc := range []struct {
		name string
		end  func(s *runtime.Stream, w *runtime.StreamWriter, cancel context.CancelCauseFunc)
		left int // events that can still be read
		code runtime.Code
		is   error
	}{
		{"finish", func(_ *runtime.Stream, w *runtime.StreamWriter, _ context.CancelCauseFunc) { w.Finish(nil) }, 2, 0, io.EOF},
		{"finish with an error", func(_ *runtime.Stream, w *runtime.StreamWriter, _ context.CancelCauseFunc) { w.Finish(boom) }, 2, runtime.CodeInternal, boom},
		{"finish with an error of a code", func(_ *runtime.Stream, w *runtime.StreamWriter, _ context.CancelCauseFunc) { w.Finish(own) }, 2, runtime.CodeNumerics, own},
		{"close", func(s *runtime.Stream, _ *runtime.StreamWriter, _ context.CancelCauseFunc) { s.Close() }, 0, runtime.CodeClosed, nil},
		{"close after finish", func(s *runtime.Stream, w *runtime.StreamWriter, _ context.CancelCauseFunc) { w.Finish(nil); s.Close() }, 0, runtime.CodeClosed, nil},
		{"close after an error", func(s *runtime.Stream, w *runtime.StreamWriter, _ context.CancelCauseFunc) { w.Finish(boom); s.Close() }, 0, runtime.CodeInternal, boom},
		{"cancel", func(_ *runtime.Stream, _ *runtime.StreamWriter, c context.CancelCauseFunc) { c(nil) }, 0, runtime.CodeCanceled, context.Canceled},
		{"cancel with a cause", func(_ *runtime.Stream, _ *runtime.StreamWriter, c context.CancelCauseFunc) { c(boom) }, 0, runtime.CodeCanceled, boom},
		{"cancel with a cause is a cancel", func(_ *runtime.Stream, _ *runtime.StreamWriter, c context.CancelCauseFunc) { c(boom) }, 0, runtime.CodeCanceled, context.Canceled},
		{"cancel with a cause of a code", func(_ *runtime.Stream, _ *runtime.StreamWriter, c context.CancelCauseFunc) { c(own) }, 0, runtime.CodeNumerics, own},
		{"close at the finish event", func(s *runtime.Stream, w *runtime.StreamWriter, _ context.CancelCauseFunc) {
			w.TrySend(finishEvent)
			for range 3 {
				s.Recv()
			}
			s.Close()
		}, 0, 0, io.EOF},
		{"cancel at the finish event", func(_ *runtime.Stream, w *runtime.StreamWriter, c context.CancelCauseFunc) {
			w.TrySend(finishEvent)
			c(boom)
		}, 3, 0, io.EOF},
		{"cancel after finish", func(_ *runtime.Stream, w *runtime.StreamWriter, c context.CancelCauseFunc) { w.Finish(nil); c(boom) }, 2, 0, io.EOF},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			s, w := runtime.NewStream(ctx, 4, nil)
			w.TrySend(token(1))
			w.TrySend(token(2))
			tc.end(s, w, cancel)
			waitFor(t, "the end", w.Ended)
			ids, err := readAll(s)
			if len(ids) != tc.left {
				t.Errorf("%d events could be read, want %d", len(ids), tc.left)
			}
			if tc.is != nil && !errors.Is(err, tc.is) || !errors.Is(err, io.EOF) && runtime.CodeOf(err) != tc.code {
				t.Errorf("it ended with %v (%v)", err, runtime.CodeOf(err))
			}
			if _, again := s.Recv(); !errors.Is(again, err) {
				t.Errorf("it ended with %v and then %v", err, again)
			}
		})
	}
}

func TestStreamDeadlineCause(t *testing.T) {
	boom := errors.New("boom")
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Nanosecond, boom)
	defer cancel()
	s, _ := runtime.NewStream(ctx, 1, nil)
	_, err := s.Recv() // the context was done before it, and wakes it
	if runtime.CodeOf(err) != runtime.CodeDeadline || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, boom) {
		t.Errorf("got %v (%v)", err, runtime.CodeOf(err))
	}
}

// TestStreamWakes: a reader that waits is woken by whatever ends the stream.
func TestStreamWakes(t *testing.T) {
	for name, end := range map[string]func(*runtime.Stream, *runtime.StreamWriter, context.CancelFunc){
		"finish": func(_ *runtime.Stream, w *runtime.StreamWriter, _ context.CancelFunc) { w.Finish(nil) },
		"close":  func(s *runtime.Stream, _ *runtime.StreamWriter, _ context.CancelFunc) { s.Close() },
		"cancel": func(_ *runtime.Stream, _ *runtime.StreamWriter, c context.CancelFunc) { c() },
	} {
		t.Run(name, func(t *testing.T) {
			for range 50 {
				ctx, cancel := context.WithCancel(t.Context())
				s, w := runtime.NewStream(ctx, 1, nil)
				var wg sync.WaitGroup
				wg.Go(func() { end(s, w, cancel) })
				if _, err := s.Recv(); err == nil {
					t.Error("an event out of nothing")
				}
				wg.Wait()
				cancel()
			}
		})
	}
}

func TestStreamAll(t *testing.T) {
	s, w := runtime.NewStream(t.Context(), 8, nil)
	for i := range 4 {
		w.TrySend(token(i))
	}
	for ev, err := range s.All() {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Token == 1 {
			break
		}
	}
	if !w.Ended() {
		t.Error("breaking out didn't end it")
	}

	s, w = runtime.NewStream(t.Context(), 8, nil)
	w.TrySend(token(0))
	w.Finish(errors.New("boom"))
	var errs []error
	for ev, err := range s.All() {
		if (err != nil) != (ev.Kind == 0) {
			t.Errorf("got %v with %v", ev, err)
		}
		errs = append(errs, err)
	}
	if len(errs) != 2 || errs[0] != nil || errs[1] == nil {
		t.Errorf("got %v", errs)
	}
}

// TestStreamAllocs: the hand-over of an event costs no allocation.
func TestStreamAllocs(t *testing.T) {
	s, w := runtime.NewStream(t.Context(), 8, func() {})
	ev := token(1)
	var dst [8]runtime.Event
	if n := testing.AllocsPerRun(100, func() {
		w.TrySend(ev)
		_, _ = s.Recv()
		w.TrySend(ev)
		w.TrySend(ev)
		_, _ = s.Drain(dst[:])
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	s.Close()
}

// BenchmarkStream hands events over between two goroutines.
func BenchmarkStream(b *testing.B) {
	for _, capacity := range []int{1, 64} {
		b.Run(fmt.Sprintf("capacity=%d", capacity), func(b *testing.B) {
			room := make(chan struct{}, 1)
			s, w := runtime.NewStream(b.Context(), capacity, func() {
				select {
				case room <- struct{}{}:
				default:
				}
			})
			ev := token(1)
			var wg sync.WaitGroup
			wg.Go(func() {
				for range b.N {
					for !w.TrySend(ev) {
						<-room
					}
				}
				w.Finish(nil)
			})
			for {
				if _, err := s.Recv(); err != nil {
					break
				}
			}
			wg.Wait()
		})
	}
}

package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
)

// errStreamClosed is what a stream ends with when its reader closed it.
var errStreamClosed = &Error{Code: CodeClosed, Err: errors.New("the stream was closed")}

// Stream is the events of one running request, made by [NewStream]. It has one
// reader; its methods are safe against the writer and against Close from
// another goroutine.
//
// Between writer and reader lies a bounded buffer. A reader that is slow holds
// up only its own request: the writer sees no room and leaves the sequence out
// of the next steps. The stream ends with its context: from that moment Recv
// returns the context's error at once, wherever the computation stands.
type Stream struct {
	mu     sync.Mutex
	ring   []Event
	head   int   // index of the oldest event
	n      int   // events in the ring
	err    error // why the stream ended; io.EOF for a good end
	first  error // the same for the writer, whatever the reader did later
	wanted bool  // the writer found no room since the reader last took something

	ready  chan struct{} // has one token when there may be something to read
	notify func()        // tells the writer that there is room, or that nobody reads any more
	unhook func() bool   // takes the context's hook away
}

// StreamWriter is the writing end of a [Stream]. It has one writer.
type StreamWriter struct{ s *Stream }

// NewStream makes a stream that buffers at most capacity events and ends when
// ctx does. notify, which may be nil, is called without locks when there is
// room again after [StreamWriter.TrySend] failed, and when the reader's side
// ended; it must not block.
func NewStream(ctx context.Context, capacity int, notify func()) (*Stream, *StreamWriter) {
	if notify == nil {
		notify = func() {}
	}
	s := &Stream{ring: make([]Event, max(capacity, 1)), ready: make(chan struct{}, 1), notify: notify}
	s.mu.Lock() // a context that is done already calls back at once
	defer s.mu.Unlock()
	s.unhook = context.AfterFunc(ctx, func() { s.end(contextError(ctx), true) })
	return s, &StreamWriter{s}
}

// contextError is why ctx ended. A cause of the caller's own is told beside the
// context's error, so that both match and a deadline stays one.
func contextError(ctx context.Context) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); !errors.Is(cause, err) {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	return NewError(CodeCanceled, err)
}

// Recv waits for the next event. It returns io.EOF after the finish event, or
// the [*Error] that ended the stream.
func (s *Stream) Recv() (Event, error) {
	for {
		s.mu.Lock()
		if s.n > 0 {
			ev := s.pop()
			wanted := s.takeWanted()
			s.mu.Unlock()
			if wanted {
				s.notify()
			}
			return ev, nil
		}
		err := s.err
		s.mu.Unlock()
		if err != nil {
			return Event{}, err
		}
		<-s.ready
	}
}

// Drain moves the events that are ready into dst without waiting. It returns
// io.EOF, or the error that ended the stream, once nothing is left; n may be 0
// with a nil error when nothing is ready yet.
func (s *Stream) Drain(dst []Event) (n int, err error) {
	s.mu.Lock()
	for n < len(dst) && s.n > 0 {
		dst[n] = s.pop()
		n++
	}
	if n == 0 && s.n == 0 {
		err = s.err
	}
	wanted := n > 0 && s.takeWanted()
	s.mu.Unlock()
	if wanted {
		s.notify()
	}
	return n, err
}

// Ready has a value when Drain may have something new, an event or the end. It
// lets a reader wait for the stream and for something else in one select. Wait
// on it only after Drain returned 0 and no error: one value may stand for many
// events, and for none. It is never closed.
func (s *Stream) Ready() <-chan struct{} { return s.ready }

// All ranges over the events up to the end and closes the stream. An error is
// yielded last, with an empty event.
func (s *Stream) All() iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		defer s.Close()
		for {
			ev, err := s.Recv()
			if errors.Is(err, io.EOF) || !yield(ev, err) || err != nil {
				return
			}
		}
	}
}

// Close ends the request if it is still running and frees what it holds. It
// doesn't wait and may be called more than once; it returns nil.
func (s *Stream) Close() error {
	s.end(errStreamClosed, true)
	return nil
}

// end settles the stream's outcome, once. Events that are already there stay
// readable unless the reader's side gave them up.
func (s *Stream) end(err error, abandoned bool) {
	s.mu.Lock()
	first := s.err == nil
	if first {
		s.err, s.first = err, err
	}
	if abandoned {
		if errors.Is(s.err, io.EOF) && s.n > 0 {
			s.err = err // a good end that nobody read to its end
		}
		clear(s.ring)
		s.n = 0
	}
	s.mu.Unlock()
	s.wake()
	if first {
		s.unhook()
		if abandoned {
			s.notify()
		}
	}
}

func (s *Stream) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

func (s *Stream) pop() Event {
	ev := s.ring[s.head]
	s.ring[s.head] = Event{}
	s.head = (s.head + 1) % len(s.ring)
	s.n--
	return ev
}

func (s *Stream) takeWanted() bool {
	w := s.wanted
	s.wanted = false
	return w
}

// TrySend appends an event if there is room and the stream hasn't ended. After
// a refusal for lack of room, notify is called when the reader has made some.
func (w *StreamWriter) TrySend(ev Event) bool {
	s := w.s
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return false
	}
	if s.n == len(s.ring) {
		s.wanted = true
		s.mu.Unlock()
		return false
	}
	s.ring[(s.head+s.n)%len(s.ring)] = ev
	s.n++
	s.mu.Unlock()
	s.wake()
	return true
}

// Room is how many events can be sent now, 0 once the stream has ended. When
// it returns less than need, notify is called after the reader made room.
func (w *StreamWriter) Room(need int) int {
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0
	}
	room := len(s.ring) - s.n
	if room < need {
		s.wanted = true
	}
	return room
}

// Ended reports whether the stream is over: finished, closed by its reader, or
// its context done.
func (w *StreamWriter) Ended() bool {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	return w.s.err != nil
}

// outcome is what ended the stream, nil where nothing has.
func (w *StreamWriter) outcome() error {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	return w.s.first
}

// Finish ends the stream: with io.EOF for the reader where err is nil, else
// with err as an [*Error]. Events sent before stay readable.
func (w *StreamWriter) Finish(err error) {
	if err == nil {
		w.s.end(io.EOF, false)
		return
	}
	w.s.end(NewError(CodeInternal, err), false)
}

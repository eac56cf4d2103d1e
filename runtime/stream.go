package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	goruntime "runtime"
	"sync"
	"time"
)

// errStreamClosed is what a stream ends with when its reader closed it.
var errStreamClosed = &Error{Code: CodeClosed, Err: errors.New("the stream was closed")}

// errStreamDropped is what a stream ends with that nobody references.
var errStreamDropped = &Error{Code: CodeClosed, Err: errors.New("nobody has the stream any more")}

// Stream is the events of one running request, made by [NewStream]. It has one
// reader; its methods are safe against the writer and against Close from
// another goroutine.
//
// Between writer and reader lies a bounded buffer. A reader that is slow holds
// up only its own request: the writer sees little room and leaves the sequence
// out of the next steps. The stream ends with its context: from that moment Recv
// returns the context's error at once, wherever the computation stands. A stream
// that nobody references any more ends, too, when the garbage collector finds
// out; Close does it at once. It must not be copied.
type Stream struct{ s *stream }

// stream is what a [Stream] and its writer share. The writer and the context's
// hook know only this, so that the garbage collector sees when nobody has the
// Stream.
type stream struct {
	mu    sync.Mutex
	ring  []Event
	head  int       // index of the oldest event
	n     int       // events in the ring
	err   error     // why the stream ended; io.EOF for a good end
	first error     // the same for the writer, whatever the reader did later
	want  int       // the room that the writer waits for, 0 where it doesn't
	read  time.Time // when the reader took something and it wasn't enough for that

	ready  chan struct{}     // has one token when there may be something to read
	notify func()            // tells the writer that there is room, or that nobody reads any more
	unhook func() bool       // takes the context's hook away
	watch  goruntime.Cleanup // ends the stream when nobody references it

	heartbeat time.Duration // 0 for none
	beat      *time.Timer   // the reader's, made when it first waits
}

// StreamWriter is the writing end of a [Stream]. It has one writer.
type StreamWriter struct{ s *stream }

// NewStream makes a stream that buffers at most capacity events and ends when
// ctx does. notify, which may be nil, is called without locks when there is
// room again after [StreamWriter.TrySend] failed or [StreamWriter.Room] was too
// little, and when the reader's side
// ended; it must not block.
func NewStream(ctx context.Context, capacity int, notify func()) (*Stream, *StreamWriter) {
	if notify == nil {
		notify = func() {}
	}
	s := &stream{ring: make([]Event, max(capacity, 1)), ready: make(chan struct{}, 1), notify: notify}
	s.mu.Lock() // a context that is done already calls back at once
	defer s.mu.Unlock()
	s.unhook = context.AfterFunc(ctx, func() { s.end(contextError(ctx), true) })
	handle := &Stream{s}
	s.watch = goruntime.AddCleanup(handle, func(s *stream) { s.settle(errStreamDropped, true) }, s) // nobody can be reading
	return handle, &StreamWriter{s}
}

// contextError is why ctx ended. A cause of the caller's own is told beside the
// context's error, unless it wraps that, so that both match and a deadline stays one.
func contextError(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if !errors.Is(cause, err) {
		cause = fmt.Errorf("%w: %w", err, cause)
	}
	return NewError(CodeCanceled, cause)
}

// Recv waits for the next event. It returns io.EOF after the finish event, or
// the [*Error] that ended the stream.
func (s *Stream) Recv() (ev Event, err error) {
	err = s.s.recv(&ev)
	goruntime.KeepAlive(s) // while a call waits, somebody has the stream
	return ev, err
}

func (s *stream) recv(ev *Event) error {
	var beat <-chan time.Time
	for {
		s.mu.Lock()
		if s.n > 0 {
			s.pop(ev)
			enough := s.took()
			s.mu.Unlock()
			if enough {
				s.notify()
			}
			return nil
		}
		err := s.err
		s.mu.Unlock()
		if err != nil {
			return err
		}
		if s.heartbeat == 0 {
			<-s.ready
			continue
		}
		if beat == nil {
			beat = s.nextBeat()
		}
		select {
		case <-s.ready:
		case <-beat:
			ev.Kind = EventHeartbeat
			return nil
		}
	}
}

// nextBeat winds the timer up. It isn't stopped when an event comes first: a
// timer that nobody waits for costs nothing.
func (s *stream) nextBeat() <-chan time.Time {
	if s.beat == nil {
		s.beat = time.NewTimer(s.heartbeat)
	} else {
		s.beat.Reset(s.heartbeat)
	}
	return s.beat.C
}

// Drain moves the events that are ready into dst without waiting. It returns
// io.EOF, or the error that ended the stream, once nothing is left; n may be 0
// with a nil error when nothing is ready yet. It gives no heartbeats.
func (s *Stream) Drain(dst []Event) (n int, err error) {
	n, err = s.s.drain(dst)
	goruntime.KeepAlive(s)
	return n, err
}

func (s *stream) drain(dst []Event) (n int, err error) {
	s.mu.Lock()
	for n < len(dst) && s.n > 0 {
		s.pop(&dst[n])
		n++
	}
	if n == 0 && s.n == 0 {
		err = s.err
	}
	enough := n > 0 && s.took()
	s.mu.Unlock()
	if enough {
		s.notify()
	}
	return n, err
}

// Ready has a value when Drain may have something new, an event or the end. It
// lets a reader wait for the stream and for something else in one select. Wait
// on it only after Drain returned 0 and no error: one value may stand for many
// events, and for none. It is never closed.
func (s *Stream) Ready() <-chan struct{} { return s.s.ready }

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
	s.s.end(errStreamClosed, true)
	return nil
}

// end is settle for a stream that somebody may be reading.
func (s *stream) end(err error, abandoned bool) {
	s.settle(err, abandoned)
	s.wake()
}

// settle decides how the stream ends, once. Events that are already there stay
// readable unless the reader's side gave them up.
func (s *stream) settle(err error, abandoned bool) {
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
	if first {
		s.unwatch()
		if abandoned {
			s.notify()
		}
	}
}

// unwatch lets go of what could have ended the stream.
func (s *stream) unwatch() {
	s.unhook()
	s.watch.Stop()
}

func (s *stream) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

func (s *stream) pop(ev *Event) {
	*ev = s.ring[s.head]
	s.ring[s.head] = Event{}
	s.head = (s.head + 1) % len(s.ring)
	s.n--
}

// took reports, after the reader took something, whether the writer is to be
// told that it has the room it waits for.
func (s *stream) took() bool {
	if s.want == 0 {
		return false
	}
	if len(s.ring)-s.n < s.want {
		s.read = time.Now()
		return false
	}
	s.want = 0
	return true
}

// waitFor has the writer told when there is so much room.
func (s *stream) waitFor(room int) {
	room = min(room, len(s.ring))
	if s.want == 0 || room < s.want {
		s.want = room
	}
}

// TrySend appends an event if there is room and the stream hasn't ended. After
// a refusal for lack of room, notify is called when the reader has made some. A
// finish event ends the stream as Finish(nil) does: a reader who closes the stream
// at it, or a context that ends then, doesn't make less of a complete answer.
func (w *StreamWriter) TrySend(ev Event) bool {
	s := w.s
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return false
	}
	if s.n == len(s.ring) {
		s.waitFor(1)
		s.mu.Unlock()
		return false
	}
	s.ring[(s.head+s.n)%len(s.ring)] = ev
	s.n++
	finish := ev.Kind == EventFinish
	if finish {
		s.err, s.first = io.EOF, io.EOF
	}
	s.mu.Unlock()
	if finish {
		s.unwatch()
	}
	s.wake()
	return true
}

// Room is how many events can be sent now, 0 once the stream has ended. When
// it returns less than need, notify is called when the reader has made that much.
func (w *StreamWriter) Room(need int) int {
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0
	}
	room := len(s.ring) - s.n
	if room < need {
		s.waitFor(need)
	}
	return room
}

// unread is how many events the reader hasn't taken.
func (w *StreamWriter) unread() int {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	return w.s.n
}

// held reports whether the reader is behind, given whether it was; a stream that
// has ended is. If so, notify is called when the reader has taken enough, and read is
// when it last took something, if it did since it is behind.
func (w *StreamWriter) held(marks water, was bool) (held bool, read time.Time) {
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return true, time.Time{}
	case s.n <= marks.low, s.n < marks.high && !was:
		return false, time.Time{}
	case !was:
		s.read = time.Time{}
	}
	s.want = len(s.ring) - marks.low
	return true, s.read
}

// Ended reports whether the stream is over: finished, closed by its reader, or
// its context done.
func (w *StreamWriter) Ended() bool {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	return w.s.err != nil
}

// Err is what ended the stream first, io.EOF for a good end, nil where nothing has.
func (w *StreamWriter) Err() error {
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

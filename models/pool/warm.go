package pool

import (
	"context"
	"fmt"
	"os"
	"sync"
)

// Span is bytes of one of a handle's parts.
type Span struct {
	Part          int
	Offset, Bytes int64
}

const (
	// warmPiece is how much is read at a time: a few huge pages.
	warmPiece = 4 << 20
	// warmReaders read at the same time, so that the disk has something to do
	// while pages are being mapped.
	warmReaders = 4
)

// Warm reads spans into memory and maps their pages, in their order, so that
// computing can follow close behind. It stops early, without an error, where
// pages of other files would have to leave. Progress, if it isn't nil, is called
// on the caller's goroutine with the bytes that have been read so far.
//
// A file that was cut, or whose disk fails, is [ErrFault]. The handle must not be
// closed before Warm has returned.
func (h *Handle) Warm(ctx context.Context, spans []Span, progress func(done int64)) error {
	for _, s := range spans {
		if s.Part < 0 || s.Part >= len(h.parts) || s.Offset < 0 || s.Bytes < 0 || s.Offset > int64(len(h.parts[s.Part]))-s.Bytes {
			return fmt.Errorf("part %d of %d has no bytes [%d, +%d)", s.Part, len(h.parts), s.Offset, s.Bytes)
		}
	}
	if h.maps == nil {
		return ctx.Err()
	}
	w := warming{handle: h, spans: spans, read: make(chan int64)}
	w.ctx, w.stop = context.WithCancelCause(ctx)
	var readers sync.WaitGroup
	for range warmReaders {
		readers.Go(w.run)
	}
	go func() {
		readers.Wait()
		close(w.read)
	}()
	defer func() { // also where progress panics
		w.stop(nil)
		for range w.read {
			continue // the readers end
		}
	}()
	done := int64(0)
	for n := range w.read {
		done += n
		if progress != nil {
			progress(done)
		}
	}
	if err := context.Cause(w.ctx); err != errNoRoom { //nolint:errorlint // the very value
		return err
	}
	return ctx.Err()
}

// warming is one call of Warm.
type warming struct {
	handle *Handle
	ctx    context.Context
	stop   context.CancelCauseFunc
	read   chan int64 // bytes of the pieces that are done

	mu    sync.Mutex
	spans []Span // what is left
	at    int64  // of the first one has been taken
}

// run reads pieces until there are no more.
func (w *warming) run() {
	defer func() {
		if r := recover(); r != nil { // it has no caller to hear of it otherwise
			w.stop(fmt.Errorf("internal error: %v", r))
		}
	}()
	for w.ctx.Err() == nil {
		s, ok := w.next()
		if !ok {
			return
		}
		m := w.handle.maps[s.Part]
		if !w.handle.in.enterIfRoom(w.handle, m) {
			w.stop(errNoRoom)
			return
		}
		from := s.Offset &^ int64(os.Getpagesize()-1)
		err := populate(m.bytes[from : s.Offset+s.Bytes])
		w.handle.in.leave([]*mapping{m})
		if err != nil {
			w.stop(err)
			return
		}
		w.read <- s.Bytes
	}
}

// next takes the next piece.
func (w *warming) next() (Span, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.spans) > 0 {
		s := w.spans[0]
		s.Offset += w.at
		s.Bytes -= w.at
		if s.Bytes > warmPiece {
			w.at += warmPiece
			s.Bytes = warmPiece
			return s, true
		}
		w.spans, w.at = w.spans[1:], 0
		if s.Bytes > 0 {
			return s, true
		}
	}
	return Span{}, false
}

// touch reads a byte of each page.
func touch(b []byte) error {
	return Guard(func() error {
		sum := byte(0)
		for i := 0; i < len(b); i += os.Getpagesize() {
			sum += b[i]
		}
		touched(sum)
		return nil
	})
}

// touched keeps reads from being optimised away.
//
//go:noinline
func touched(byte) {}

package runtime

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/dunlin-go/dunlin/models/pool"
)

// WarmUp is when a model's weights are read into memory.
type WarmUp uint8

// The ways for [WithWarmUp]. Whichever it is, weights are read in the order in
// which a forward pass needs them, and no further than there is room without
// taking other models' pages.
const (
	// WarmUpBackground, the default, reads while Load and the first requests go on:
	// they wait for the weights they need at most.
	WarmUpBackground WarmUp = iota
	// WarmUpWait has Load return when the weights are in memory.
	WarmUpWait
	// WarmUpNone reads what requests touch, when they do.
	WarmUpNone
)

// WithWarmUp sets when the weights are read into memory.
func WithWarmUp(w WarmUp) Option {
	return func(o *options) error {
		if w > WarmUpNone {
			return fmt.Errorf("no warm-up %d", w)
		}
		o.warmUp = w
		return nil
	}
}

// WithProgress has [Load] wait for the weights, as [WarmUpWait] does, and call f on
// its own goroutine with the bytes that are in memory and those that all weights
// have: at first, whenever more has been read, and at the end, when there may be
// fewer than all for want of room. Load's context ends the wait and the reading.
func WithProgress(f func(done, total int64)) Option {
	return func(o *options) error {
		if f == nil {
			return errors.New("the progress function is nil")
		}
		o.progress, o.warmUp = f, WarmUpWait
		return nil
	}
}

// warming reads a model's weights while others go on, at the first time and whenever
// they have gone. It may be begun again when it is over.
type warming struct {
	handle *pool.Handle
	spans  []pool.Span
	total  int64

	read atomic.Int64
	more chan struct{} // has a token when more has been read
	err  error         // valid when done is closed
	stop context.CancelFunc
	done chan struct{}
}

func newWarming(h *pool.Handle, spans []pool.Span) *warming {
	w := &warming{handle: h, spans: spans, stop: func() {}, done: make(chan struct{})}
	for _, s := range spans {
		w.total += s.Bytes
	}
	close(w.done)
	return w
}

func (w *warming) begin() {
	ctx, stop := context.WithCancel(context.Background())
	w.stop, w.done, w.more = stop, make(chan struct{}), make(chan struct{}, 1)
	w.read.Store(0)
	go func() {
		defer close(w.done)
		w.err = guarded(CodeInternal, func() error { return w.handle.Warm(ctx, w.spans, w.progress) })
	}()
}

func (w *warming) progress(read int64) {
	w.read.Store(read)
	select {
	case w.more <- struct{}{}:
	default:
	}
}

func (w *warming) over() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// wait waits until all has been read and tells report how far that is.
func (w *warming) wait(ctx context.Context, report func(done, total int64)) error {
	report(w.read.Load(), w.total)
	for {
		select {
		case <-w.more:
			report(w.read.Load(), w.total)
		case <-w.done:
			report(w.read.Load(), w.total)
			return w.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// close ends it and waits until it has ended.
func (w *warming) close() {
	if w != nil {
		w.stop()
		<-w.done
	}
}

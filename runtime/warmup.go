package runtime

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dunlin-go/dunlin/models"
	"github.com/dunlin-go/dunlin/models/gguf"
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

// WithKeepAlive unmaps the weights when no request has needed them for d, and gives
// the memory of computed prompts back ([WithPrefixIdle]). The next request brings
// them back: it takes page faults, and the disk only where the system had other
// use for its cache. By default weights stay mapped until [SetResidentLimit] is
// reached. It works on Linux; elsewhere the weights stay.
func WithKeepAlive(d time.Duration) Option {
	return func(o *options) error {
		if d <= 0 {
			return fmt.Errorf("the keep-alive time is %v, it must be above zero", d)
		}
		o.keepAlive = d
		return nil
	}
}

// WithPinned keeps the weights mapped and in memory whatever [SetResidentLimit] says.
// It doesn't lock them: the system may still take pages of files that nobody uses.
func WithPinned() Option {
	return func(o *options) error {
		o.pinned = true
		return nil
	}
}

// warming reads a model's weights while others go on.
type warming struct {
	total int64
	read  atomic.Int64
	more  chan struct{} // has a token when more has been read
	err   error         // valid when done is closed
	stop  context.CancelFunc
	done  chan struct{}
}

// warm begins to read the weights of a file, as the options say.
func (m *Model) warm(f *gguf.File, o *options) error {
	if o.warmUp == WarmUpNone {
		return nil
	}
	spans, err := models.FirstUse(f, m.lease)
	if err != nil {
		return err
	}
	w := &warming{more: make(chan struct{}, 1), done: make(chan struct{})}
	for _, s := range spans {
		w.total += s.Bytes
	}
	ctx, stop := context.WithCancel(context.Background())
	w.stop, m.warming = stop, w
	go func() {
		defer close(w.done)
		w.err = guarded(CodeInternal, func() error { return m.handle.Warm(ctx, spans, w.progress) })
	}()
	return nil
}

func (w *warming) progress(read int64) {
	w.read.Store(read)
	select {
	case w.more <- struct{}{}:
	default:
	}
}

// wait waits until the weights have been read and tells report how far that is,
// if it isn't nil.
func (w *warming) wait(ctx context.Context, report func(done, total int64)) error {
	if report == nil {
		report = func(int64, int64) {}
	}
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

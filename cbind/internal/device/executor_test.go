package device

import (
	"context"
	"errors"
	"sync"
	"testing"
)

// TestCallCancelled: a call that is given up while it waits isn't made, and one that runs has its
// result discarded.
func TestCallCancelled(t *testing.T) {
	e := NewExecutor()
	defer e.Stop()
	ctx, cancel := context.WithCancel(t.Context())
	begun, goOn, discarded := make(chan struct{}), make(chan struct{}), make(chan int, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := Call(ctx, e, func() (int, error) {
			close(begun)
			<-goOn
			return 7, nil
		}, func(n int) { discarded <- n })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the call that ran gave %v", err)
		}
	})
	<-begun
	wg.Go(func() {
		_, err := Call(ctx, e, func() (int, error) {
			t.Error("a call that was given up was made")
			return 0, nil
		}, nil)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the call that waited gave %v", err)
		}
	})
	cancel()
	wg.Wait()
	close(goOn)
	if n := <-discarded; n != 7 {
		t.Errorf("%d was discarded", n)
	}
	if n, err := Must(e, func() (int, error) { return 3, nil }); n != 3 || err != nil {
		t.Errorf("afterwards: %d, %v", n, err)
	}
}

// TestCallBusy: the queue is bounded.
func TestCallBusy(t *testing.T) {
	e := NewExecutor()
	defer e.Stop()
	goOn, begun := make(chan struct{}), make(chan struct{})
	e.Post(func() { close(begun); <-goOn })
	<-begun
	for range maxWaiting {
		e.Post(func() {})
	}
	if _, err := Call(t.Context(), e, func() (int, error) { return 0, nil }, nil); !errors.Is(err, ErrBusy) {
		t.Errorf("a full queue gave %v", err)
	}
	close(goOn)
}

// TestCallStopped: calls of a stopped executor end, those that wait as well; panics are errors.
func TestCallStopped(t *testing.T) {
	e := NewExecutor()
	if _, err := Must(e, func() (int, error) { panic("oh") }); !errors.Is(err, errPanic) {
		t.Errorf("a panic gave %v", err)
	}
	goOn, begun := make(chan struct{}), make(chan struct{})
	e.Post(func() { close(begun); <-goOn })
	<-begun
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := Call(t.Context(), e, func() (int, error) { return 1, nil }, nil); err != nil && !errors.Is(err, ErrClosed) {
				t.Errorf("a stopped executor gave %v", err)
			}
		})
	}
	e.Stop()
	close(goOn)
	wg.Wait()
	<-e.Done()
	if _, err := Must(e, func() (int, error) { return 1, nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("a stopped executor gave %v", err)
	}
}

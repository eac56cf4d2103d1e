package runtime

import (
	"context"

	"github.com/dunlin-go/dunlin/internal/exec"
)

// takeWeights has the pool keep the weights until Done, and begins to read them where
// they have gone. A step may run into what is still being read; but where other models
// compute, which would have to wait for the disk as well, it is read before the step
// asks for its turn.
func (e *engine) takeWeights(ctx context.Context) error {
	over := e.warming.over()
	if over && e.handle.TryUse() {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	e.setGiveUp(cancel)
	defer e.setGiveUp(func() {})
	if e.abandoned() { // before that
		return exec.ErrStopped
	}
	if err := e.waitForWeights(ctx, over); err != nil {
		if e.abandoned() {
			return exec.ErrStopped
		}
		return err
	}
	return nil
}

func (e *engine) setGiveUp(f context.CancelFunc) {
	e.mu.Lock()
	e.giveUp = f
	e.mu.Unlock()
}

func (e *engine) waitForWeights(ctx context.Context, over bool) error {
	if !e.handle.TryUse() {
		e.exec.Idle()
		fresh, err := e.handle.Use(ctx)
		if err != nil {
			return err
		}
		if fresh && over && e.rewarm {
			e.warming.begin()
		}
	}
	if e.exec.Share() == 1 {
		return nil
	}
	e.exec.Idle()
	// What can't be read is an error of the step that needs it.
	if _ = e.warming.wait(ctx, func(int64, int64) {}); ctx.Err() != nil {
		e.handle.Done()
		return ctx.Err()
	}
	return nil
}

package device

import (
	"context"
	"errors"
	"fmt"
	goruntime "runtime"
	"runtime/debug"
	"sync"
)

// maxWaiting is how many calls may wait for their turn.
const maxWaiting = 1024

// Executor runs calls one after the other on a thread of its own: Python wants the
// thread that it was started on, and each further thread that calls into torch would
// get threads of its own for computing.
type Executor struct {
	jobs chan *job
	quit chan struct{}
	once sync.Once
	done chan struct{}
}

// job is a call. Whoever moves it out of waiting decides what becomes of it.
type job struct {
	run  func()
	done chan struct{}

	mu    sync.Mutex
	state jobState
}

type jobState uint8

const (
	waiting jobState = iota
	running
	finished
	abandoned // nobody waits for it
)

// NewExecutor starts an executor.
func NewExecutor() *Executor {
	e := &Executor{jobs: make(chan *job, maxWaiting), quit: make(chan struct{}), done: make(chan struct{})}
	go e.loop()
	return e
}

// Stop ends it after the call that runs; calls that wait get [ErrClosed]. It doesn't wait.
func (e *Executor) Stop() { e.once.Do(func() { close(e.quit) }) }

// Done is closed when it has ended.
func (e *Executor) Done() <-chan struct{} { return e.done }

func (e *Executor) loop() {
	goruntime.LockOSThread() // for good: the thread ends with the loop
	defer close(e.done)
	for {
		select {
		case <-e.quit:
			return
		case j := <-e.jobs:
			if j.enter() {
				j.run()
				close(j.done)
			}
		}
	}
}

// enter begins the job, unless nobody waits for it any more.
func (j *job) enter() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.state == abandoned {
		return false
	}
	j.state = running
	return true
}

// finish ends the job and reports whether somebody takes its result.
func (j *job) finish() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	wanted := j.state == running
	j.state = finished
	return wanted
}

// abandon reports whether the job will have no result for its caller; false: it is there.
func (j *job) abandon() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.state == finished {
		return false
	}
	j.state = abandoned
	return true
}

// Call runs f on the executor's thread and gives its result. Where ctx ends first
// discard gets the result, if there will be one. If too many wait it is [ErrBusy].
func Call[T any](ctx context.Context, e *Executor, f func() (T, error), discard func(T)) (T, error) {
	var none, result T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	var err error
	j := &job{done: make(chan struct{})}
	j.run = func() {
		result, err = Guarded(f)
		if !j.finish() && err == nil && discard != nil {
			discard(result)
		}
	}
	select {
	case e.jobs <- j:
	default:
		return none, ErrBusy
	}
	select {
	case <-j.done:
		return result, err
	case <-ctx.Done():
		if j.abandon() {
			return none, ctx.Err()
		}
		<-j.done // at once
		return result, err
	case <-e.done:
		if j.abandon() {
			return none, ErrClosed
		}
		return result, err
	}
}

// Must is Call for what can't be given up: it waits for a place, too.
func Must[T any](e *Executor, f func() (T, error)) (result T, err error) {
	j := &job{done: make(chan struct{})}
	j.run = func() {
		result, err = Guarded(f)
		j.finish()
	}
	select {
	case e.jobs <- j:
	case <-e.done:
		return result, ErrClosed
	}
	select {
	case <-j.done:
	case <-e.done:
		if j.abandon() {
			var none T
			return none, ErrClosed
		}
	}
	return result, err
}

// Post has f run without waiting for it. It is dropped when the executor ends first.
func (e *Executor) Post(f func()) {
	j := &job{done: make(chan struct{}), run: f}
	select {
	case e.jobs <- j:
	default:
		go func() { // the queue moves on
			select {
			case e.jobs <- j:
			case <-e.done:
			}
		}()
	}
}

var errPanic = errors.New("internal error in the transformers backend")

// Guarded makes an error of a panic in f.
func Guarded[T any](f func() (T, error)) (result T, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v\n%s", errPanic, r, debug.Stack())
		}
	}()
	return f()
}

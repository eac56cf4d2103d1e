package exec

import (
	"errors"
	"fmt"
	"runtime/debug"
)

var (
	// ErrStopped is what Step returns when the step ended before its work was
	// done because somebody asked for that, by Stop or by ending its context. In
	// the second case the error matches the context's cause as well.
	ErrStopped = errors.New("exec: step stopped")
	// ErrClosed is what Step returns after Close.
	ErrClosed = errors.New("exec: executor closed")
)

// FaultError reports that a step touched memory that isn't there: most often a
// mapping whose file has become shorter since it was mapped.
type FaultError struct {
	Addr  uintptr // what was touched, as far as the platform tells
	Stack []byte  // of the goroutine that touched it
	err   error   // the runtime.Error
}

// Error names the address.
func (e *FaultError) Error() string {
	return fmt.Sprintf("exec: memory fault at %#x", e.Addr)
}

// Unwrap is the runtime.Error that the fault was raised with.
func (e *FaultError) Unwrap() error { return e.err }

// PanicError reports a panic of a step's function or of one of its tasks.
type PanicError struct {
	Value any
	Stack []byte // of the goroutine that panicked
}

// Error gives the value, not the stack.
func (e *PanicError) Error() string { return fmt.Sprintf("exec: panic: %v", e.Value) }

// Unwrap is the value if that is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// errGoexit is the Value of a PanicError for a task that left its goroutine
// by runtime.Goexit.
var errGoexit = errors.New("a task called runtime.Goexit")

// caught makes an error of a recovered value. It is called by the deferred
// function that recovered it, when the stack still shows where it came from.
func caught(v any) error {
	type fault interface {
		error
		RuntimeError()
		Addr() uintptr
	}
	if f, ok := v.(fault); ok {
		return &FaultError{Addr: f.Addr(), Stack: debug.Stack(), err: f}
	}
	return &PanicError{Value: v, Stack: debug.Stack()}
}

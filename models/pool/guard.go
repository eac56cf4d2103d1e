package pool

import (
	"fmt"
	"runtime/debug"
)

// Guard runs f and turns a memory fault inside it into [ErrFault]. Other
// panics go on. Only the calling goroutine is guarded.
func Guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch r := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }: // what the runtime panics with after a fault
			err = fmt.Errorf("%w (memory fault at %#x)", ErrFault, r.Addr()) // its own text speaks of a nil pointer
		default:
			panic(r)
		}
	}()
	return f()
}

package hub

import (
	"context"
	"errors"
	"os"
	"time"
)

// errLocked is what tryLock returns while somebody else has the lock.
var errLocked = errors.New("locked")

// lock waits until this process alone has the lock file and returns how to give
// it back. The system frees the lock of a process that dies; the file stays,
// because a file that others may be about to lock can't be removed safely.
// waiting is called, again and again, while somebody else has it.
func lock(ctx context.Context, path string, waiting func()) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := tryLock(f)
		if err == nil {
			return func() { f.Close() }, nil // closing unlocks
		}
		if !errors.Is(err, errLocked) {
			f.Close()
			return nil, &os.PathError{Op: "lock", Path: path, Err: err}
		}
		waiting()
		select {
		case <-tick.C:
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
		}
	}
}

package runtime

import (
	"fmt"
	"time"

	"github.com/dunlin-go/dunlin/models/pool"
)

// SetResidentLimit sets how many bytes the process should have in memory at most,
// pages of mapped weights and all the rest together. The first limit is three quarters
// of what the cgroup and the machine have. Zero or less is refused with
// [CodeInvalidRequest].
//
// Before a request would lift the process over it, the weights of models that
// compute nothing are dropped from its memory, those first that were used least
// recently. They come back with the next request, mostly from the system's page
// cache. Requests in flight lose nothing: a step waits until there is room for its
// model. A model that doesn't fit at all is computed nevertheless, while no other
// is. It works on Linux; elsewhere the limit does nothing.
func SetResidentLimit(bytes int64) error {
	if bytes < 1 {
		return invalid("resident_limit", "the resident limit is %d bytes, it must be above zero", bytes)
	}
	pool.SetResidentLimit(bytes)
	return nil
}

// Weights are the process's mapped model files at one moment.
type Weights = pool.Stats

// ReadWeights reports on the mapped files of all models. It reads the process's
// memory map, which takes some milliseconds for each gigabyte.
func ReadWeights() Weights { return pool.ReadStats() }

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

//go:build !(amd64 || arm64) || purego

package exec

import "sync/atomic"

// pause takes about as long as the instruction that stands here elsewhere. The
// loads can't be optimised away and stay on the caller's stack.
//
//go:noinline
func pause() {
	var x atomic.Uint32
	for range 32 {
		x.Load()
	}
}

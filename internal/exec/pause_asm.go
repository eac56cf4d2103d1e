//go:build (amd64 || arm64) && !purego

package exec

// pause tells the CPU that this is a spinning loop: it gives way to the other
// hardware thread of the core for some nanoseconds and saves power.
//
//go:noescape
func pause()

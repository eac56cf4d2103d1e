//go:build unix && !linux

package kvcache

import "golang.org/x/sys/unix"

const noReserve = 0

// Elsewhere MADV_DONTNEED is only a hint about the future.
const adviseFree = unix.MADV_FREE

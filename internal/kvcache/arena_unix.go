//go:build unix

package kvcache

import "golang.org/x/sys/unix"

// reserve maps n bytes of zeroed memory that is committed page by page when it
// is written. Swap isn't set aside for it: the budget is the bound.
func reserve(n int) ([]byte, error) {
	return unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|noReserve)
}

func release(b []byte) error { return unix.Munmap(b) }

// discard gives whole pages of the system's back to it. Reading them gives zeros, or
// what was there.
func discard(b []byte) error { return unix.Madvise(b, adviseFree) }

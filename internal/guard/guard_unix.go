//go:build linux || darwin

package guard

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Protected reports whether touching a byte outside a region faults.
const Protected = true

// pages maps n bytes in whole pages, with margins that can't be touched.
func pages(tb testing.TB, n int) (all []byte, margin int) {
	tb.Helper()
	page := unix.Getpagesize()
	size := (max(n, 1) + page - 1) / page * page
	all, err := unix.Mmap(-1, 0, size+2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		tb.Fatalf("guard: map %d bytes: %v", size+2*page, err)
	}
	tb.Cleanup(func() {
		if err := unix.Munmap(all); err != nil {
			tb.Errorf("guard: unmap: %v", err)
		}
	})
	for _, b := range [...][]byte{all[:page], all[page+size:]} {
		if err := unix.Mprotect(b, unix.PROT_NONE); err != nil {
			tb.Fatalf("guard: protect: %v", err)
		}
	}
	return all, page
}

package kvcache

import (
	"unsafe"

	"golang.org/x/sys/windows"
)

// reserve commits n bytes; Windows backs them with memory when they are first
// touched.
func reserve(n int) ([]byte, error) {
	p, err := windows.VirtualAlloc(0, uintptr(n), windows.MEM_RESERVE|windows.MEM_COMMIT, windows.PAGE_READWRITE)
	if err != nil {
		return nil, err
	}
	// The memory is not Go's: it stays where it is until release.
	return unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&p))), n), nil
}

func release(b []byte) error {
	return windows.VirtualFree(uintptr(unsafe.Pointer(unsafe.SliceData(b))), 0, windows.MEM_RELEASE)
}

// memReset tells that a range's content is of no interest any more; it stays committed.
const memReset = 0x00080000

// discard gives the memory between two offsets back to the system, as far as it
// is whole pages of the system's.
func discard(arena []byte, from, to int64) error {
	size := int64(windows.Getpagesize())
	from, to = (from+size-1)/size*size, to/size*size
	if from >= to {
		return nil
	}
	_, err := windows.VirtualAlloc(uintptr(unsafe.Pointer(&arena[from])), uintptr(to-from), memReset, windows.PAGE_READWRITE)
	return err
}

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

// discard gives whole pages of the system's back to it.
func discard(b []byte) error {
	_, err := windows.VirtualAlloc(uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), memReset, windows.PAGE_READWRITE)
	return err
}

//go:build linux && (amd64 || arm64)

package ffi

import (
	"testing"
	"unsafe"

	"github.com/ebitengine/purego"
)

// TestArgumentsStay: what a function is to write to lies still while the stack that calls
// it grows and moves.
func TestArgumentsStay(t *testing.T) {
	writes := purego.NewCallback(func(at *uint64, _ *cError) uintptr {
		grow(1 << 10)
		*at = 42
		return 0
	})
	nothing := purego.NewCallback(func(*cText) uintptr { return 0 })
	lib := &library{releaseText: nothing}
	d := &Device{lib: lib}
	got := make(chan uint64)
	for name, call := range map[string]func(){
		"call": func() {
			at := new(uint64)
			if err := lib.call(writes, uintptr(unsafe.Pointer(at))); err != nil {
				t.Error(err)
			}
			got <- *at
		},
		"text": func() {
			at := new(uint64)
			if _, err := d.text(writes, uintptr(unsafe.Pointer(at))); err != nil {
				t.Error(err)
			}
			got <- *at
		},
	} {
		go call() // its stack is a small one
		if n := <-got; n != 42 {
			t.Errorf("%s: the function wrote 42, there is %d", name, n)
		}
	}
}

// grow makes the stack larger than any goroutine begins with.
func grow(depth int) byte {
	var frame [256]byte
	if depth > 0 {
		frame[depth%len(frame)] = grow(depth - 1)
	}
	return frame[0]
}

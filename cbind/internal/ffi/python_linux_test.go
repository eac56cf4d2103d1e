//go:build linux && (amd64 || arm64)

package ffi

import (
	"errors"
	goruntime "runtime"
	"unsafe"

	"github.com/ebitengine/purego"

	"github.com/dunlin-go/dunlin/cbind/internal/device"
)

// Python runs code on the interpreter's thread, past all of the bridge. What it raises is
// on stderr.
func (d *Device) Python(code string) error {
	var ensure, release, run uintptr
	for name, f := range map[string]*uintptr{"PyGILState_Ensure": &ensure, "PyGILState_Release": &release, "PyRun_SimpleStringFlags": &run} {
		var err error
		if *f, err = purego.Dlsym(purego.RTLD_DEFAULT, name); err != nil {
			return err
		}
	}
	text := cBytes(code)
	_, err := device.Must(d.exec, func() (struct{}, error) {
		var pin goruntime.Pinner
		defer pin.Unpin()
		pin.Pin(&text[0])
		state, _, _ := purego.SyscallN(ensure)
		r, _, _ := purego.SyscallN(run, uintptr(unsafe.Pointer(&text[0])), 0)
		purego.SyscallN(release, state)
		if int32(r) != 0 {
			return struct{}{}, errors.New("the code raised an exception")
		}
		return struct{}{}, nil
	})
	return err
}

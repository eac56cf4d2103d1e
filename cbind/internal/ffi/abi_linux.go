//go:build linux && (amd64 || arm64)

package ffi

import (
	"fmt"
	"unsafe"

	"github.com/ebitengine/purego"

	"github.com/dunlin-go/dunlin/cbind/internal/device"
)

// What follows mirrors transformers.h. All of it lies on the heap while C sees it: a
// stack moves when it grows, before the call or in a callback. The functions that take
// addresses say so by go:uintptrescapes, which holds for conversions in their arguments.
const (
	abiVersion = 1
	maxDims    = 4

	typeF32, typeF16, typeBF16, typeI32, typeI64, typeU8 = 1, 2, 3, 4, 5, 6

	addSpecial, parseSpecial, skipSpecial = 1, 2, 4
)

type cError struct {
	kind    [64]byte
	message [960]byte
}

type cTensor struct {
	data  unsafe.Pointer
	shape [maxDims]int64
	ndim  int32
	dtype int32
}

type cOutput struct {
	data    unsafe.Pointer // not Go's
	shape   [maxDims]int64
	ndim    int32
	dtype   int32
	owner   uintptr
	inputAt uint64
}

type cText struct {
	data  unsafe.Pointer // not Go's
	size  uintptr
	owner uintptr
}

type cConfig struct {
	python  unsafe.Pointer
	threads int32
}

type cWeight struct {
	name   unsafe.Pointer
	tensor cTensor
}

type cRow struct {
	sequence uint64
	past     int64
	tokens   cTensor
}

// library has the addresses of libtransformers' functions.
type library struct {
	init, shutdown, open, closeModel, infer, step, drop, generate uintptr
	encode, decode, template, vocabulary                          uintptr
	release, releaseText, borrowed                                uintptr

	err cError // of the call that runs
}

// loadLibrary opens libtransformers and looks its functions up.
func loadLibrary(path string) (*library, error) {
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, &device.SetupError{What: "the bridge's library can't be loaded", Err: err}
	}
	var version uintptr
	lib := &library{}
	for name, f := range map[string]*uintptr{
		"abi_version": &version, "init": &lib.init, "shutdown": &lib.shutdown, "open": &lib.open, "close": &lib.closeModel,
		"infer_sync": &lib.infer, "step": &lib.step, "drop": &lib.drop, "generate": &lib.generate, "encode": &lib.encode,
		"decode": &lib.decode, "chat_template": &lib.template, "vocabulary": &lib.vocabulary, "release": &lib.release,
		"release_text": &lib.releaseText, "borrowed": &lib.borrowed,
	} {
		if *f, err = purego.Dlsym(handle, "transformers_"+name); err != nil {
			return nil, &device.SetupError{What: "the bridge's library is another one than this program needs", Err: err}
		}
	}
	if v, _, _ := purego.SyscallN(version); uint32(v) != abiVersion {
		return nil, &device.SetupError{What: fmt.Sprintf("the bridge's library has version %d of its interface, this program needs %d", uint32(v), abiVersion)}
	}
	return lib, nil
}

// call calls a function whose last parameter is the error.
//
//go:uintptrescapes
func (l *library) call(f uintptr, args ...uintptr) error {
	r, _, _ := purego.SyscallN(f, append(args, uintptr(unsafe.Pointer(&l.err)))...)
	status := device.Status(int32(r))
	if status == device.OK {
		return nil
	}
	return &device.Error{Status: status, Type: cString(l.err.kind[:]), Message: cString(l.err.message[:])}
}

// cString copies what stands before the zero byte.
func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// cBytes is a text with a zero byte behind it.
func cBytes(s string) []byte { return append([]byte(s), 0) }

// address is that of b's first byte, nil for none.
func address[T any](b []T) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }

// ids32 describes token ids where they lie.
func ids32(ids []int32, rows int) cTensor {
	if rows == 1 {
		return cTensor{data: address(ids), shape: [maxDims]int64{int64(len(ids))}, ndim: 1, dtype: typeI32}
	}
	return cTensor{data: address(ids), shape: [maxDims]int64{int64(rows), int64(len(ids) / rows)}, ndim: 2, dtype: typeI32}
}

// elements is the number of elements.
func (o *cOutput) elements() int {
	n := int64(1)
	for _, d := range o.shape[:o.ndim] {
		n *= d
	}
	return int(n)
}

// view shows an output as a slice, which is valid until the output is released.
func view[T any](o *cOutput, dtype int32) ([]T, error) {
	n := o.elements()
	if o.dtype != dtype {
		return nil, fmt.Errorf("the bridge gave a tensor of type %d, not %d", o.dtype, dtype)
	}
	if n == 0 {
		return nil, nil
	}
	return unsafe.Slice((*T)(o.data), n), nil
}

func (t *cText) bytes() []byte { return unsafe.Slice((*byte)(t.data), t.size) }

//go:build linux && (amd64 || arm64)

package ffi

import (
	"errors"
	goruntime "runtime"
	"unsafe"

	"github.com/dunlin-go/dunlin/cbind/internal/device"
	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/models/gguf"
	"github.com/dunlin-go/dunlin/models/pool"
	"github.com/dunlin-go/dunlin/tensor"
)

// weights are tensors of a mapped file that torch may use where they lie.
type weights struct {
	handle *pool.Handle
	lent   []cWeight
	names  [][]byte
}

// retired are mappings of closed models that torch still refers to. They belong to
// the executor's thread.
var retired []*pool.Handle

// mapWeights maps a GGUF file and lists its tensors of types that torch has. A
// directory has none.
func mapWeights(path string) (*weights, error) {
	paths, err := gguf.PartPaths(path)
	if err != nil {
		return nil, &device.Error{Status: device.Invalid, Message: err.Error()}
	}
	h, err := pool.OpenParts(paths, pool.Pinned()) // torch says nothing of when it uses them
	if err != nil {
		return nil, &device.Error{Status: device.NotFound, Message: err.Error()}
	}
	w := &weights{handle: h}
	lease := budget.Process().Lease()
	defer lease.Close()
	err = h.Read(func() error {
		f, err := gguf.ParseParts(h.Parts(), lease)
		if err != nil {
			return err
		}
		for t := range f.Tensors() {
			if err := w.lend(f, t); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return w, nil
}

// lend adds a tensor. It outlives the view: the handle is closed when torch has
// released what it was lent.
func (w *weights) lend(f *gguf.File, t gguf.TensorInfo) error {
	var dtype int32
	switch t.Type {
	case tensor.F32:
		dtype = typeF32
	case tensor.F16:
		dtype = typeF16
	case tensor.BF16:
		dtype = typeBF16
	default:
		return nil
	}
	data, err := f.Data(t)
	if err != nil || len(data) == 0 {
		return err
	}
	name := cBytes(t.Name)
	w.names = append(w.names, name)
	c := cWeight{name: address(name), tensor: cTensor{data: unsafe.Pointer(unsafe.SliceData(data)), ndim: int32(t.NDims), dtype: dtype}}
	for i, n := range t.Dims() {
		c.tensor.shape[t.NDims-1-i] = int64(n) // GGUF begins with the innermost
	}
	w.lent = append(w.lent, c)
	return nil
}

func (w *weights) list() []cWeight {
	if w == nil {
		return nil
	}
	return w.lent
}

// pin keeps the names where they are.
func (w *weights) pin(p *goruntime.Pinner) {
	if w == nil {
		return
	}
	for _, n := range w.names {
		p.Pin(&n[0])
	}
}

// close unmaps the file, and those retired before it, if torch refers to no lent
// tensor at all.
func (w *weights) close(borrowed int64) error {
	if w == nil {
		return nil
	}
	retired = append(retired, w.handle)
	if borrowed > 0 {
		return nil
	}
	var errs []error
	for _, h := range retired {
		errs = append(errs, h.Close())
	}
	retired = nil
	return errors.Join(errs...)
}

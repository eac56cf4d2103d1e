//go:build linux && (amd64 || arm64)

package ffi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	goruntime "runtime"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/ebitengine/purego"

	"github.com/dunlin-go/dunlin/cbind/internal/device"
)

// process is the interpreter of this process: Python can be started once.
var process struct {
	mu    sync.Mutex
	paths device.Paths
	dev   *Device
	err   error
}

// Device is libtransformers in this process.
type Device struct {
	exec *device.Executor
	lib  *library

	// The executor's own.
	rows     []cRow
	listener func(id int32) bool
}

// Start loads the library and starts the interpreter, the first time. threads is what
// torch computes with, 0 for its own choice; it can't be changed later.
func Start(paths device.Paths, threads int) (*Device, error) {
	process.mu.Lock()
	defer process.mu.Unlock()
	if process.dev != nil || process.err != nil {
		if paths.Library != process.paths.Library {
			return nil, &device.SetupError{What: "this process has started " + process.paths.Library + " and can't start " + paths.Library}
		}
		return process.dev, process.err
	}
	lib, err := loadLibrary(paths.Library)
	if err != nil {
		return nil, err // nothing has been started: it may be there the next time
	}
	d := &Device{exec: device.NewExecutor(), lib: lib}
	_, err = device.Must(d.exec, func() (struct{}, error) {
		python := cBytes(paths.Python)
		var pin goruntime.Pinner
		defer pin.Unpin()
		pin.Pin(&python[0])
		config := &cConfig{python: address(python), threads: int32(threads)}
		return struct{}{}, lib.call(lib.init, uintptr(unsafe.Pointer(config)))
	})
	process.paths = paths
	if err != nil {
		d.exec.Stop()
		process.err = &device.SetupError{What: "Transformers doesn't start", Err: err}
		return nil, process.err
	}
	process.dev = d
	return d, nil
}

// Shutdown closes all models and ends the interpreter, if it was started. It can't be
// started again.
func Shutdown() error {
	process.mu.Lock()
	defer process.mu.Unlock()
	d := process.dev
	if d == nil {
		return nil
	}
	_, err := device.Must(d.exec, func() (struct{}, error) { return struct{}{}, d.lib.call(d.lib.shutdown) })
	process.dev, process.err = nil, device.ErrClosed
	return err
}

// model is one of the interpreter's.
type model struct {
	d      *Device
	id     uint64
	info   device.Info
	share  bool
	weight *weights // that torch uses where they lie

	closed    atomic.Bool
	closeOnce sync.Once
	closeErr  error
}

// Open implements [device.Device].
func (d *Device) Open(ctx context.Context, path string, o device.Options) (device.Model, error) {
	if strings.ContainsRune(path, 0) {
		return nil, &device.Error{Status: device.Invalid, Message: "the path has a zero byte in it"}
	}
	options, err := json.Marshal(map[string]string{"dtype": o.DType})
	if err != nil {
		return nil, err
	}
	m := &model{d: d}
	m.share = o.ShareWeights && strings.HasSuffix(path, ".gguf")
	opened, err := device.Call(ctx, d.exec, func() (*model, error) { return m, m.open(path, options) }, func(m *model) { _ = m.end() })
	if err != nil {
		return nil, err
	}
	return opened, nil
}

func (m *model) open(path string, options []byte) (err error) {
	lib := m.d.lib
	if m.share {
		if m.weight, err = mapWeights(path); err != nil {
			return err
		}
	}
	cPath, cOptions := cBytes(path), cBytes(string(options))
	list := m.weight.list()
	var pin goruntime.Pinner
	defer pin.Unpin()
	pin.Pin(&cPath[0])
	pin.Pin(&cOptions[0])
	m.weight.pin(&pin)
	id, info := new(uint64), new(cText)
	err = lib.call(lib.open, uintptr(address(cPath)), uintptr(address(cOptions)), uintptr(address(list)), uintptr(len(list)),
		uintptr(unsafe.Pointer(id)), uintptr(unsafe.Pointer(info)))
	if err != nil {
		return errors.Join(err, m.weight.close(m.d.borrowed()))
	}
	m.id = *id
	err = json.Unmarshal(info.bytes(), &m.info)
	m.d.releaseText(info)
	return err
}

// Close implements [device.Model].
func (m *model) Close() error {
	m.closeOnce.Do(func() {
		m.closed.Store(true)
		_, m.closeErr = device.Must(m.d.exec, func() (struct{}, error) { return struct{}{}, m.end() })
	})
	return m.closeErr
}

// end closes the model, on the executor's thread. Weights that torch still refers to,
// for whatever reason, stay mapped.
func (m *model) end() error {
	err := m.d.lib.call(m.d.lib.closeModel, uintptr(m.id))
	if e := (*device.Error)(nil); errors.As(err, &e) && e.Status == device.NotRunning {
		err = nil // the interpreter was shut down, and its models with it
	}
	return errors.Join(err, m.weight.close(m.d.borrowed()))
}

// Info implements [device.Model].
func (m *model) Info() device.Info { return m.info }

// Lost implements [device.Model]: what this process has is lost with it.
func (m *model) Lost() (int64, error) { return 0, nil }

// Infer implements [device.Model].
func (m *model) Infer(ctx context.Context, ids []int32, rows int, kind device.Kind) (*device.Tensor, error) {
	if err := device.CheckShape(len(ids), rows); err != nil {
		return nil, &device.Error{Status: device.Invalid, Message: err.Error()}
	}
	return run(ctx, m, func() (*device.Tensor, error) {
		var pin goruntime.Pinner
		defer pin.Unpin()
		pin.Pin(&ids[0])
		in, out := &cTensor{}, &cOutput{}
		*in = ids32(ids, rows)
		if err := m.d.lib.call(m.d.lib.infer, uintptr(m.id), uintptr(unsafe.Pointer(in)), uintptr(kind), uintptr(unsafe.Pointer(out))); err != nil {
			return nil, err
		}
		return m.d.tensor(out)
	}, (*device.Tensor).Release)
}

// Step implements [device.Model].
func (m *model) Step(rows []device.Row) (*device.Tensor, error) {
	if m.closed.Load() {
		return nil, device.ErrClosed
	}
	return device.Must(m.d.exec, func() (*device.Tensor, error) {
		var pin goruntime.Pinner
		defer pin.Unpin()
		list := m.d.rows[:0]
		for _, r := range rows {
			if len(r.Tokens) == 0 {
				return nil, &device.Error{Status: device.Invalid, Message: "a row of the step has no tokens"}
			}
			pin.Pin(&r.Tokens[0])
			list = append(list, cRow{sequence: r.Sequence, past: int64(r.Past), tokens: ids32(r.Tokens, 1)})
		}
		m.d.rows = list
		defer clear(list)
		out := &cOutput{}
		if err := m.d.lib.call(m.d.lib.step, uintptr(m.id), uintptr(address(list)), uintptr(len(list)), uintptr(unsafe.Pointer(out))); err != nil {
			return nil, err
		}
		return m.d.tensor(out)
	})
}

// Drop implements [device.Model].
func (m *model) Drop(sequences []uint64) error {
	if len(sequences) == 0 || m.closed.Load() {
		return nil
	}
	_, err := device.Must(m.d.exec, func() (struct{}, error) {
		var pin goruntime.Pinner
		defer pin.Unpin()
		pin.Pin(&sequences[0])
		return struct{}{}, m.d.lib.call(m.d.lib.drop, uintptr(m.id), uintptr(address(sequences)), uintptr(len(sequences)))
	})
	return err
}

// Encode implements [device.Model].
func (m *model) Encode(ctx context.Context, text string, add, parse bool) ([]int32, error) {
	return run(ctx, m, func() ([]int32, error) {
		var pin goruntime.Pinner
		defer pin.Unpin()
		b := unsafe.Slice(unsafe.StringData(text), len(text))
		if len(b) > 0 {
			pin.Pin(&b[0])
		}
		flags := uintptr(0)
		if add {
			flags |= addSpecial
		}
		if parse {
			flags |= parseSpecial
		}
		out := &cOutput{}
		if err := m.d.lib.call(m.d.lib.encode, uintptr(m.id), uintptr(address(b)), uintptr(len(b)), flags, uintptr(unsafe.Pointer(out))); err != nil {
			return nil, err
		}
		defer m.d.release(out)
		ids, err := view[int32](out, typeI32)
		return append([]int32{}, ids...), err
	}, nil)
}

// Decode implements [device.Model].
func (m *model) Decode(ctx context.Context, ids []int32, skip bool) (string, error) {
	if len(ids) == 0 {
		return "", nil
	}
	return run(ctx, m, func() (string, error) {
		var pin goruntime.Pinner
		defer pin.Unpin()
		pin.Pin(&ids[0])
		in, flags := &cTensor{}, uintptr(0)
		*in = ids32(ids, 1)
		if skip {
			flags = skipSpecial
		}
		return m.d.text(m.d.lib.decode, uintptr(m.id), uintptr(unsafe.Pointer(in)), flags)
	}, nil)
}

// Template implements [device.Model].
func (m *model) Template(ctx context.Context, messages []byte, generationPrompt bool) (string, error) {
	return run(ctx, m, func() (string, error) {
		var pin goruntime.Pinner
		defer pin.Unpin()
		pin.Pin(&messages[0])
		prompt := uintptr(0)
		if generationPrompt {
			prompt = 1
		}
		return m.d.text(m.d.lib.template, uintptr(m.id), uintptr(address(messages)), uintptr(len(messages)), prompt)
	}, nil)
}

// Vocabulary implements [device.Model].
func (m *model) Vocabulary(ctx context.Context) (*device.Vocabulary, error) {
	return run(ctx, m, func() (*device.Vocabulary, error) {
		text, offsets, kinds := &cText{}, &cOutput{}, &cOutput{}
		if err := m.d.lib.call(m.d.lib.vocabulary, uintptr(m.id), uintptr(unsafe.Pointer(text)), uintptr(unsafe.Pointer(offsets)),
			uintptr(unsafe.Pointer(kinds))); err != nil {
			return nil, err
		}
		defer m.d.releaseText(text)
		defer m.d.release(offsets)
		defer m.d.release(kinds)
		o, err := view[int64](offsets, typeI64)
		if err != nil {
			return nil, err
		}
		k, err := view[device.TokenKind](kinds, typeU8)
		if err != nil {
			return nil, err
		}
		return &device.Vocabulary{
			Bytes: append([]byte{}, text.bytes()...), Offsets: append([]int64{}, o...), Kinds: append([]device.TokenKind{}, k...),
		}, nil
	}, nil)
}

// onToken is called by C with each token. There is one for the process: purego keeps
// callbacks for good.
var onToken = sync.OnceValue(func() uintptr {
	return purego.NewCallback(func(id int32, _ uint64) (stop uintptr) {
		defer func() {
			if recover() != nil {
				stop = 1 // a panic must not unwind C
			}
		}()
		if process.dev.listener(id) {
			return 0
		}
		return 1
	})
})

// Generate implements [device.Model].
func (m *model) Generate(ctx context.Context, ids []int32, maxTokens int, each func(id int32) bool) error {
	if len(ids) == 0 || maxTokens < 1 || maxTokens > 1<<30 {
		return &device.Error{Status: device.Invalid, Message: fmt.Sprintf("there are %d ids, and at most %d tokens are wanted", len(ids), maxTokens)}
	}
	_, err := run(ctx, m, func() (struct{}, error) {
		var pin goruntime.Pinner
		defer pin.Unpin()
		pin.Pin(&ids[0])
		in := &cTensor{}
		*in = ids32(ids, 1)
		m.d.listener = func(id int32) bool { return ctx.Err() == nil && each(id) }
		defer func() { m.d.listener = nil }()
		return struct{}{}, m.d.lib.call(m.d.lib.generate, uintptr(m.id), uintptr(unsafe.Pointer(in)), uintptr(maxTokens), onToken(), 0)
	}, nil)
	return err
}

// run makes a call of an open model.
func run[T any](ctx context.Context, m *model, f func() (T, error), discard func(T)) (T, error) {
	return device.Call(ctx, m.d.exec, func() (T, error) {
		if m.closed.Load() {
			var none T
			return none, device.ErrClosed
		}
		return f()
	}, discard)
}

// text calls a function that gives a text, whose place is the last argument.
//
//go:uintptrescapes
func (d *Device) text(f uintptr, args ...uintptr) (string, error) {
	out := &cText{}
	if err := d.lib.call(f, append(args, uintptr(unsafe.Pointer(out)))...); err != nil {
		return "", err
	}
	defer d.releaseText(out)
	return string(out.bytes()), nil
}

// tensor makes a tensor of an output.
func (d *Device) tensor(out *cOutput) (*device.Tensor, error) {
	data, err := view[float32](out, typeF32)
	if err != nil {
		d.release(out)
		return nil, err
	}
	t := &device.Tensor{Data: data, InputAt: uintptr(out.inputAt), Free: func() { d.exec.Post(func() { d.release(out) }) }}
	for _, n := range out.shape[:out.ndim] {
		t.Shape = append(t.Shape, int(n))
	}
	return t, nil
}

// borrowed is how many mapped tensors torch refers to.
func (d *Device) borrowed() int64 {
	n, _, _ := purego.SyscallN(d.lib.borrowed)
	return int64(n)
}

func (d *Device) release(out *cOutput) { purego.SyscallN(d.lib.release, uintptr(unsafe.Pointer(out))) }

func (d *Device) releaseText(t *cText) {
	purego.SyscallN(d.lib.releaseText, uintptr(unsafe.Pointer(t)))
}

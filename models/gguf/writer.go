package gguf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"github.com/dunlin-go/dunlin/tensor"
)

// Writer builds a GGUF file: keys and tensors are added in the order in which
// they are to stand, and WriteTo writes them. The same calls give the same
// bytes. What is wrong with the calls is gathered and reported by WriteTo, all
// at once.
//
// Values and data are kept, not copied, until the file is written.
type Writer struct {
	version uint32
	keys    []pair
	tensors []source
	known   map[string]int // index of a key in keys
	names   map[string]bool
	errs    []error
}

type pair struct {
	key   string
	value any
}

type source struct {
	name  string
	typ   tensor.DType
	shape []uint64
	bytes uint64
	data  io.ReaderAt
}

// NewWriter starts an empty file of version 3, little-endian, in which tensors
// are aligned to 32 bytes.
func NewWriter() *Writer {
	return &Writer{version: maxVersion, known: map[string]int{}, names: map[string]bool{}}
}

func (w *Writer) fail(format string, args ...any) {
	w.errs = append(w.errs, fmt.Errorf("gguf: "+format, args...))
}

// SetVersion chooses version 2 or 3 of the format. They differ in nothing but
// the number.
func (w *Writer) SetVersion(v uint32) {
	if v < minVersion || v > maxVersion {
		w.fail("%w: %d, versions %d to %d are written", ErrVersion, v, minVersion, maxVersion)
		return
	}
	w.version = v
}

// Set gives a key its value, which is of one of the Go types that [File.Any]
// returns or a []string. A key that was set before keeps its place. The key
// "general.alignment", an unsigned integer, also sets what the tensors are aligned to.
func (w *Writer) Set(key string, value any) {
	if err := checkValue(value, 1); err != nil {
		w.fail("key %s: %w", quote(key), err)
		return
	}
	if i, ok := w.known[key]; ok {
		w.keys[i].value = value
		return
	}
	if err := checkName(key, maxKeyBytes); err != nil {
		w.fail("key %s: %w", quote(key), err)
		return
	}
	w.known[key] = len(w.keys)
	w.keys = append(w.keys, pair{key, value})
}

// SetString gives a key a string.
func (w *Writer) SetString(key, value string) { w.Set(key, value) }

// SetBool gives a key a boolean.
func (w *Writer) SetBool(key string, value bool) { w.Set(key, value) }

// SetUint32 gives a key an integer of the type that GGUF uses for sizes.
func (w *Writer) SetUint32(key string, value uint32) { w.Set(key, value) }

// SetInt32 gives a key a signed integer.
func (w *Writer) SetInt32(key string, value int32) { w.Set(key, value) }

// SetUint64 gives a key a wide integer.
func (w *Writer) SetUint64(key string, value uint64) { w.Set(key, value) }

// SetFloat32 gives a key a float of the type that GGUF uses for parameters.
func (w *Writer) SetFloat32(key string, value float32) { w.Set(key, value) }

// SetStrings gives a key an array of strings.
func (w *Writer) SetStrings(key string, value []string) { w.Set(key, value) }

// SetInt32s gives a key an array of integers.
func (w *Writer) SetInt32s(key string, value []int32) { w.Set(key, value) }

// SetFloat32s gives a key an array of floats.
func (w *Writer) SetFloat32s(key string, value []float32) { w.Set(key, value) }

// AddTensor adds a tensor of a known type. Its shape is in GGUF's order, the
// length of a row first, and data has exactly the bytes that type and shape
// need.
func (w *Writer) AddTensor(name string, t tensor.DType, shape []uint64, data []byte) {
	if size, ok := w.addTensor(name, t, shape, bytes.NewReader(data)); ok && uint64(len(data)) != size {
		w.fail("tensor %s: %w: %v in %v takes %d bytes, not %d", quote(name), ErrFormat, shape, t, size, len(data))
	}
}

// AddTensorFrom adds a tensor whose data WriteTo reads from the start of src, as
// many bytes as type and shape need.
func (w *Writer) AddTensorFrom(name string, t tensor.DType, shape []uint64, src io.ReaderAt) {
	w.addTensor(name, t, shape, src)
}

func (w *Writer) addTensor(name string, t tensor.DType, shape []uint64, src io.ReaderAt) (size uint64, ok bool) {
	size, err := tensorBytes(t, shape)
	switch {
	case err != nil:
	case !t.Known():
		err = fmt.Errorf("%w tensor type: %v", ErrUnsupported, t)
	case w.names[name]:
		err = fmt.Errorf("%w: it is there twice", ErrFormat)
	default:
		err = checkName(name, maxNameBytes)
	}
	if err != nil {
		w.fail("tensor %s: %w", quote(name), err)
		return 0, false
	}
	w.names[name] = true
	w.tensors = append(w.tensors, source{name, t, slices.Clone(shape), size, src})
	return size, true
}

// Split deals what w has out to the writers of a model in count parts, as
// llama.cpp does: the first has all the keys, each of the others only those of
// the split, and the tensors are dealt in their order, to each part as many.
// [PartPath] names the files.
func (w *Writer) Split(count int) ([]*Writer, error) {
	if err := errors.Join(w.errs...); err != nil {
		return nil, err
	}
	if count < 1 || count > MaxParts {
		return nil, fmt.Errorf("gguf: %w: a model in %d parts, 1 to %d are possible", ErrLimit, count, MaxParts)
	}
	parts := make([]*Writer, count)
	for i := range parts {
		p := NewWriter()
		p.version = w.version
		for _, k := range w.keys {
			if i == 0 || k.key == alignmentKey {
				p.Set(k.key, k.value)
			}
		}
		p.Set(splitNoKey, uint16(i))
		p.Set(splitCountKey, uint16(count))
		p.Set(splitTensorsKey, int32(len(w.tensors)))
		for _, t := range w.tensors[i*len(w.tensors)/count : (i+1)*len(w.tensors)/count] {
			p.names[t.name] = true
			p.tensors = append(p.tensors, t)
		}
		parts[i] = p
	}
	return parts, nil
}

func checkName(name string, limit int) error {
	if len(name) > limit {
		return fmt.Errorf("%w: its name has %d bytes, at most %d are written", ErrLimit, len(name), limit)
	}
	if !utf8.ValidString(name) {
		return fmt.Errorf("%w: its name is not UTF-8", ErrFormat)
	}
	return nil
}

// checkValue refuses what a file can't hold or Parse wouldn't read.
func checkValue(v any, depth int) error {
	t, _, ok := typeOf(v)
	if !ok {
		return fmt.Errorf("%w value of Go type %T", ErrUnsupported, v)
	}
	if t == Array && depth > maxDepth {
		return fmt.Errorf("%w: arrays nested more than %d deep", ErrLimit, maxDepth)
	}
	list, _ := v.([]any)
	for _, item := range list {
		if t, _, ok := typeOf(item); ok && t != Array {
			return fmt.Errorf("%w: a []any holds arrays, not %T", ErrUnsupported, item)
		}
		if err := checkValue(item, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// WriteTo writes the file and returns how many bytes it has written. It may be
// called more than once.
func (w *Writer) WriteTo(dst io.Writer) (int64, error) {
	alignment, err := w.alignment()
	if err := errors.Join(append(w.errs[:len(w.errs):len(w.errs)], err)...); err != nil {
		return 0, err
	}
	out := &counter{w: dst}
	out.write(pad(w.head(alignment), alignment))
	for _, t := range w.tensors {
		if out.err != nil {
			break
		}
		n, err := io.Copy(out, io.NewSectionReader(t.data, 0, int64(t.bytes)))
		if err == nil && uint64(n) != t.bytes {
			err = fmt.Errorf("%w: its source has %d bytes of %d", io.ErrUnexpectedEOF, n, t.bytes)
		}
		if err != nil {
			return out.n, fmt.Errorf("gguf: tensor %s: %w", quote(t.name), err)
		}
		out.write(make([]byte, alignUp(t.bytes, alignment)-t.bytes))
	}
	if out.err != nil {
		return out.n, fmt.Errorf("gguf: %w", out.err)
	}
	return out.n, nil
}

func (w *Writer) alignment() (uint64, error) {
	i, ok := w.known[alignmentKey]
	if !ok {
		return defaultAlignment, nil
	}
	var a uint64
	switch v := w.keys[i].value.(type) {
	case uint8:
		a = uint64(v)
	case uint16:
		a = uint64(v)
	case uint32:
		a = uint64(v)
	case uint64:
		a = v
	default:
		return 0, fmt.Errorf("gguf: %w: %s is not an unsigned integer but %T", ErrFormat, alignmentKey, v)
	}
	if err := checkAlignment(a); err != nil {
		return 0, fmt.Errorf("gguf: %w", err)
	}
	return a, nil
}

// head is everything before the tensor data, not yet padded.
func (w *Writer) head(alignment uint64) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32([]byte(magic), w.version)
	b = le.AppendUint64(b, uint64(len(w.tensors)))
	b = le.AppendUint64(b, uint64(len(w.keys)))
	for _, p := range w.keys {
		b = appendString(b, p.key)
		t, _, _ := typeOf(p.value)
		b = appendValue(le.AppendUint32(b, uint32(t)), p.value)
	}
	var offset uint64
	for _, t := range w.tensors {
		b = le.AppendUint32(appendString(b, t.name), uint32(len(t.shape)))
		for _, d := range t.shape {
			b = le.AppendUint64(b, d)
		}
		b = le.AppendUint64(le.AppendUint32(b, uint32(t.typ)), offset)
		offset += alignUp(t.bytes, alignment)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}

// appendValue appends a value that checkValue has passed.
func appendValue(b []byte, v any) []byte {
	le := binary.LittleEndian
	t, elem, _ := typeOf(v)
	if t == Array {
		b = le.AppendUint32(b, uint32(elem))
	}
	switch v := v.(type) {
	case string:
		return appendString(b, v)
	case []string:
		b = le.AppendUint64(b, uint64(len(v)))
		for _, s := range v {
			b = appendString(b, s)
		}
		return b
	case Strings:
		b = le.AppendUint64(b, uint64(v.Len()))
		for _, s := range v.All() {
			b = appendString(b, s)
		}
		return b
	case []any:
		b = le.AppendUint64(b, uint64(len(v)))
		for _, item := range v {
			b = appendValue(b, item)
		}
		return b
	}
	if t == Array {
		b = le.AppendUint64(b, uint64(binary.Size(v))/valueTypes[elem].size)
	}
	b, err := binary.Append(b, le, v)
	if err != nil {
		panic("gguf: " + err.Error()) // typeOf lets only fixed sizes through
	}
	return b
}

// pad fills b up with zeros.
func pad(b []byte, alignment uint64) []byte {
	return append(b, make([]byte, alignUp(uint64(len(b)), alignment)-uint64(len(b)))...)
}

// counter counts what is written and remembers the first error.
type counter struct {
	w   io.Writer
	n   int64
	err error
}

// Write makes the counter an [io.Writer].
func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

func (c *counter) write(b []byte) {
	if c.err == nil {
		_, c.err = c.Write(b)
	}
}

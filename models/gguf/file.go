package gguf

import (
	"fmt"
	"iter"
	"math"
	"slices"
	"sort"
	"strings"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/tensor"
)

// File is a parsed GGUF file, or a model in several of them. It doesn't change
// and is safe for concurrent use.
//
// Keys and string values are spans of one text block, tensor names of another;
// keys and tensors are found by binary search over sorted indexes, which costs
// four bytes an entry and, unlike a map, can't be slowed down by chosen names.
type File struct {
	metadata
	lease *budget.Lease
	parts []Part
	data  [][]byte // of the parts

	names   string
	tensors []tensorEntry // part by part
	byName  []uint32      // indexes of tensors, sorted by name
}

// metadata is the keys and values of one part.
type metadata struct {
	text    string
	entries []entry
	byKey   []uint32 // indexes of entries, sorted by key
}

// entry is a key and its value.
type entry struct {
	keyAt  uint64 // in the text block (in the file while it is parsed)
	bits   uint64 // a number or boolean, or where a string begins, as keyAt
	array  any    // a typed slice, Strings or []any of these
	keyLen uint32
	strLen uint32 // of a string
	typ    ValueType
}

// tensorEntry is a TensorInfo without pointers.
type tensorEntry struct {
	nameAt  uint64 // as entry.keyAt
	offset  uint64 // from the start of its file (of the data while it is parsed)
	bytes   uint64
	shape   [MaxDims]uint64
	nameLen uint32
	typ     tensor.DType
	dims    uint16
	part    uint16
}

// extent is the bytes that no other tensor may touch: one where the type, and
// so the size, is unknown.
func (t *tensorEntry) extent() uint64 { return max(t.bytes, 1) }

// Heap bytes of the tables' entries, which a test holds against the types, and
// of an array's slice header behind its interface.
const (
	entryBytes       = 48
	tensorEntryBytes = 72
	interfaceBytes   = 16
	boxBytes         = 48
	indexBytes       = 4
)

func (m *metadata) span(at uint64, n uint32) string { return m.text[at : at+uint64(n)] }

func (m *metadata) key(i uint32) string {
	e := &m.entries[i]
	return m.span(e.keyAt, e.keyLen)
}

func (m *metadata) find(key string) (*entry, bool) {
	i, ok := sort.Find(len(m.byKey), func(i int) int { return strings.Compare(key, m.key(m.byKey[i])) })
	if !ok {
		return nil, false
	}
	return &m.entries[m.byKey[i]], true
}

// valueOf is an entry's value as [File.Any] gives it.
func (m *metadata) valueOf(e *entry) any {
	switch e.typ {
	case String:
		return m.span(e.bits, e.strLen)
	case Array:
		return e.array
	}
	return e.typ.scalar(e.bits)
}

func (f *File) tensorName(i uint32) string {
	t := &f.tensors[i]
	return f.names[t.nameAt : t.nameAt+uint64(t.nameLen)]
}

// Close gives back the reservations that Parse made. Values already read stay
// valid; the mapping is the caller's. It may be called more than once.
func (f *File) Close() { f.lease.Close() }

// Version is the version of the format, 2 or 3, in the first part.
func (f *File) Version() uint32 { return f.parts[0].Version }

// Alignment is what the tensors' offsets are multiples of in the first part, in
// bytes.
func (f *File) Alignment() uint64 { return f.parts[0].Alignment }

// DataOffset is the byte of the first part at which tensor data begin, never
// past its end.
func (f *File) DataOffset() uint64 { return f.parts[0].DataOffset }

// Parts describes the files that were parsed, in order: one for the usual model.
func (f *File) Parts() []Part { return slices.Clone(f.parts) }

// Len is the number of keys.
func (f *File) Len() int { return len(f.entries) }

// Keys iterates over the keys in the order of the file.
func (f *File) Keys() iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range f.entries {
			if !yield(f.key(uint32(i))) {
				return
			}
		}
	}
}

// Type is the type of a key's value.
func (f *File) Type(key string) (ValueType, bool) {
	e, ok := f.find(key)
	if !ok {
		return 0, false
	}
	return e.typ, true
}

// Uint is the value of an integer of any type that isn't negative; ok is false
// for another value or none.
func (f *File) Uint(key string) (v uint64, ok bool) {
	e, ok := f.find(key)
	if !ok {
		return 0, false
	}
	return e.uint()
}

func (e *entry) uint() (uint64, bool) {
	switch e.typ {
	case Uint8, Uint16, Uint32, Uint64:
		return e.bits, true
	case Int8, Int16, Int32, Int64:
		v := e.signed()
		return uint64(v), v >= 0
	}
	return 0, false
}

// signed widens a signed integer.
func (e *entry) signed() int64 {
	unused := 64 - 8*valueTypes[e.typ].size
	return int64(e.bits<<unused) >> unused
}

// Int is the value of an integer of any type that fits; ok is false for another
// value or none.
func (f *File) Int(key string) (v int64, ok bool) {
	e, ok := f.find(key)
	if !ok {
		return 0, false
	}
	switch e.typ {
	case Int8, Int16, Int32, Int64:
		return e.signed(), true
	}
	u, ok := e.uint()
	if !ok || u > math.MaxInt64 {
		return 0, false
	}
	return int64(u), true
}

// Float is the value of a float32 or float64; ok is false for another value or
// none.
func (f *File) Float(key string) (v float64, ok bool) {
	e, ok := f.find(key)
	if !ok {
		return 0, false
	}
	switch e.typ {
	case Float32:
		return float64(math.Float32frombits(uint32(e.bits))), true
	case Float64:
		return math.Float64frombits(e.bits), true
	}
	return 0, false
}

// Bool is the value of a boolean; ok is false for another value or none.
func (f *File) Bool(key string) (v, ok bool) {
	e, ok := f.find(key)
	if !ok || e.typ != Bool {
		return false, false
	}
	return e.bits != 0, true
}

// String is the value of a string; ok is false for another value or none. The
// bytes are the file's and need not be valid UTF-8.
func (f *File) String(key string) (v string, ok bool) {
	e, ok := f.find(key)
	if !ok || e.typ != String {
		return "", false
	}
	return f.span(e.bits, e.strLen), true
}

// Strings is an array of strings; ok is false for another value or none.
func (f *File) Strings(key string) (v Strings, ok bool) {
	e, ok := f.find(key)
	if !ok {
		return Strings{}, false
	}
	v, ok = e.array.(Strings)
	return v, ok
}

// Ints is an array of integers of one type, each of which fits into an int64;
// ok is false for another value or none.
func (f *File) Ints(key string) (v Ints, ok bool) {
	e, ok := f.find(key)
	if !ok {
		return Ints{}, false
	}
	return newInts(e.array)
}

// Floats is an array of float32 or float64; ok is false for another value or
// none.
func (f *File) Floats(key string) (v Floats, ok bool) {
	e, ok := f.find(key)
	if !ok {
		return Floats{}, false
	}
	switch a := e.array.(type) {
	case []float32:
		return Floats{f32: a}, true
	case []float64:
		return Floats{f64: a}, true
	}
	return Floats{}, false
}

// Bools is an array of booleans, which the caller must not change; ok is false
// for another value or none.
func (f *File) Bools(key string) (v []bool, ok bool) {
	e, ok := f.find(key)
	if !ok {
		return nil, false
	}
	v, ok = e.array.([]bool)
	return v, ok
}

// Any is a value as the Go type of the same name and width: uint8 to float64,
// bool, string; for an array a slice of these, Strings for an array of strings,
// and []any of such arrays for an array of arrays. A slice is the File's own
// and must not be changed. [Writer.Set] takes what Any returns.
func (f *File) Any(key string) (v any, ok bool) {
	e, ok := f.find(key)
	if !ok {
		return nil, false
	}
	return f.valueOf(e), true
}

// TensorCount is the number of tensors.
func (f *File) TensorCount() int { return len(f.tensors) }

// Tensors iterates over the tensors in the order of the file.
func (f *File) Tensors() iter.Seq[TensorInfo] {
	return func(yield func(TensorInfo) bool) {
		for i := range f.tensors {
			if !yield(f.info(uint32(i))) {
				return
			}
		}
	}
}

// Lookup is the tensor of a name.
func (f *File) Lookup(name string) (TensorInfo, bool) {
	i, ok := sort.Find(len(f.byName), func(i int) int { return strings.Compare(name, f.tensorName(f.byName[i])) })
	if !ok {
		return TensorInfo{}, false
	}
	return f.info(f.byName[i]), true
}

func (f *File) info(i uint32) TensorInfo {
	t := &f.tensors[i]
	return TensorInfo{
		Name: f.tensorName(i), Type: t.typ, Shape: t.shape, NDims: int(t.dims),
		Part: int(t.part), Offset: t.offset, Bytes: t.bytes,
	}
}

// Data is the bytes of a tensor, a view of the slice that was given to Parse or
// of its part: it lives as long as that mapping and must not be written to. A tensor of an
// unknown type has no size and gives [ErrUnsupported]; one that isn't of this
// file gives [ErrFormat].
func (f *File) Data(t TensorInfo) ([]byte, error) {
	if !t.Type.Known() {
		return nil, fmt.Errorf("gguf: tensor %s: %w tensor type: %v", quote(t.Name), ErrUnsupported, t.Type)
	}
	if t.Part < 0 || t.Part >= len(f.parts) {
		return nil, fmt.Errorf("gguf: tensor %s: %w: there is no part %d of %d", quote(t.Name), ErrFormat, t.Part+1, len(f.parts))
	}
	data := f.data[t.Part]
	have := uint64(len(data))
	if t.Offset < f.parts[t.Part].DataOffset || t.Offset > have || t.Bytes > have-t.Offset {
		return nil, fmt.Errorf("gguf: tensor %s: %w: %d bytes at %d are not tensor data of this file",
			quote(t.Name), ErrFormat, t.Bytes, t.Offset)
	}
	end := t.Offset + t.Bytes
	return data[t.Offset:end:end], nil
}

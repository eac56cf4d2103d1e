package gguf

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/tensor"
)

// The format's numbers, and the limits that this package sets to it.
const (
	magic            = "GGUF"
	minVersion       = 2
	maxVersion       = 3
	alignmentKey     = "general.alignment"
	defaultAlignment = 32
	minAlignment     = 8       // any number can be read through an aligned pointer
	maxAlignment     = 1 << 21 // a huge page

	maxKeyBytes  = 1<<16 - 1
	maxNameBytes = 1 << 10
	maxDepth     = 4 // of arrays in arrays

	minEntryBytes  = 8 + 4 + 1           // empty key, type, one byte
	minTensorBytes = 8 + 4 + 1*8 + 4 + 8 // empty name, one dimension, type, offset
)

// Parse reads the file that data holds, as a rule a memory map. Everything that
// it allocates is reserved in lease first, which belongs to the File from here
// on: it is closed by [File.Close], and at once where Parse fails. The File
// keeps data for [File.Data], and only for that.
//
// A file that is one part of a model in several is refused with [ErrMissing]:
// those are for [ParseParts].
func Parse(data []byte, lease *budget.Lease) (*File, error) {
	return ParseParts([][]byte{data}, lease)
}

// parser walks once over the head of a file. Each length and count in it is
// read once and checked against the bytes that are left before it is used, so
// that a file that changes under the parser can't lead it astray. Keys, string
// values and names are noted as spans of the file, checked, and copied later
// into one block whose size is then known.
type parser struct {
	data  []byte
	pos   uint64 // never more than len(data)
	lease *budget.Lease
}

// need checks that count items of size bytes are left.
func (p *parser) need(count, size uint64) error {
	if left := uint64(len(p.data)) - p.pos; count > left/size {
		return truncated(p.pos, count, size, uint64(len(p.data)))
	}
	return nil
}

// take is the next n bytes.
func (p *parser) take(n uint64) ([]byte, error) {
	if err := p.need(n, 1); err != nil {
		return nil, err
	}
	b := p.data[p.pos : p.pos+n]
	p.pos += n
	return b, nil
}

func (p *parser) u32() (uint32, error) {
	b, err := p.take(4)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}

func (p *parser) u64() (uint64, error) {
	b, err := p.take(8)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b), nil
}

// text skips a string of at most limit bytes and says where it lies.
func (p *parser) text(limit uint32) (at uint64, n uint32, err error) {
	length, err := p.u64()
	if err != nil {
		return 0, 0, err
	}
	if err := p.need(length, 1); err != nil {
		return 0, 0, err
	}
	if length > uint64(limit) {
		return 0, 0, fmt.Errorf("%w: %d bytes of text, at most %d are read", ErrLimit, length, limit)
	}
	at = p.pos
	p.pos += length
	return at, uint32(length), nil
}

// head reads what comes before the tensors.
func (p *parser) head(part *Part, m *metadata) error {
	if err := p.version(part); err != nil {
		return err
	}
	tensors, err := p.u64()
	if err != nil {
		return err
	}
	keys, err := p.u64()
	if err != nil {
		return err
	}
	if err := p.entries(m, keys); err != nil {
		return err
	}
	if err := p.need(tensors, minTensorBytes); err != nil {
		return fmt.Errorf("%d tensors: %w", tensors, err)
	}
	part.Bytes, part.Tensors = uint64(len(p.data)), int(tensors)
	if err := p.copyText(m); err != nil {
		return err
	}
	if err := index(m.byKey, "key", m.key); err != nil {
		return err
	}
	part.Alignment, err = m.alignment()
	return err
}

func (p *parser) version(part *Part) error {
	if got := p.data[:min(len(p.data), len(magic))]; string(got) != magic[:len(got)] {
		return fmt.Errorf("%w: it begins with %q", ErrMagic, got)
	}
	if _, err := p.take(uint64(len(magic))); err != nil {
		return err
	}
	v, err := p.u32()
	if err != nil {
		return err
	}
	// Versions are small, so the low half is zero only in the other byte order.
	if v != 0 && v&0xffff == 0 {
		return fmt.Errorf("%w: version %d; only little-endian files are read", ErrBigEndian, bits.ReverseBytes32(v))
	}
	if v < minVersion || v > maxVersion {
		return fmt.Errorf("%w: %d, versions %d to %d are read", ErrVersion, v, minVersion, maxVersion)
	}
	part.Version = v
	return nil
}

// reserveTable prices a table of count entries, which are there, and its index.
func reserveTable(lease *budget.Lease, count, heapBytes uint64) error {
	if count > math.MaxInt32 {
		return fmt.Errorf("%w: %d entries, at most %d are read", ErrLimit, count, math.MaxInt32)
	}
	return lease.ReserveItems(budget.Metadata, count, heapBytes+indexBytes)
}

func (p *parser) entries(m *metadata, count uint64) error {
	err := p.need(count, minEntryBytes)
	if err == nil {
		err = reserveTable(p.lease, count, entryBytes)
	}
	if err != nil {
		return fmt.Errorf("%d keys: %w", count, err)
	}
	m.entries, m.byKey = make([]entry, count), make([]uint32, count)
	for i := range m.entries {
		e := &m.entries[i]
		var err error
		if e.keyAt, e.keyLen, err = p.text(maxKeyBytes); err != nil {
			return fmt.Errorf("key %d of %d: %w", i+1, count, err)
		}
		key := p.data[e.keyAt : e.keyAt+uint64(e.keyLen)]
		if err := p.value(e, purpose(key)); err != nil {
			return fmt.Errorf("key %s: %w", quote(key), err)
		}
	}
	return nil
}

// purpose is what the arrays under a key are charged to.
func purpose(key []byte) budget.Purpose {
	if bytes.HasPrefix(key, []byte("tokenizer.ggml.")) {
		return budget.Vocabulary
	}
	return budget.Metadata
}

func (p *parser) value(e *entry, purpose budget.Purpose) (err error) {
	if e.typ, err = p.valueType(); err != nil {
		return err
	}
	switch e.typ {
	case String:
		e.bits, e.strLen, err = p.text(math.MaxUint32)
		return err
	case Array:
		if err := p.lease.Reserve(purpose, boxBytes); err != nil {
			return err
		}
		e.array, err = p.array(purpose, 1)
		return err
	}
	b, err := p.take(valueTypes[e.typ].size)
	if err != nil {
		return err
	}
	var word [8]byte
	copy(word[:], b)
	e.bits = binary.LittleEndian.Uint64(word[:])
	if e.typ == Bool {
		return checkBool(byte(e.bits))
	}
	return nil
}

func (p *parser) valueType() (ValueType, error) {
	v, err := p.u32()
	if err != nil {
		return 0, err
	}
	if t := ValueType(v); t.known() {
		return t, nil
	}
	return 0, fmt.Errorf("%w %v", ErrUnsupported, ValueType(v))
}

func checkBool(b byte) error {
	if b > 1 {
		return fmt.Errorf("%w: a boolean of %d", ErrFormat, b)
	}
	return nil
}

// array reads an array into a slice of its element type, Strings or []any.
func (p *parser) array(purpose budget.Purpose, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%w: arrays nested more than %d deep", ErrLimit, maxDepth)
	}
	elem, err := p.valueType()
	if err != nil {
		return nil, err
	}
	count, err := p.u64()
	if err != nil {
		return nil, err
	}
	if err := p.need(count, valueTypes[elem].size); err != nil {
		return nil, fmt.Errorf("an array of %d: %w", count, err)
	}
	le := binary.LittleEndian
	switch elem {
	case Uint8:
		return numbers(p, purpose, elem, count, func(b []byte) uint8 { return b[0] })
	case Int8:
		return numbers(p, purpose, elem, count, func(b []byte) int8 { return int8(b[0]) })
	case Uint16:
		return numbers(p, purpose, elem, count, le.Uint16)
	case Int16:
		return numbers(p, purpose, elem, count, func(b []byte) int16 { return int16(le.Uint16(b)) })
	case Uint32:
		return numbers(p, purpose, elem, count, le.Uint32)
	case Int32:
		return numbers(p, purpose, elem, count, func(b []byte) int32 { return int32(le.Uint32(b)) })
	case Uint64:
		return numbers(p, purpose, elem, count, le.Uint64)
	case Int64:
		return numbers(p, purpose, elem, count, func(b []byte) int64 { return int64(le.Uint64(b)) })
	case Float32:
		return numbers(p, purpose, elem, count, func(b []byte) float32 { return math.Float32frombits(le.Uint32(b)) })
	case Float64:
		return numbers(p, purpose, elem, count, func(b []byte) float64 { return math.Float64frombits(le.Uint64(b)) })
	case Bool:
		return p.bools(purpose, count)
	case String:
		return p.strings(purpose, count)
	default:
		return p.arrays(purpose, count, depth)
	}
}

// numbers reads count numbers, which the caller has seen to be there and which
// take as many bytes in memory as in the file.
func numbers[T any](p *parser, purpose budget.Purpose, elem ValueType, count uint64, at func([]byte) T) (any, error) {
	size := valueTypes[elem].size
	if err := p.lease.ReserveItems(purpose, count, size); err != nil {
		return nil, err
	}
	src, err := p.take(count * size)
	if err != nil {
		return nil, err
	}
	out := make([]T, count)
	for i := range out {
		out[i] = at(src[uint64(i)*size:])
	}
	return out, nil
}

func (p *parser) bools(purpose budget.Purpose, count uint64) (any, error) {
	if err := p.lease.ReserveItems(purpose, count, 1); err != nil {
		return nil, err
	}
	src, err := p.take(count)
	if err != nil {
		return nil, err
	}
	out := make([]bool, count)
	for i, b := range src {
		if err := checkBool(b); err != nil {
			return nil, err
		}
		out[i] = b == 1
	}
	return out, nil
}

// strings reads the lengths first and then copies the texts, by the lengths
// that it has read, into one block of exactly their size.
func (p *parser) strings(purpose budget.Purpose, count uint64) (any, error) {
	if err := p.lease.ReserveItems(purpose, count, indexBytes); err != nil {
		return nil, err
	}
	ends := make([]uint32, count)
	start, total := p.pos, uint64(0)
	for i := range ends {
		_, n, err := p.text(math.MaxUint32)
		if err != nil {
			return nil, fmt.Errorf("string %d of %d: %w", i+1, count, err)
		}
		total += uint64(n)
		if total > math.MaxUint32 {
			return nil, fmt.Errorf("%w: strings of more than %d bytes in one array", ErrLimit, uint32(math.MaxUint32))
		}
		ends[i] = uint32(total)
	}
	if err := p.lease.ReserveItems(purpose, total, 1); err != nil {
		return nil, err
	}
	var text strings.Builder
	text.Grow(int(total))
	var from uint32
	for _, end := range ends {
		start += 8
		text.Write(p.data[start : start+uint64(end-from)])
		start += uint64(end - from)
		from = end
	}
	return Strings{text: text.String(), ends: ends}, nil
}

func (p *parser) arrays(purpose budget.Purpose, count uint64, depth int) (any, error) {
	if err := p.lease.ReserveItems(purpose, count, interfaceBytes+boxBytes); err != nil {
		return nil, err
	}
	out := make([]any, count)
	for i := range out {
		var err error
		if out[i], err = p.array(purpose, depth+1); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// tensors reads the descriptions of a part's tensors.
func (p *parser) tensors(table []tensorEntry, part uint16) error {
	for i := range table {
		t := &table[i]
		t.part = part
		var err error
		if t.nameAt, t.nameLen, err = p.text(maxNameBytes); err != nil {
			return fmt.Errorf("tensor %d of %d: %w", i+1, len(table), err)
		}
		if err := p.tensor(t); err != nil {
			return fmt.Errorf("tensor %s: %w", quote(p.data[t.nameAt:t.nameAt+uint64(t.nameLen)]), err)
		}
	}
	return nil
}

func (p *parser) tensor(t *tensorEntry) (err error) {
	dims, err := p.u32()
	if err != nil {
		return err
	}
	if dims > MaxDims {
		return fmt.Errorf("%w: %d dimensions, 1 to %d are possible", ErrFormat, dims, MaxDims)
	}
	t.dims = uint16(dims)
	t.shape = [MaxDims]uint64{1, 1, 1, 1}
	for i := range dims {
		if t.shape[i], err = p.u64(); err != nil {
			return err
		}
	}
	typ, err := p.u32()
	if err != nil {
		return err
	}
	t.typ = tensor.DType(typ)
	if t.offset, err = p.u64(); err != nil {
		return err
	}
	t.bytes, err = tensorBytes(t.typ, t.shape[:dims])
	return err
}

// copyText copies keys and string values out of the file, and turns the spans
// of the file into spans of the copy.
func (p *parser) copyText(m *metadata) error {
	var total uint64 // at most the file's size, for the spans don't overlap
	for i := range m.entries {
		total += uint64(m.entries[i].keyLen) + uint64(m.entries[i].strLen)
	}
	if err := p.lease.ReserveItems(budget.Metadata, total, 1); err != nil {
		return err
	}
	var text strings.Builder
	text.Grow(int(total))
	move := func(at uint64, n uint32) uint64 {
		to := uint64(text.Len())
		text.Write(p.data[at : at+uint64(n)])
		return to
	}
	for i := range m.entries {
		e := &m.entries[i]
		e.keyAt = move(e.keyAt, e.keyLen)
		if e.typ == String {
			e.bits = move(e.bits, e.strLen)
		}
	}
	m.text = text.String()
	return nil
}

// copyNames is copyText for the tensors' names.
func (f *File) copyNames() error {
	var total uint64 // at most the files' sizes
	for i := range f.tensors {
		total += uint64(f.tensors[i].nameLen)
	}
	if err := f.lease.ReserveItems(budget.Metadata, total, 1); err != nil {
		return err
	}
	var names strings.Builder
	names.Grow(int(total))
	for i := range f.tensors {
		t := &f.tensors[i]
		from := t.nameAt
		t.nameAt = uint64(names.Len())
		names.Write(f.data[t.part][from : from+uint64(t.nameLen)])
	}
	f.names = names.String()
	return nil
}

// index sorts all entries by name into order, and refuses names that are not
// UTF-8 or not alone.
func index(order []uint32, what string, name func(uint32) string) error {
	for i := range order {
		order[i] = uint32(i)
		if !utf8.ValidString(name(uint32(i))) {
			return fmt.Errorf("%s %s: %w: its name is not UTF-8", what, quote(name(uint32(i))), ErrFormat)
		}
	}
	slices.SortFunc(order, func(a, b uint32) int { return strings.Compare(name(a), name(b)) })
	for i := 1; i < len(order); i++ {
		if name(order[i]) == name(order[i-1]) {
			return fmt.Errorf("%s %s: %w: it is there twice", what, quote(name(order[i])), ErrFormat)
		}
	}
	return nil
}

func (m *metadata) alignment() (uint64, error) {
	e, ok := m.find(alignmentKey)
	if !ok {
		return defaultAlignment, nil
	}
	switch e.typ {
	case Uint8, Uint16, Uint32, Uint64:
		return e.bits, checkAlignment(e.bits)
	}
	return 0, fmt.Errorf("%w: %s is not an unsigned integer but %v", ErrFormat, alignmentKey, e.typ)
}

// place finds where the data of a part's tensors, from the first of them on,
// lie: in the file and apart from each other. The file's head ends at end.
func (f *File) place(part *Part, first int, end uint64) error {
	part.DataOffset = alignUp(end, part.Alignment)
	if part.Tensors == 0 {
		part.DataOffset = min(part.DataOffset, part.Bytes) // writers may leave out the padding
		return nil
	}
	fail := func(i uint32, err error) error { return fmt.Errorf("tensor %s: %w", quote(f.tensorName(i)), err) }
	order := f.byName[first : first+part.Tensors] // sorted by offset for now, by name later
	for n := range order {
		i := uint32(first + n)
		t := &f.tensors[i]
		order[n] = i
		if t.offset%part.Alignment != 0 {
			return fail(i, fmt.Errorf("%w: offset %d is not a multiple of %d", ErrFormat, t.offset, part.Alignment))
		}
		if t.offset > math.MaxUint64-part.DataOffset {
			return fail(i, truncated(t.offset, part.DataOffset, 1, part.Bytes))
		}
		t.offset += part.DataOffset
		if t.offset > part.Bytes || t.extent() > part.Bytes-t.offset {
			return fail(i, truncated(t.offset, t.extent(), 1, part.Bytes))
		}
	}
	slices.SortFunc(order, func(a, b uint32) int { return cmp.Compare(f.tensors[a].offset, f.tensors[b].offset) })
	for i := 1; i < len(order); i++ {
		t := &f.tensors[order[i-1]]
		if t.offset+t.extent() > f.tensors[order[i]].offset {
			return fail(order[i], fmt.Errorf("%w: it overlaps tensor %s", ErrFormat, quote(f.tensorName(order[i-1]))))
		}
	}
	return nil
}

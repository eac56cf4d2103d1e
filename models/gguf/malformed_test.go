package gguf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"
	goruntime "runtime"
	"strings"
	"testing"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/tensor"
)

// raw builds the bytes of a file by hand, so that they can be wrong.
type raw []byte

func head(version uint32, tensors, keys uint64) raw {
	return raw("GGUF").u32(version).u64(tensors).u64(keys)
}

func (b raw) u32(v uint32) raw           { return binary.LittleEndian.AppendUint32(b, v) }
func (b raw) u64(v uint64) raw           { return binary.LittleEndian.AppendUint64(b, v) }
func (b raw) bytes(v ...byte) raw        { return append(b, v...) }
func (b raw) str(s string) raw           { return append(b.u64(uint64(len(s))), s...) }
func (b raw) key(k string, t uint32) raw { return b.str(k).u32(t) }

func (b raw) arr(elem uint32, n uint64) raw { return b.u32(elem).u64(n) }

func (b raw) tensor(name string, typ tensor.DType, offset uint64, dims ...uint64) raw {
	b = b.str(name).u32(uint32(len(dims)))
	for _, d := range dims {
		b = b.u64(d)
	}
	return b.u32(uint32(typ)).u64(offset)
}

// data pads to the alignment and adds n bytes.
func (b raw) data(n int) raw {
	for len(b)%32 != 0 {
		b = append(b, 0)
	}
	return append(b, make([]byte, n)...)
}

// sentinels are what an error of Parse may be.
var sentinels = []error{
	ErrMagic, ErrVersion, ErrBigEndian, ErrTruncated, ErrFormat, ErrMissing, ErrLimit, ErrUnsupported, budget.ErrExceeded,
}

// refused checks what holds of every refusal: a typed error in one short line,
// and nothing left in the budget.
func refused(t testing.TB, f *File, err error, b *budget.Budget) {
	t.Helper()
	if f != nil {
		t.Error("a File beside the error")
	}
	typed := false
	for _, s := range sentinels {
		typed = typed || errors.Is(err, s)
	}
	text := err.Error()
	if !typed || !strings.HasPrefix(text, "gguf: ") || strings.ContainsAny(text, "\n\r\x00") || len(text) > 600 {
		t.Errorf("not a typed error in one short line: %q", text)
	}
	if b.Used() != 0 {
		t.Errorf("%d bytes are still reserved after %v", b.Used(), err)
	}
}

func TestMalformed(t *testing.T) {
	const max = math.MaxUint64
	one := func(name string, typ tensor.DType, offset uint64, dims ...uint64) raw {
		return head(3, 1, 0).tensor(name, typ, offset, dims...).data(64)
	}
	two := func(firstOffset, secondOffset uint64) raw {
		return head(3, 2, 0).tensor("first", tensor.I8, firstOffset, 33).tensor("second", tensor.I8, secondOffset, 32).data(128)
	}
	align := func(v uint32) raw { return head(3, 0, 1).key(alignmentKey, 4).u32(v).data(64) }
	nested := func(depth int) raw {
		b := head(3, 0, 1).key("k", 9)
		for range depth - 1 {
			b = b.arr(9, 1)
		}
		return b.arr(0, 0)
	}
	long := strings.Repeat("x", 1<<16)
	tests := []struct {
		name string
		data raw
		want error
		says string // part of the text
	}{
		{"empty", nil, ErrTruncated, "4 bytes are needed, 0 are present"},
		{"other magic", raw("GGML").u32(3).u64(0).u64(0), ErrMagic, `"GGML"`},
		{"lower case magic", raw("gguf").u32(3).u64(0).u64(0), ErrMagic, ""},
		{"reversed magic", raw("FUGG").u32(3).u64(0).u64(0), ErrMagic, ""},
		{"short other file", raw("PK"), ErrMagic, ""},
		{"version 0", head(0, 0, 0), ErrVersion, "0, versions 2 to 3"},
		{"version 1", head(1, 0, 0), ErrVersion, "1, versions 2 to 3"},
		{"version 4", head(4, 0, 0), ErrVersion, ""},
		{"version huge", head(math.MaxUint32, 0, 0), ErrVersion, ""},
		{"big-endian", head(3<<24, 0, 0), ErrBigEndian, "version 3"},
		{"big-endian 2", head(2<<24, 0, 0), ErrBigEndian, "version 2"},

		{"keys 2^63", head(3, 0, 1<<63), ErrTruncated, "9223372036854775808 keys"},
		{"keys 2^64-1", head(3, 0, max), ErrTruncated, "at least 18446744073709551615 bytes are needed, 24 are present"},
		{"keys one too many", head(3, 0, 2).key("a", 0).bytes(1), ErrTruncated, ""},
		{"tensors 2^63", head(3, 1<<63, 0), ErrTruncated, "9223372036854775808 tensors"},
		{"tensors 2^64-1", head(3, max, 0), ErrTruncated, ""},
		{"tensors that wrap to few", head(3, 1<<59+1, 0).data(64), ErrTruncated, ""},
		{"keys that wrap to few", head(3, 0, max/13+2).data(64), ErrTruncated, ""},

		{"key 2^64-1", head(3, 0, 1).u64(max).data(64), ErrTruncated, "key 1 of 1"},
		{"key 2^63", head(3, 0, 1).u64(1 << 63).data(64), ErrTruncated, ""},
		{"key past the end", head(3, 0, 1).u64(100).data(64), ErrTruncated, "132 bytes are needed, 96 are present"},
		{"key of 64 KiB", head(3, 0, 1).key(long, 0).bytes(1), ErrLimit, "65536 bytes of text"},
		{"key not UTF-8", head(3, 0, 1).key("a\xff", 0).bytes(1), ErrFormat, `key "a\xff"`},
		{"key twice", head(3, 0, 3).key("a", 0).bytes(1).key("b", 0).bytes(1).key("a", 1).bytes(1), ErrFormat, `key "a": malformed file: it is there twice`},
		{"value type 13", head(3, 0, 1).key("k", 13).u64(0), ErrUnsupported, `key "k": unsupported value type 13`},
		{"value type 2^32-1", head(3, 0, 1).key("k", math.MaxUint32).u64(0), ErrUnsupported, ""},
		{"bool 2", head(3, 0, 1).key("k", 7).bytes(2), ErrFormat, "a boolean of 2"},
		{"number cut", head(3, 0, 1).key("k", 10).u32(1), ErrTruncated, `key "k"`},
		{"string 2^64-1", head(3, 0, 1).key("k", 8).u64(max), ErrTruncated, ""},
		{"string 2^63", head(3, 0, 1).key("k", 8).u64(1 << 63), ErrTruncated, ""},
		{"string past the end", head(3, 0, 1).key("k", 8).u64(2).bytes('x'), ErrTruncated, ""},

		{"array of 2^64-1 bytes", head(3, 0, 1).key("k", 9).arr(0, max), ErrTruncated, ""},
		{"array of 2^63 bytes", head(3, 0, 1).key("k", 9).arr(0, 1<<63).data(64), ErrTruncated, ""},
		{"array of 2^61 uint64", head(3, 0, 1).key("k", 9).arr(10, 1<<61).data(64), ErrTruncated, ""},
		{"array of 2^61+1 float64", head(3, 0, 1).key("k", 9).arr(12, 1<<61+1).data(64), ErrTruncated, ""},
		{"array of 2^61 strings", head(3, 0, 1).key("k", 9).arr(8, 1<<61).data(64), ErrTruncated, "an array of 2305843009213693952"},
		{"array of 2^40 arrays", head(3, 0, 1).key("k", 9).arr(9, 1<<40).data(64), ErrTruncated, ""},
		{"array of type 13", head(3, 0, 1).key("k", 9).arr(13, 0).data(64), ErrUnsupported, ""},
		{"array of bools 2", head(3, 0, 1).key("k", 9).arr(7, 3).bytes(0, 1, 2), ErrFormat, ""},
		{"array with a string of 2^64-1", head(3, 0, 1).key("k", 9).arr(8, 2).str("ok").u64(max).data(64), ErrTruncated, "string 2 of 2"},
		{"arrays too deep", nested(maxDepth + 1), ErrLimit, "nested more than 4 deep"},
		{"arrays far too deep", nested(100000), ErrLimit, ""},

		{"alignment 0", align(0), ErrFormat, "general.alignment is 0"},
		{"alignment 1", align(1), ErrFormat, ""},
		{"alignment 3", align(3), ErrFormat, ""},
		{"alignment 4", align(4), ErrFormat, ""},
		{"alignment 48", align(48), ErrFormat, ""},
		{"alignment 2^22", align(1 << 22), ErrFormat, ""},
		{"alignment 2^31", align(1 << 31), ErrFormat, "general.alignment is 2147483648"},
		{"alignment 2^63", head(3, 0, 1).key(alignmentKey, 10).u64(1 << 63), ErrFormat, ""},
		{"alignment signed", head(3, 0, 1).key(alignmentKey, 5).u32(32), ErrFormat, "int32"},
		{"alignment string", head(3, 0, 1).key(alignmentKey, 8).str("32"), ErrFormat, "string"},

		{"name of 1025 bytes", one(long[:1025], tensor.I8, 0, 1), ErrLimit, ""},
		{"name 2^64-1", head(3, 1, 0).u64(max).data(64), ErrTruncated, "tensor 1 of 1"},
		{"name not UTF-8", one("\xc3", tensor.I8, 0, 1), ErrFormat, `tensor "\xc3"`},
		{"name twice", head(3, 2, 0).tensor("t", tensor.I8, 0, 1).tensor("t", tensor.I8, 32, 1).data(64), ErrFormat, `tensor "t": malformed file: it is there twice`},
		{"no dimension", one("t", tensor.I8, 0), ErrFormat, "0 dimensions"},
		{"5 dimensions", one("t", tensor.I8, 0, 1, 1, 1, 1, 1), ErrFormat, "5 dimensions"},
		{"2^32-1 dimensions", head(3, 1, 0).str("t").u32(math.MaxUint32).data(64), ErrFormat, ""},
		{"dimension 0", one("t", tensor.I8, 0, 4, 0), ErrFormat, "zero"},
		{"dimension 0 hides an overflow", one("t", tensor.I8, 0, 1<<63, 1<<63, 0), ErrFormat, ""},
		{"dimension 2^64-1", one("t", tensor.I8, 0, max), ErrFormat, "overflows"},
		{"product 2^64", one("t", tensor.I8, 0, 1<<32, 1<<32), ErrFormat, "overflows"},
		{"product 2^63", one("t", tensor.I8, 0, 1<<32, 1<<31), ErrFormat, "the product of the dimensions"},
		{"product wraps to 1", one("t", tensor.I8, 0, 0xaaaaaaaaaaaaaaab, 3), ErrFormat, "overflows"},
		{"product of an unknown type", one("t", 99, 0, 1<<32, 1<<32), ErrFormat, "overflows"},
		{"bytes overflow", one("t", tensor.F64, 0, 1<<62), ErrFormat, "overflows"},
		{"bytes 2^63", one("t", tensor.F32, 0, 1<<61), ErrFormat, "overflows"},
		{"broken row", one("t", tensor.Q4_K, 0, 128, 2), ErrFormat, "a row of 128 elements is not a whole number of Q4_K blocks of 256"},
		{"offset not aligned", one("t", tensor.I8, 8, 1), ErrFormat, "offset 8 is not a multiple of 32"},
		{"offset 2^64-32", one("t", tensor.I8, max-31, 1), ErrTruncated, `tensor "t"`},
		{"offset 2^63", one("t", tensor.I8, 1<<63, 1), ErrTruncated, ""},
		{"offset at the end", one("t", tensor.I8, 64, 1), ErrTruncated, "129 bytes are needed, 128 are present"},
		{"unknown type at the end", one("t", 99, 64, 1), ErrTruncated, ""},
		{"data too long", one("t", tensor.I8, 32, 33), ErrTruncated, "129 bytes are needed, 128 are present"},
		{"data 2^62", one("t", tensor.I8, 0, 1<<62), ErrTruncated, "4611686018427387968 bytes are needed"},
		{"no data at all", head(3, 1, 0).tensor("t", tensor.I8, 0, 1), ErrTruncated, ""},
		{"overlap", two(0, 32), ErrFormat, `tensor "second": malformed file: it overlaps tensor "first"`},
		{"overlap in the other order", two(32, 0), nil, ""},
		{"same offset", two(64, 64), ErrFormat, "overlaps"},
		{"apart", two(0, 64), nil, ""},
		{"unknown types on one offset", head(3, 2, 0).tensor("a", 99, 0, 1).tensor("b", 99, 0, 1).data(32), ErrFormat, "overlaps"},
		{"long name in the error", one(long[:1000], tensor.I8, 8, 1), ErrFormat, `x"...: malformed`},
		{"line break in the error", one("a\nb\x1b", tensor.I8, 8, 1), ErrFormat, `"a\nb\x1b"`},

		{"nothing", head(2, 0, 0), nil, ""},
		{"deep enough", nested(maxDepth), nil, ""},
		{"longest key", head(3, 0, 1).key(long[1:], 0).bytes(1), nil, ""},
		{"bytes after the last tensor", one("t", tensor.I8, 0, 1).data(999), nil, ""},
		{"tensors before their order", head(3, 2, 0).tensor("b", tensor.I8, 32, 1).tensor("a", tensor.I8, 0, 32).data(33), nil, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := budget.New(1 << 20)
			f, err := Parse(test.data, b.Lease())
			if !errors.Is(err, test.want) {
				t.Fatalf("Parse = %v, want %v", err, test.want)
			}
			if err == nil {
				f.Close()
				return
			}
			refused(t, f, err, b)
			if !strings.Contains(err.Error(), test.says) {
				t.Errorf("%q does not say %q", err, test.says)
			}
		})
	}
}

// TestUnknownTensorType: the file is readable, the tensor isn't.
func TestUnknownTensorType(t *testing.T) {
	data := head(3, 3, 0).tensor("a", tensor.I8, 0, 4).tensor("odd", 4321, 32, 7, 5).tensor("z", tensor.I8, 64, 4).data(96)
	f := parse(t, data)
	info, ok := f.Lookup("odd")
	if !ok || info.Type.String() != "type 4321" || info.Bytes != 0 || info.Elements() != 35 {
		t.Errorf("Lookup = %+v, %v", info, ok)
	}
	got, err := f.Data(info)
	if !errors.Is(err, ErrUnsupported) || got != nil || err.Error() != `gguf: tensor "odd": unsupported tensor type: type 4321` {
		t.Errorf("Data = %x, %v", got, err)
	}
	info, _ = f.Lookup("z")
	if got, err := f.Data(info); err != nil || len(got) != 4 {
		t.Errorf("Data of a known tensor = %x, %v", got, err)
	}
}

func reference(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/reference.gguf")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestTruncatedEverywhere cuts a good file at every byte. Only the padding
// behind the last tensor may be missing.
func TestTruncatedEverywhere(t *testing.T) {
	data := reference(t)
	end := 800 + 40 // the last tensor's
	for n := range data {
		b := budget.New(1 << 20)
		f, err := Parse(data[:n:n], b.Lease())
		if n >= end {
			if err != nil {
				t.Errorf("%d bytes: %v", n, err)
			}
			continue
		}
		if !errors.Is(err, ErrTruncated) {
			t.Fatalf("%d bytes: Parse = %v, want %v", n, err, ErrTruncated)
		}
		refused(t, f, err, b)
		var need, have int
		text := err.Error()
		if _, scanErr := fmt.Sscanf(text[strings.Index(text, "at least"):], "at least %d bytes are needed, %d are present", &need, &have); scanErr != nil || have != n || need <= n || need > end {
			t.Errorf("%d of %d bytes: %v", n, end, err)
		}
	}
}

// TestFlipped changes each bit and then each byte of a good file: an error or a
// File whose every value can be read.
func TestFlipped(t *testing.T) {
	good := reference(t)
	data := bytes.Clone(good)
	for i := range data {
		for _, flip := range []byte{1, 2, 4, 8, 16, 32, 64, 128, 0xff} {
			data[i] = good[i] ^ flip
			readAll(t, data)
		}
		data[i] = good[i]
	}
}

// readAll parses a file, or parts, under a small budget and reads everything
// that the File offers.
func readAll(t testing.TB, parts ...[]byte) *File {
	t.Helper()
	b := budget.New(4 << 20)
	f, err := ParseParts(parts, b.Lease())
	if err != nil {
		refused(t, f, err, b)
		return nil
	}
	defer f.Close()
	if b.Used() > b.Limit() {
		t.Errorf("%d bytes reserved of %d", b.Used(), b.Limit())
	}
	for key := range f.Keys() {
		v, ok := f.Any(key)
		if typ, known := f.Type(key); !ok || !known || !typ.known() {
			t.Errorf("key %q: %v, type %v", key, v, typ)
		}
		plain(v)
		f.Uint(key)
		f.Int(key)
		if x, ok := f.Ints(key); ok {
			for range x.All() {
			}
		}
	}
	tensors := make([]int, len(parts))
	for info := range f.Tensors() {
		if found, ok := f.Lookup(info.Name); !ok || found != info {
			t.Errorf("Lookup(%q) = %+v, %v; want %+v", info.Name, found, ok, info)
		}
		d, err := f.Data(info)
		p := f.Parts()[info.Part]
		if (err == nil) != info.Type.Known() || uint64(len(d)) != info.Bytes || info.Offset%p.Alignment != 0 ||
			info.Offset < p.DataOffset || info.Offset+info.Bytes > p.Bytes {
			t.Errorf("tensor %+v: %d bytes of data, %v", info, len(d), err)
		}
		if len(d) > 0 && &d[0] != &parts[info.Part][info.Offset] {
			t.Errorf("the data of tensor %+v lie somewhere else", info)
		}
		tensors[info.Part]++
	}
	for i, p := range f.Parts() {
		if p.DataOffset > p.Bytes || p.Bytes != uint64(len(parts[i])) || p.Tensors != tensors[i] {
			t.Errorf("part %d: %+v with %d tensors", i, p, tensors[i])
		}
	}
	return f
}

// TestBudget tries every limit: below what the file needs it is refused and
// nothing stays reserved, and from there on it is read.
func TestBudget(t *testing.T) {
	w := NewWriter()
	w.SetStrings("tokenizer.ggml.tokens", []string{"to", "ken", "s"})
	w.SetFloat32s("tokenizer.ggml.scores", []float32{1, 2, 3})
	w.Set("arrays", []any{[]bool{true, false}, []string{"text"}})
	w.SetString("general.name", "small")
	w.AddTensor("t", tensor.I8, []uint64{1}, []byte{1})
	data := write(t, w)

	b := budget.New(1 << 20)
	f, err := Parse(data, b.Lease())
	if err != nil {
		t.Fatal(err)
	}
	need := b.Used()
	// Three texts of 6 bytes and three floats, four bytes a string, two boxes.
	if got, want := b.UsedFor(budget.Vocabulary), int64(6+3*4+3*4+2*boxBytes); got != want {
		t.Errorf("%d bytes of vocabulary, want %d", got, want)
	}
	if b.UsedFor(budget.Metadata)+b.UsedFor(budget.Vocabulary) != need {
		t.Errorf("%d bytes reserved, not all for metadata and vocabulary", need)
	}
	f.Close()
	for limit := range need + 10 {
		b := budget.New(limit)
		f, err := Parse(data, b.Lease())
		if limit >= need {
			if err != nil {
				t.Errorf("limit %d of %d: %v", limit, need, err)
			}
			continue
		}
		if !errors.Is(err, budget.ErrExceeded) {
			t.Fatalf("limit %d of %d: %v", limit, need, err)
		}
		refused(t, f, err, b)
	}
}

// TestTableSizes holds the prices against the types.
func TestTableSizes(t *testing.T) {
	if n := reflect.TypeFor[entry]().Size(); n != entryBytes {
		t.Errorf("an entry has %d bytes, %d are reserved", n, entryBytes)
	}
	if n := reflect.TypeFor[tensorEntry]().Size(); n != tensorEntryBytes {
		t.Errorf("a tensor entry has %d bytes, %d are reserved", n, tensorEntryBytes)
	}
	if n := reflect.TypeFor[any]().Size(); n != interfaceBytes {
		t.Errorf("an interface has %d bytes, %d are reserved", n, interfaceBytes)
	}
	if n := reflect.TypeFor[Strings]().Size(); n > boxBytes {
		t.Errorf("Strings have %d bytes, %d are reserved", n, boxBytes)
	}
}

// allocated is how many bytes f takes from the heap, freed or not.
func allocated(f func()) uint64 {
	var before, after goruntime.MemStats
	goruntime.ReadMemStats(&before)
	f()
	goruntime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestClaimsAllocateNothing: a small file that claims much costs next to
// nothing, even where the budget would allow it.
func TestClaimsAllocateNothing(t *testing.T) {
	for name, data := range map[string]raw{
		"strings": head(3, 0, 1).key("tokenizer.ggml.tokens", 9).arr(8, 1<<40).data(128),
		"arrays":  head(3, 0, 1).key("k", 9).arr(9, 1<<40).data(128),
		"floats":  head(3, 0, 1).key("k", 9).arr(6, 1<<40).data(128),
		"keys":    head(3, 0, 1<<40).data(128),
		"tensors": head(3, 1<<40, 0).data(128),
		"text":    head(3, 0, 1).key("k", 8).u64(1 << 40).data(128),
		"data":    head(3, 1, 0).tensor("t", tensor.F32, 0, 1<<40).data(128),
	} {
		b := budget.New(math.MaxInt64)
		lease := b.Lease()
		var err error
		bytes := allocated(func() { _, err = Parse(data, lease) })
		if !errors.Is(err, ErrTruncated) || len(data) > 256 {
			t.Errorf("%s: %d bytes: Parse = %v, want %v", name, len(data), err, ErrTruncated)
		}
		if bytes > 16<<10 {
			t.Errorf("%s: %d bytes allocated for a file of %d", name, bytes, len(data))
		}
	}
}

// TestHeapIsPriced: what Parse allocates in all is what it reserved, give or
// take the allocator's size classes, for many small and for large things.
func TestHeapIsPriced(t *testing.T) {
	for name, build := range map[string]func(w *Writer){
		"strings": func(w *Writer) {
			list := make([]string, 100000)
			for i := range list {
				list[i] = fmt.Sprint("token", i)
			}
			w.SetStrings("tokenizer.ggml.tokens", list)
		},
		"empty strings": func(w *Writer) { w.SetStrings("k", make([]string, 100000)) },
		"arrays": func(w *Writer) {
			list := make([]any, 20000)
			for i := range list {
				list[i] = []any{[]string{}, []float64{float64(i)}}
			}
			w.Set("k", list)
		},
		"bools":   func(w *Writer) { w.Set("k", make([]bool, 100000)) },
		"numbers": func(w *Writer) { w.SetInt32s("k", make([]int32, 100000)) },
		"keys": func(w *Writer) {
			for i := range 20000 {
				w.SetUint32(fmt.Sprint("key", i), 1)
			}
		},
		"tensors": func(w *Writer) {
			for i := range 5000 {
				w.AddTensor(fmt.Sprint("t", i), tensor.I8, []uint64{1}, []byte{1})
			}
		},
	} {
		w := NewWriter()
		build(w)
		data := write(t, w)
		b := budget.New(1 << 30)
		lease := b.Lease()
		var f *File
		var err error
		bytes := allocated(func() { f, err = Parse(data, lease) })
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if held := uint64(lease.Held()); bytes > held+held/8+16<<10 || held > bytes+bytes/2 {
			t.Errorf("%s: %d bytes allocated, %d reserved, file of %d", name, bytes, held, len(data))
		}
		f.Close()
	}
}

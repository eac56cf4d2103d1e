package gguf

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/tensor"
)

// parse reads a file that must be good and checks that Close gives back what
// Parse reserved.
func parse(t testing.TB, data []byte) *File {
	t.Helper()
	b := budget.New(1 << 30)
	f, err := Parse(data, b.Lease())
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	t.Cleanup(func() {
		f.Close()
		f.Close()
		if b.Used() != 0 {
			t.Errorf("%d bytes are still reserved after Close", b.Used())
		}
	})
	return f
}

func write(t testing.TB, w *Writer) []byte {
	t.Helper()
	var buf bytes.Buffer
	n, err := w.WriteTo(&buf)
	if err != nil {
		t.Fatalf("WriteTo: %v", err)
	}
	if n != int64(buf.Len()) {
		t.Fatalf("WriteTo says %d bytes, wrote %d", n, buf.Len())
	}
	return buf.Bytes()
}

type value struct {
	key string
	v   any // as File.Any gives it, but []string for Strings
}

var referenceValues = []value{
	{"general.architecture", "demo"},
	{"u8", uint8(255)},
	{"i8", int8(-128)},
	{"u16", uint16(65535)},
	{"i16", int16(-32768)},
	{"u32", uint32(math.MaxUint32)},
	{"i32", int32(math.MinInt32)},
	{"u64", uint64(math.MaxUint64)},
	{"i64", int64(math.MinInt64)},
	{"f32", float32(-1.5)},
	{"f64", float64(1e300)},
	{"yes", true},
	{"no", false},
	{"text", "héllo"},
	{"strings", []string{"a", "", "世界"}},
	{"ints", []int32{1, -2, 3}},
	{"floats", []float32{0.5, -0.25}},
	{"bools", []bool{true, false, true}},
	{"bytes", []uint8{0, 255}},
	{"nested", []any{[]int32{1, 2}, []int32{3}}},
}

// TestReference reads and rebuilds testdata/reference.gguf, which the gguf
// Python package 0.19.0 wrote.
func TestReference(t *testing.T) {
	data, err := os.ReadFile("testdata/reference.gguf")
	if err != nil {
		t.Fatal(err)
	}
	f := parse(t, data)
	if f.Version() != 3 || f.Alignment() != 32 || f.DataOffset() != 736 {
		t.Errorf("version %d, alignment %d, data at %d; want 3, 32, 736", f.Version(), f.Alignment(), f.DataOffset())
	}
	checkValues(t, f, referenceValues)

	counting := make([]byte, 40)
	for i := range counting {
		counting[i] = byte(i)
	}
	tensors := []struct {
		info TensorInfo
		data []byte
	}{
		{
			TensorInfo{"matrix", tensor.F32, [4]uint64{3, 2, 1, 1}, 2, 0, 736, 24},
			[]byte("\x00\x00\x00\x00\x00\x00\x80\x3f\x00\x00\x00\x40\x00\x00\x40\x40\x00\x00\x80\x40\x00\x00\xa0\x40"),
		},
		{TensorInfo{"half", tensor.F16, [4]uint64{2, 1, 1, 1}, 1, 0, 768, 4}, []byte("\x00\x3c\x00\xc0")},
		{TensorInfo{"quant", tensor.Q4_1, [4]uint64{32, 2, 1, 1}, 2, 0, 800, 40}, counting},
	}
	w := NewWriter()
	for _, p := range referenceValues {
		w.Set(p.key, p.v)
	}
	all := slices.Collect(f.Tensors())
	if len(all) != len(tensors) || f.TensorCount() != len(tensors) {
		t.Fatalf("%d tensors, want %d", len(all), len(tensors))
	}
	for i, want := range tensors {
		if diff := cmp.Diff(want.info, all[i]); diff != "" {
			t.Errorf("tensor %d (-want +got):\n%s", i, diff)
		}
		got, err := f.Data(all[i])
		if err != nil || !bytes.Equal(got, want.data) || cap(got) != len(got) {
			t.Errorf("data of %s = %x, %v; want %x", want.info.Name, got, err, want.data)
		}
		if found, ok := f.Lookup(want.info.Name); !ok || found != want.info {
			t.Errorf("Lookup(%q) = %v, %v", want.info.Name, found, ok)
		}
		w.AddTensor(want.info.Name, want.info.Type, want.info.Dims(), want.data)
	}
	if _, ok := f.Lookup("hal"); ok {
		t.Error(`Lookup("hal") found a tensor`)
	}
	if got := write(t, w); !bytes.Equal(got, data) {
		t.Errorf("the Writer's file differs from the reference:\n%s", cmp.Diff(data, got))
	}
}

func checkValues(t *testing.T, f *File, want []value) {
	t.Helper()
	var keys []string
	for _, p := range want {
		keys = append(keys, p.key)
		got, ok := f.Any(p.key)
		if !ok {
			t.Errorf("key %q is missing", p.key)
			continue
		}
		if diff := cmp.Diff(p.v, plain(got)); diff != "" {
			t.Errorf("key %q (-want +got):\n%s", p.key, diff)
		}
		typ, _, _ := typeOf(p.v)
		if got, ok := f.Type(p.key); !ok || got != typ {
			t.Errorf("Type(%q) = %v, %v; want %v", p.key, got, ok, typ)
		}
	}
	if diff := cmp.Diff(keys, slices.Collect(f.Keys())); diff != "" || f.Len() != len(keys) {
		t.Errorf("%d keys in the order of the file (-want +got):\n%s", f.Len(), diff)
	}
}

// plain turns Strings into []string, at any depth.
func plain(v any) any {
	switch v := v.(type) {
	case Strings:
		list := make([]string, v.Len())
		for i := range list {
			list[i] = v.At(i)
		}
		return list
	case []any:
		list := make([]any, len(v))
		for i := range list {
			list[i] = plain(v[i])
		}
		return list
	}
	return v
}

// TestRoundTrip writes and reads what the reference lacks, in both versions and
// with several alignments.
func TestRoundTrip(t *testing.T) {
	values := []value{
		{"", "an empty key"},
		{"empty", ""},
		{"binary", "\xff\x00\xfe"},
		{"i8s", []int8{-128, 127}},
		{"u16s", []uint16{0, 65535}},
		{"i16s", []int16{-32768, 32767}},
		{"u32s", []uint32{0, math.MaxUint32}},
		{"u64s", []uint64{0, math.MaxUint64}},
		{"i64s", []int64{math.MinInt64, math.MaxInt64}},
		{"f64s", []float64{math.Inf(-1), math.SmallestNonzeroFloat64}},
		{"none.u8", []uint8{}},
		{"none.f32", []float32{}},
		{"none.bool", []bool{}},
		{"none.string", []string{}},
		{"none.array", []any{}},
		{"deep", []any{[]any{[]any{[]string{"bottom"}, []string{}}, []any{}}, []uint64{7}, []bool{true}}},
		{strings.Repeat("k", maxKeyBytes), uint8(1)},
	}
	for _, version := range []uint32{2, 3} {
		for _, alignment := range []any{nil, uint8(8), uint32(64), uint64(4096)} {
			w := NewWriter()
			w.SetVersion(version)
			want, align := values, uint64(32)
			if alignment != nil {
				want = append(slices.Clone(values), value{alignmentKey, alignment})
			}
			for _, p := range want {
				w.Set(p.key, p.v)
			}
			w.AddTensor(strings.Repeat("n", maxNameBytes), tensor.I8, []uint64{5}, []byte("12345"))
			w.AddTensor("from", tensor.Q8_0, []uint64{32, 1, 2, 1}, bytes.Repeat([]byte{7}, 68))
			data := write(t, w)
			if again := write(t, w); !bytes.Equal(data, again) {
				t.Fatal("the second WriteTo gives other bytes")
			}
			f := parse(t, data)
			if alignment != nil {
				align, _ = f.Uint(alignmentKey)
			}
			if f.Version() != version || f.Alignment() != align || f.DataOffset()%align != 0 {
				t.Errorf("version %d, alignment %d, data at %d; want %d, %d", f.Version(), f.Alignment(), f.DataOffset(), version, align)
			}
			checkValues(t, f, want)
			info, ok := f.Lookup("from")
			got, err := f.Data(info)
			if !ok || err != nil || info.Offset%align != 0 || info.NDims != 4 || info.Elements() != 64 || !bytes.Equal(got, bytes.Repeat([]byte{7}, 68)) {
				t.Errorf("tensor = %+v, %v, data %x, %v", info, ok, got, err)
			}
			if uint64(len(data))%align != 0 {
				t.Errorf("the file's %d bytes are not a multiple of %d", len(data), align)
			}
		}
	}
}

func TestGetters(t *testing.T) {
	type want struct {
		u   any // uint64 or nil
		i   any // int64 or nil
		f   any // float64 or nil
		b   any
		s   any
		n   int // of Strings, Ints, Floats or Bools, -1 for none
		all any
	}
	tests := map[string]struct {
		v any
		want
	}{
		"u8":      {uint8(200), want{u: uint64(200), i: int64(200), n: -1}},
		"u16":     {uint16(65535), want{u: uint64(65535), i: int64(65535), n: -1}},
		"u32":     {uint32(math.MaxUint32), want{u: uint64(math.MaxUint32), i: int64(math.MaxUint32), n: -1}},
		"u64":     {uint64(5), want{u: uint64(5), i: int64(5), n: -1}},
		"u64.max": {uint64(math.MaxUint64), want{u: uint64(math.MaxUint64), n: -1}},
		"i8":      {int8(-1), want{i: int64(-1), n: -1}},
		"i16":     {int16(-2), want{i: int64(-2), n: -1}},
		"i32":     {int32(-3), want{i: int64(-3), n: -1}},
		"i32.pos": {int32(3), want{u: uint64(3), i: int64(3), n: -1}},
		"i64":     {int64(math.MinInt64), want{i: int64(math.MinInt64), n: -1}},
		"f32":     {float32(0.5), want{f: 0.5, n: -1}},
		"f64":     {1e300, want{f: 1e300, n: -1}},
		"bool":    {true, want{b: true, n: -1}},
		"string":  {"x", want{s: "x", n: -1}},
		"strings": {[]string{"p", "q"}, want{n: 2, all: []string{"p", "q"}}},
		"u8s":     {[]uint8{255}, want{n: 1, all: []int64{255}}},
		"i8s":     {[]int8{-1}, want{n: 1, all: []int64{-1}}},
		"u16s":    {[]uint16{65535}, want{n: 1, all: []int64{65535}}},
		"i16s":    {[]int16{-1}, want{n: 1, all: []int64{-1}}},
		"u32s":    {[]uint32{math.MaxUint32}, want{n: 1, all: []int64{math.MaxUint32}}},
		"i32s":    {[]int32{-1, 2}, want{n: 2, all: []int64{-1, 2}}},
		"u64s":    {[]uint64{math.MaxInt64}, want{n: 1, all: []int64{math.MaxInt64}}},
		"u64s.no": {[]uint64{math.MaxInt64 + 1}, want{n: -1}},
		"i64s":    {[]int64{math.MinInt64}, want{n: 1, all: []int64{math.MinInt64}}},
		"f32s":    {[]float32{0.5}, want{n: 1, all: []float64{0.5}}},
		"f64s":    {[]float64{0.1}, want{n: 1, all: []float64{0.1}}},
		"bools":   {[]bool{true}, want{n: 1, all: []bool{true}}},
		"arrays":  {[]any{[]bool{true}}, want{n: -1}},
		"missing": {nil, want{n: -1}},
	}
	w := NewWriter()
	for key, test := range tests {
		if test.v != nil {
			w.Set(key, test.v)
		}
	}
	f := parse(t, write(t, w))
	for key, test := range tests {
		got := want{n: -1}
		if v, ok := f.Uint(key); ok {
			got.u = v
		}
		if v, ok := f.Int(key); ok {
			got.i = v
		}
		if v, ok := f.Float(key); ok {
			got.f = v
		}
		if v, ok := f.Bool(key); ok {
			got.b = v
		}
		if v, ok := f.String(key); ok {
			got.s = v
		}
		if v, ok := f.Strings(key); ok {
			got.n, got.all = v.Len(), plain(v)
		}
		if v, ok := f.Ints(key); ok {
			list := []int64{}
			for i, x := range v.All() {
				if v.At(i) != x {
					t.Errorf("%s: At(%d) = %d, All gives %d", key, i, v.At(i), x)
				}
				list = append(list, x)
			}
			got.n, got.all = v.Len(), list
		}
		if v, ok := f.Floats(key); ok {
			list := []float64{}
			for i, x := range v.All() {
				if v.At(i) != x {
					t.Errorf("%s: At(%d) = %g, All gives %g", key, i, v.At(i), x)
				}
				list = append(list, x)
			}
			got.n, got.all = v.Len(), list
		}
		if v, ok := f.Bools(key); ok {
			got.n, got.all = len(v), v
		}
		if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(want{})); diff != "" {
			t.Errorf("key %q (-want +got):\n%s", key, diff)
		}
		if v, ok := f.Any(key); ok != (test.v != nil) || !cmp.Equal(plain(v), test.v) {
			t.Errorf("Any(%q) = %v, %v; want %v", key, v, ok, test.v)
		}
	}
}

func TestStringsAllocateNothing(t *testing.T) {
	w := NewWriter()
	w.SetStrings("tokens", []string{"one", "", "three"})
	f := parse(t, write(t, w))
	s, _ := f.Strings("tokens")
	n := 0
	if allocs := testing.AllocsPerRun(100, func() {
		for i := range s.Len() {
			n += len(s.At(i))
		}
		for _, v := range s.All() {
			n += len(v)
		}
		if v, ok := f.Strings("tokens"); !ok || v.Len() != 3 {
			t.Error("Strings")
		}
	}); allocs != 0 {
		t.Errorf("%v allocations, want none", allocs)
	}
	if got, err := json.Marshal(s); err != nil || string(got) != `["one","","three"]` {
		t.Errorf("JSON = %s, %v", got, err)
	}
	for range s.All() {
		break // must be allowed
	}
	defer func() {
		if recover() == nil {
			t.Error("At(3) of three strings did not panic")
		}
	}()
	s.At(3)
}

func TestDataRefuses(t *testing.T) {
	w := NewWriter()
	w.AddTensor("a", tensor.I8, []uint64{32}, make([]byte, 32))
	f := parse(t, write(t, w))
	good, _ := f.Lookup("a")
	for name, change := range map[string]func(*TensorInfo){
		"before the data": func(i *TensorInfo) { i.Offset = 0 },
		"past the end":    func(i *TensorInfo) { i.Offset = math.MaxUint64 },
		"too long":        func(i *TensorInfo) { i.Bytes++ },
		"overflow":        func(i *TensorInfo) { i.Bytes = math.MaxUint64 },
		"a part too many": func(i *TensorInfo) { i.Part = 1 },
		"a part below 0":  func(i *TensorInfo) { i.Part = -1 },
	} {
		info := good
		change(&info)
		if data, err := f.Data(info); !errors.Is(err, ErrFormat) || data != nil {
			t.Errorf("%s: Data = %x, %v", name, data, err)
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	tests := []struct {
		name string
		do   func(w *Writer)
		want error
	}{
		{"version", func(w *Writer) { w.SetVersion(1) }, ErrVersion},
		{"Go type", func(w *Writer) { w.Set("k", 1) }, ErrUnsupported},
		{"nil", func(w *Writer) { w.Set("k", nil) }, ErrUnsupported},
		{"scalar in []any", func(w *Writer) { w.Set("k", []any{uint8(1)}) }, ErrUnsupported},
		{"depth", func(w *Writer) { w.Set("k", []any{[]any{[]any{[]any{}}}}) }, nil},
		{"too deep", func(w *Writer) { w.Set("k", []any{[]any{[]any{[]any{[]any{}}}}}) }, ErrLimit},
		{"long key", func(w *Writer) { w.SetBool(strings.Repeat("k", maxKeyBytes+1), true) }, ErrLimit},
		{"key bytes", func(w *Writer) { w.SetBool("\xff", true) }, ErrFormat},
		{"alignment", func(w *Writer) { w.SetUint32(alignmentKey, 48) }, ErrFormat},
		{"alignment type", func(w *Writer) { w.SetInt32(alignmentKey, 32) }, ErrFormat},
		{"unknown dtype", func(w *Writer) { w.AddTensor("t", 4, []uint64{32}, nil) }, ErrUnsupported},
		{"long name", func(w *Writer) {
			w.AddTensor(strings.Repeat("n", maxNameBytes+1), tensor.I8, []uint64{1}, []byte{1})
		}, ErrLimit},
		{"twice", func(w *Writer) {
			w.AddTensor("t", tensor.I8, []uint64{1}, []byte{1})
			w.AddTensor("t", tensor.I8, []uint64{1}, []byte{1})
		}, ErrFormat},
		{"no dimension", func(w *Writer) { w.AddTensor("t", tensor.I8, nil, []byte{1}) }, ErrFormat},
		{"size", func(w *Writer) { w.AddTensor("t", tensor.F32, []uint64{2}, make([]byte, 7)) }, ErrFormat},
		{"short source", func(w *Writer) {
			w.AddTensorFrom("t", tensor.F32, []uint64{2}, strings.NewReader("1234567"))
		}, io.ErrUnexpectedEOF},
		{"long source", func(w *Writer) {
			w.AddTensorFrom("t", tensor.F32, []uint64{2}, strings.NewReader("123456789"))
		}, nil},
	}
	for _, test := range tests {
		w := NewWriter()
		test.do(w)
		if _, err := w.WriteTo(io.Discard); !errors.Is(err, test.want) {
			t.Errorf("%s: WriteTo = %v, want %v", test.name, err, test.want)
		}
	}
}

// TestWriterReportsAll: all problems in one error, and nothing written.
func TestWriterReportsAll(t *testing.T) {
	w := NewWriter()
	w.Set("a", 1)
	w.AddTensor("t", tensor.Q8_0, []uint64{31}, nil)
	w.SetUint32(alignmentKey, 0)
	var buf bytes.Buffer
	_, err := w.WriteTo(&buf)
	for _, part := range []string{`key "a": unsupported value of Go type int`, `tensor "t": malformed file: a row of 31`, "general.alignment is 0"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not say %q", err, part)
		}
	}
	if buf.Len() != 0 {
		t.Errorf("%d bytes written", buf.Len())
	}
}

// TestWriterPassesErrors: an error of the destination comes back wherever it
// happens, with the number of bytes that were taken.
func TestWriterPassesErrors(t *testing.T) {
	w := NewWriter()
	w.SetUint32("general.alignment", 64)
	w.SetUint32("general.alignment", 8) // the last value counts
	w.AddTensor("t", tensor.I8, []uint64{4}, []byte("data"))
	size := len(write(t, w))
	for room := range size {
		n, err := w.WriteTo(&limited{room})
		if !errors.Is(err, errFull) || n != int64(room) {
			t.Errorf("room for %d of %d: WriteTo = %d, %v", room, size, n, err)
		}
	}
}

var errFull = errors.New("full")

type limited struct{ room int }

func (l *limited) Write(b []byte) (int, error) {
	n := min(len(b), l.room)
	l.room -= n
	if n < len(b) {
		return n, errFull
	}
	return n, nil
}

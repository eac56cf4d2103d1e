package gguf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/tensor"
)

// small is a model of n tensors, each with its own bytes.
func small(n int) *Writer {
	w := NewWriter()
	w.SetString("general.architecture", "demo")
	w.SetStrings("tokenizer.ggml.tokens", []string{"a", "b", "c"})
	for i := range n {
		w.AddTensor(fmt.Sprintf("t%d", i), tensor.I8, []uint64{uint64(40 + i)}, bytes.Repeat([]byte{byte(i + 1)}, 40+i))
	}
	return w
}

// splitParts writes a model in parts.
func splitParts(t testing.TB, w *Writer, count int) [][]byte {
	t.Helper()
	writers, err := w.Split(count)
	if err != nil {
		t.Fatal(err)
	}
	parts := make([][]byte, count)
	for i, p := range writers {
		parts[i] = write(t, p)
	}
	return parts
}

// mustParseParts reads a model that must be good.
func mustParseParts(t testing.TB, parts ...[]byte) *File {
	t.Helper()
	b := budget.New(1 << 30)
	f, err := ParseParts(parts, b.Lease())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if f.Close(); b.Used() != 0 {
			t.Errorf("%d bytes are still reserved after Close", b.Used())
		}
	})
	return f
}

// TestParts: a model in parts has the keys and the tensors of the one file, and
// each tensor's data are a view of its own part. With more parts than tensors
// some have none, as where llama.cpp keeps the first part for the metadata.
func TestParts(t *testing.T) {
	for _, test := range []struct{ tensors, count int }{{5, 1}, {5, 2}, {7, 3}, {3, 3}, {2, 5}, {0, 2}, {1, MaxParts}} {
		for _, alignment := range []uint32{0, 128} {
			t.Run(fmt.Sprintf("%d tensors in %d, alignment %d", test.tensors, test.count, alignment), func(t *testing.T) {
				w := small(test.tensors)
				if alignment != 0 {
					w.SetUint32(alignmentKey, alignment)
				}
				whole, parts := parse(t, write(t, w)), splitParts(t, w, test.count)
				f := mustParseParts(t, parts...)

				for key := range whole.Keys() {
					want, _ := whole.Any(key)
					if got, ok := f.Any(key); !ok || !cmp.Equal(plain(got), plain(want)) {
						t.Errorf("%s = %v, want %v", key, got, want)
					}
				}
				if f.Len() != whole.Len()+3 {
					t.Errorf("%d keys, want those of the split beside the %d", f.Len(), whole.Len())
				}
				names := func(f *File) (all []string) {
					for info := range f.Tensors() {
						all = append(all, info.Name)
					}
					return all
				}
				if diff := cmp.Diff(names(whole), names(f)); diff != "" {
					t.Errorf("tensors (-want +got):\n%s", diff)
				}
				tensors := 0
				for i, p := range f.Parts() {
					want := Part{maxVersion, uint64(len(parts[i])), whole.Alignment(), p.DataOffset, p.Tensors}
					if p != want || p.Tensors < test.tensors/test.count || p.Tensors > test.tensors/test.count+1 {
						t.Errorf("part %d: %+v, want %+v", i, p, want)
					}
					tensors += p.Tensors
				}
				if tensors != test.tensors || f.TensorCount() != tensors || len(f.Parts()) != test.count {
					t.Errorf("%d tensors in %d parts", tensors, len(f.Parts()))
				}
				for info := range whole.Tensors() {
					got, ok := f.Lookup(info.Name)
					want, err := whole.Data(info)
					data, errPart := f.Data(got)
					if !ok || err != nil || errPart != nil || !bytes.Equal(data, want) {
						t.Fatalf("%s: %v, %v, %v: %x, want %x", info.Name, ok, err, errPart, data, want)
					}
					if &data[0] != &parts[got.Part][got.Offset] || cap(data) != len(data) {
						t.Errorf("%s is no view of part %d", info.Name, got.Part)
					}
				}
			})
		}
	}
}

// TestPartsReference reads the four files into which the gguf Python package
// 0.19.0 split a model; the first has no tensors.
func TestPartsReference(t *testing.T) {
	paths, err := PartPaths("testdata/parts-00003-of-00004.gguf")
	if err != nil || len(paths) != 4 {
		t.Fatal(paths, err)
	}
	var parts [][]byte
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, data)
	}
	f := mustParseParts(t, parts...)
	var in []int
	for info := range f.Tensors() {
		data, err := f.Data(info)
		var want []byte
		for j := range 6 {
			want = binary.LittleEndian.AppendUint32(want, math.Float32bits(float32(10*len(in)+j)))
		}
		if err != nil || !bytes.Equal(data, want) || info.Name != fmt.Sprintf("t%d", len(in)) {
			t.Errorf("tensor %d: %+v: %x, %v", len(in), info, data, err)
		}
		in = append(in, info.Part)
	}
	if name, _ := f.String("general.name"); name != "in parts" || !slices.Equal(in, []int{1, 1, 2, 2, 3}) {
		t.Errorf("%q has its tensors in the parts %v", name, in)
	}
}

// TestPartsRefused gives files that are not one model together.
func TestPartsRefused(t *testing.T) {
	good := splitParts(t, small(7), 3)
	writers, err := small(7).Split(3)
	if err != nil {
		t.Fatal(err)
	}
	// with is the good parts and one key of some of them changed.
	with := func(key string, v any, in ...int) [][]byte {
		parts := slices.Clone(good)
		for _, i := range in {
			w := *writers[i]
			w.keys, w.known = slices.Clone(w.keys), maps.Clone(w.known)
			w.Set(key, v)
			parts[i] = write(t, &w)
		}
		return parts
	}
	without := func(key string, i int) [][]byte {
		w := *writers[i]
		w.keys = slices.DeleteFunc(slices.Clone(w.keys), func(p pair) bool { return p.key == key })
		parts := slices.Clone(good)
		parts[i] = write(t, &w)
		return parts
	}
	replaced := func(i int, part []byte) [][]byte {
		parts := slices.Clone(good)
		parts[i] = part
		return parts
	}
	twice := *writers[2]
	twice.tensors = slices.Clone(twice.tensors)
	twice.tensors[1].name = "t0"
	other := small(7)
	other.SetString("general.architecture", "other")
	whole := write(t, small(2))

	for _, test := range []struct {
		name  string
		parts [][]byte
		want  error
		says  string
	}{
		{"no part", nil, ErrMissing, "no file"},
		{"more than are read", make([][]byte, MaxParts+1), ErrLimit, "1025 files"},
		{"swapped", [][]byte{good[1], good[0], good[2]}, ErrFormat, "part 1 of 3: malformed file: split.no is 1, not 0"},
		{"swapped behind the first", [][]byte{good[0], good[2], good[1]}, ErrFormat, "part 2 of 3: malformed file: split.no is 2, not 1"},
		{"one twice", [][]byte{good[0], good[1], good[1]}, ErrFormat, "part 3 of 3"},
		{"the first alone", good[:1], ErrMissing, "gguf: missing part: of the model's 3 files there is no -00002-of-00003.gguf, -00003-of-00003.gguf"},
		{"the last alone", good[2:], ErrMissing, "no -00001-of-00003.gguf, -00002-of-00003.gguf"},
		{"no middle one", [][]byte{good[0], good[2]}, ErrMissing, "of the model's 3 files there is no -00002-of-00003.gguf"},
		{"no first one", good[1:], ErrMissing, "there is no -00001-of-00003.gguf"},
		{"no last one", good[:2], ErrMissing, "there is no -00003-of-00003.gguf"},
		{"the same alone twice", [][]byte{good[1], good[1]}, ErrMissing, "-00001-of-00003.gguf, -00003-of-00003.gguf"},
		{"one of 1024", splitParts(t, small(1), MaxParts)[5:6], ErrMissing, "-00001-of-01024.gguf, -00002-of-01024.gguf, -00003-of-01024.gguf, -00004-of-01024.gguf and 1019 more"},
		{"2^31 parts", with(splitCountKey, uint32(1<<31), 0)[:1], ErrLimit, "2147483648 parts, at most 1024 are read"},
		{"2^31 parts in each", with(splitCountKey, uint32(1<<31), 0, 1, 2), ErrLimit, "2147483648 parts"},
		{"2^31 parts in another", with(splitCountKey, uint32(1<<31), 1), ErrFormat, "part 2 of 3: malformed file: split.count is 2147483648, the first part says 3"},
		{"2^64-1 parts", with(splitCountKey, uint64(math.MaxUint64), 0)[:1], ErrLimit, ""},
		{"number 2^64-1 alone", with(splitNoKey, uint64(math.MaxUint64), 0)[:1], ErrMissing, "-00001-of-00003.gguf"},
		{"a number past the last alone", with(splitNoKey, uint16(3), 2)[2:], ErrMissing, "-00001-of-00003.gguf, -00002-of-00003.gguf, -00003-of-00003.gguf"},
		{"a text alone", [][]byte{[]byte("not a model")}, ErrMagic, "gguf: not a GGUF file"},
		{"a count of words", with(splitCountKey, "three", 0)[:1], ErrFormat, "split.count is not a number"},
		{"a count below 0", with(splitCountKey, int32(-1), 1), ErrFormat, "part 2 of 3: malformed file: split.count is not a number"},
		{"a number below 0", with(splitNoKey, int8(-1), 2), ErrFormat, "split.no"},
		{"no count", without(splitCountKey, 1), ErrFormat, "split.count is 0, the first part says 3"},
		{"no count in the first", without(splitCountKey, 0), ErrFormat, "split.count is 0, and 3 files are given"},
		{"no number", without(splitNoKey, 1), ErrFormat, "split.no is 0, not 1"},
		{"no sum", without(splitTensorsKey, 1), ErrFormat, "split.tensors.count is 0, the first part says 7"},
		{"another sum", with(splitTensorsKey, int32(8), 0, 1, 2), ErrFormat, "split.tensors.count is 8, and the parts have 7"},
		{"another sum in one", with(splitTensorsKey, int32(6), 2), ErrFormat, "part 3 of 3: malformed file: split.tensors.count is 6, the first part says 7"},
		{"a file too many", append(slices.Clone(good), whole), ErrFormat, "split.count is 3, and 4 files are given"},
		{"two whole files", [][]byte{whole, whole}, ErrFormat, "split.count is 0, and 2 files are given"},
		{"a whole file as part", replaced(1, whole), ErrFormat, "part 2 of 3"},
		{"a part of a model with more tensors", replaced(1, splitParts(t, small(9), 3)[1]), ErrFormat, "split.tensors.count is 9, the first part says 7"},
		{"a part of a model with more parts", replaced(1, splitParts(t, small(7), 4)[1]), ErrFormat, "split.count is 4"},
		{"the first part of another model", replaced(1, splitParts(t, other, 3)[0]), ErrFormat, "split.no is 0, not 1"},
		{"the same key with another value", with("general.architecture", "other", 1), ErrFormat, `part 2 of 3: malformed file: the first part doesn't say the same of the key "general.architecture"`},
		{"the same key with another type", with("general.architecture", []string{"demo"}, 2), ErrFormat, "part 3 of 3"},
		{"a key of its own", with("demo.block_count", uint32(3), 2), ErrFormat, `"demo.block_count"`},
		{"a tensor twice", replaced(2, write(t, &twice)), ErrFormat, `tensor "t0": malformed file: it is there twice`},
		{"nothing as part", replaced(1, nil), ErrTruncated, "part 2 of 3"},
		{"a text as part", replaced(1, []byte("not a model")), ErrMagic, "part 2 of 3"},
		{"an alignment of 3", replaced(1, head(3, 0, 1).key(alignmentKey, 4).u32(3)), ErrFormat, "part 2 of 3"},
		{"2^63 tensors in a part", replaced(1, head(3, 1<<63, 0)), ErrTruncated, "part 2 of 3: 9223372036854775808 tensors"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := budget.New(1 << 20)
			f, err := ParseParts(test.parts, b.Lease())
			if !errors.Is(err, test.want) {
				t.Fatalf("ParseParts = %v, want %v", err, test.want)
			}
			refused(t, f, err, b)
			if !strings.Contains(err.Error(), test.says) {
				t.Errorf("%q does not say %q", err, test.says)
			}
		})
	}
}

// TestPartsAccepted gives what differs between parts and may.
func TestPartsAccepted(t *testing.T) {
	writers, err := small(4).Split(2)
	if err != nil {
		t.Fatal(err)
	}
	first := write(t, writers[0])
	writers[1].SetVersion(2)
	writers[1].SetUint32(alignmentKey, 4096)
	writers[1].SetString("general.architecture", "demo") // once more
	writers[1].Set(splitCountKey, uint64(2))             // in another type: it is a number all the same
	second := write(t, writers[1])
	f := mustParseParts(t, first, second)
	if p := f.Parts(); p[0].Alignment != 32 || p[1].Alignment != 4096 || p[1].DataOffset != 4096 || p[0].Version != 3 || p[1].Version != 2 {
		t.Errorf("%+v", p)
	}
	info, _ := f.Lookup("t3")
	if data, err := f.Data(info); err != nil || info.Offset != 8192 || &data[0] != &second[8192] {
		t.Errorf("%+v, %v", info, err)
	}
}

// TestPartsTruncated cuts a part at every byte: what is missing is data of that
// part, or nothing but the padding.
func TestPartsTruncated(t *testing.T) {
	good := splitParts(t, small(4), 2)
	f := mustParseParts(t, good...)
	for i := range good {
		end := 0
		for info := range f.Tensors() {
			if info.Part == i {
				end = max(end, int(info.Offset+info.Bytes))
			}
		}
		for n := range good[i] {
			parts := slices.Clone(good)
			parts[i] = good[i][:n:n]
			b := budget.New(1 << 20)
			f, err := ParseParts(parts, b.Lease())
			if n >= end {
				if err != nil {
					t.Errorf("%d bytes of part %d: %v", n, i+1, err)
				}
				continue
			}
			if !errors.Is(err, ErrTruncated) || !strings.Contains(err.Error(), fmt.Sprintf("part %d of 2", i+1)) {
				t.Fatalf("%d bytes of part %d: %v", n, i+1, err)
			}
			refused(t, f, err, b)
		}
	}
}

// TestPartsBudget tries every limit, as TestBudget does.
func TestPartsBudget(t *testing.T) {
	parts := splitParts(t, small(4), 3)
	b := budget.New(1 << 20)
	f, err := ParseParts(parts, b.Lease())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	need := b.Used()
	for limit := range need + 10 {
		b := budget.New(limit)
		f, err := ParseParts(parts, b.Lease())
		if (err == nil) != (limit >= need) || err != nil && !errors.Is(err, budget.ErrExceeded) {
			t.Fatalf("limit %d of %d: %v", limit, need, err)
		}
		if err != nil {
			refused(t, f, err, b)
		}
	}
}

func TestWriterSplit(t *testing.T) {
	for _, count := range []int{math.MinInt, -1, 0, MaxParts + 1} {
		if parts, err := small(1).Split(count); !errors.Is(err, ErrLimit) || parts != nil {
			t.Errorf("%d parts: %v", count, err)
		}
	}
	w := small(1)
	w.SetVersion(2)
	for i, part := range splitParts(t, w, 2) {
		if part[4] != 2 {
			t.Errorf("part %d has version %d", i+1, part[4])
		}
	}
	w.SetVersion(7)
	if _, err := w.Split(2); !errors.Is(err, ErrVersion) {
		t.Errorf("a bad call before Split: %v", err)
	}
}

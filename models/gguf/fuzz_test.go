package gguf

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/tensor"
)

// FuzzParse: any bytes give a typed error or a File that stays in bounds, for
// memory that was reserved first; and what was read, written again, is the same
// file up to the places of tensors.
func FuzzParse(f *testing.F) {
	f.Add(reference(f))
	f.Add([]byte(nil))
	f.Add([]byte(head(2, 0, 0)))
	f.Add([]byte(head(3, 0, 1).key("tokenizer.ggml.tokens", 9).arr(8, 1<<40).data(64)))
	f.Add([]byte(head(3, 0, 2).key(alignmentKey, 4).u32(64).key("k", 9).arr(9, 2).arr(8, 1).str("x").arr(7, 2).bytes(0, 1)))
	f.Add([]byte(head(3, 2, 1).key("split.count", 2).bytes(2, 0).
		tensor("b", tensor.Q8_0, 64, 32).tensor("a", tensor.F32, 0, 2, 2, 2).data(128)))
	f.Add([]byte(head(3, 1, 0).tensor("odd", 4321, 0, 3).data(32)))
	// One thing of each kind that is priced, larger than what goes unnoticed.
	long := string(make([]byte, 40_000))
	for _, b := range []raw{
		head(3, 0, 2000).data(len(long)), head(3, 0, 1).key("s", 8).str(long), head(3, 0, 1).key("s", 9).arr(8, 1).str(long),
		head(3, 0, 1).key("s", 9).arr(8, 5000), head(3, 0, 1).key("b", 9).arr(7, 40_000), head(3, 0, 1).key("n", 9).arr(5, 10_000),
		head(3, 0, 1).key("a", 9).arr(9, 3000),
	} {
		f.Add([]byte(b.data(50_000)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		// Budgets that are too small for the larger files, and one for all.
		for limit := int64(len(data)) / 4; limit <= 4<<20; limit = limit*16 + 4096 {
			checkPriced(t, limit, data)
		}
		file := readAll(t, data)
		if file == nil {
			return
		}
		w := NewWriter()
		w.SetVersion(file.Version())
		for key := range file.Keys() {
			v, _ := file.Any(key)
			w.Set(key, v)
		}
		tensors := slices.Collect(file.Tensors())
		for _, info := range tensors {
			d, err := file.Data(info)
			if err != nil {
				return // of an unknown type: nothing to write
			}
			w.AddTensor(info.Name, info.Type, info.Dims(), d)
		}
		out := write(t, w)

		// Values are written as they were read, byte for byte.
		keys := *w
		keys.tensors = nil
		want := keys.head(file.Alignment())[24:]
		if !bytes.HasPrefix(data[24:], want) || !bytes.HasPrefix(out[24:], want) {
			t.Fatalf("the keys changed:\n%x\n%x", data[24:], want)
		}
		again := readAll(t, out)
		if again == nil {
			t.Fatal("what was written is refused")
		}
		for i, info := range slices.Collect(again.Tensors()) {
			before, _ := file.Data(tensors[i])
			after, err := again.Data(info)
			info.Offset = tensors[i].Offset
			if err != nil || info != tensors[i] || !bytes.Equal(before, after) {
				t.Errorf("tensor %+v became %+v, %v", tensors[i], info, err)
			}
		}
		if !bytes.Equal(out, rewrite(t, again)) {
			t.Error("the second time writes other bytes")
		}
	})
}

// FuzzParseParts: any two files give a typed error or one File whose tensors lie
// each in its own part, for memory that was reserved first; each part alone is
// refused for the other's sake, and the model in one file is the same.
func FuzzParseParts(f *testing.F) {
	add := func(parts [][]byte) { f.Add(parts[0], parts[1]) }
	good := splitParts(f, small(3), 2)
	add(good)
	add([][]byte{good[1], good[0]})
	add(splitParts(f, small(1), 2))
	add(splitParts(f, small(9), 3)[:2])
	add([][]byte{reference(f), nil})
	// No larger than what a fuzzer changes to good use: heads made by hand.
	keys := func(no, count, tensors byte, n uint64) raw {
		return head(3, n, 3).key(splitNoKey, 0).bytes(no).key(splitCountKey, 0).bytes(count).key(splitTensorsKey, 0).bytes(tensors)
	}
	add([][]byte{keys(0, 2, 2, 1).tensor("a", tensor.I8, 0, 1).data(32), keys(1, 2, 2, 1).tensor("a", tensor.I8, 0, 1).data(32)})
	add([][]byte{keys(0, 2, 2, 1).tensor("a", tensor.I8, 0, 1).data(32), keys(1, 2, 2, 1).tensor("b", 4321, 0, 1).data(32)})
	add([][]byte{keys(0, 2, 1, 0), keys(1, 2, 1, 1).tensor("a", tensor.I8, 32, 4).data(36)})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		parts := [][]byte{first, second}
		for limit := int64(len(first)+len(second)) / 4; limit <= 4<<20; limit = limit*16 + 4096 {
			checkPriced(t, limit, parts...)
		}
		file := readAll(t, parts...)
		if file == nil {
			return
		}
		for i, part := range parts {
			if f, err := Parse(part, budget.New(4<<20).Lease()); !errors.Is(err, ErrMissing) {
				t.Errorf("part %d alone: %v, %v", i+1, f, err)
			}
		}
		for info := range file.Tensors() {
			if !info.Type.Known() {
				return // nothing to write
			}
		}
		w := writerOf(t, file)
		w.Set(splitCountKey, uint8(1))
		whole := readAll(t, write(t, w))
		if whole == nil {
			t.Fatal("the model in one file is refused")
		}
		for info := range whole.Tensors() {
			in, _ := file.Lookup(info.Name)
			want, err := file.Data(in)
			got, errWhole := whole.Data(info)
			if err != nil || errWhole != nil || !bytes.Equal(got, want) || info.Type != in.Type || info.Shape != in.Shape {
				t.Errorf("tensor %+v became %+v, %v, %v", in, info, err, errWhole)
			}
		}
		if whole.TensorCount() != file.TensorCount() {
			t.Errorf("%d tensors became %d", file.TensorCount(), whole.TensorCount())
		}
	})
}

// checkPriced parses within a budget: what is allocated in all is what was
// reserved, or where Parse failed at most what may be, give or take the
// allocator's size classes and the error.
func checkPriced(t *testing.T, limit int64, parts ...[]byte) {
	t.Helper()
	lease := budget.New(limit).Lease()
	defer lease.Close()
	var err error
	bytes := int64(allocated(func() { _, err = ParseParts(parts, lease) }))
	priced := limit
	if err == nil {
		priced = lease.Held()
	}
	if bytes > priced+priced/8+16<<10 {
		t.Errorf("%d bytes were allocated for files of %d, %d were priced (%v)", bytes, len(slices.Concat(parts...)), priced, err)
	}
}

// writerOf makes a writer with all that a File has.
func writerOf(t testing.TB, f *File) *Writer {
	t.Helper()
	w := NewWriter()
	w.SetVersion(f.Version())
	for key := range f.Keys() {
		v, _ := f.Any(key)
		w.Set(key, v)
	}
	for info := range f.Tensors() {
		d, err := f.Data(info)
		if err != nil {
			t.Fatal(err)
		}
		w.AddTensor(info.Name, info.Type, info.Dims(), d)
	}
	return w
}

func rewrite(t testing.TB, f *File) []byte {
	t.Helper()
	return write(t, writerOf(t, f))
}

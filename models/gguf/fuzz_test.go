package gguf

import (
	"bytes"
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
			checkPriced(t, data, limit)
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

// checkPriced parses within a budget: what is allocated in all is what was
// reserved, or where Parse failed at most what may be, give or take the
// allocator's size classes and the error.
func checkPriced(t *testing.T, data []byte, limit int64) {
	t.Helper()
	lease := budget.New(limit).Lease()
	defer lease.Close()
	var err error
	bytes := int64(allocated(func() { _, err = Parse(data, lease) }))
	priced := limit
	if err == nil {
		priced = lease.Held()
	}
	if bytes > priced+priced/8+16<<10 {
		t.Errorf("%d bytes were allocated for a file of %d, %d were priced (%v)", bytes, len(data), priced, err)
	}
}

func rewrite(t testing.TB, f *File) []byte {
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
	return write(t, w)
}

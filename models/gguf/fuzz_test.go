package gguf

import (
	"bytes"
	"slices"
	"testing"

	"github.com/dunlin-go/dunlin/tensor"
)

// FuzzParse: any bytes give a typed error or a File that stays in bounds; and
// what was read, written again, is the same file up to the places of tensors.
func FuzzParse(f *testing.F) {
	f.Add(reference(f))
	f.Add([]byte(nil))
	f.Add([]byte(head(2, 0, 0)))
	f.Add([]byte(head(3, 0, 1).key("tokenizer.ggml.tokens", 9).arr(8, 1<<40).data(64)))
	f.Add([]byte(head(3, 0, 2).key(alignmentKey, 4).u32(64).key("k", 9).arr(9, 2).arr(8, 1).str("x").arr(7, 2).bytes(0, 1)))
	f.Add([]byte(head(3, 2, 1).key("split.count", 2).bytes(2, 0).
		tensor("b", tensor.Q8_0, 64, 32).tensor("a", tensor.F32, 0, 2, 2, 2).data(128)))
	f.Add([]byte(head(3, 1, 0).tensor("odd", 4321, 0, 3).data(32)))
	f.Fuzz(func(t *testing.T, data []byte) {
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

package testmodel

import (
	"bytes"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/models/gguf"
)

// Parts is a model's file as count files, as llama.cpp splits it;
// [gguf.PartPath] names them.
func Parts(model []byte, count int) [][]byte {
	f, err := gguf.Parse(model, budget.New(1<<30).Lease())
	if err != nil {
		panic(err)
	}
	defer f.Close()
	w := gguf.NewWriter()
	for key := range f.Keys() {
		v, _ := f.Any(key)
		w.Set(key, v)
	}
	for t := range f.Tensors() {
		data, err := f.Data(t)
		if err != nil {
			panic(err)
		}
		w.AddTensor(t.Name, t.Type, t.Dims(), data)
	}
	writers, err := w.Split(count)
	if err != nil {
		panic(err)
	}
	parts := make([][]byte, count)
	for i, w := range writers {
		var out bytes.Buffer
		if _, err := w.WriteTo(&out); err != nil {
			panic(err)
		}
		parts[i] = out.Bytes()
	}
	return parts
}

package models_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/models"
	"github.com/dunlin-go/dunlin/models/gguf"
	"github.com/dunlin-go/dunlin/models/pool"
	"github.com/dunlin-go/dunlin/tensor"
)

func TestFirstUse(t *testing.T) {
	for name, data := range map[string][]byte{
		"tied": testmodel.Llama(testmodel.Config{Layers: 12}), "untied": testmodel.Llama(testmodel.Config{Layers: 12, Untied: true}),
	} {
		f := parse(t, data)
		spans, err := models.FirstUse(f, budget.New(1<<20).Lease())
		if err != nil {
			t.Fatal(err)
		}
		at := func(tensor string) int {
			info, ok := f.Lookup(tensor)
			if !ok {
				t.Fatalf("%s: no %s", name, tensor)
			}
			i := slices.IndexFunc(spans, func(s pool.Span) bool {
				return s.Offset <= int64(info.Offset) && int64(info.Offset+info.Bytes) <= s.Offset+s.Bytes
			})
			if i < 0 {
				t.Fatalf("%s: %s is in no span", name, tensor)
			}
			return i
		}
		order := []string{"blk.0.attn_q.weight", "blk.2.attn_q.weight", "blk.11.attn_q.weight", "output_norm.weight", "token_embd.weight"}
		if name == "untied" {
			order = slices.Insert(order, 4, "output.weight")
		}
		for i := 1; i < len(order); i++ {
			if at(order[i-1]) > at(order[i]) {
				t.Errorf("%s: %s comes before %s", name, order[i], order[i-1])
			}
		}
		if len(spans) > 3 {
			t.Errorf("%s: %d spans of a file whose blocks lie side by side", name, len(spans))
		}
		if _, err := models.FirstUse(f, budget.New(1000).Lease()); !errors.Is(err, budget.ErrExceeded) {
			t.Errorf("%s: a small budget: %v", name, err)
		}
		all := int64(0)
		for info := range f.Tensors() {
			at(info.Name)
			all += int64(info.Bytes)
		}
		for _, s := range spans {
			all -= s.Bytes
		}
		if all > 0 || -all > int64(f.TensorCount())*int64(f.Alignment()) {
			t.Errorf("%s: the spans have %d bytes more than the tensors", name, -all)
		}
	}
}

// Names that only look like those of blocks belong to none.
func TestFirstUseOfOddNames(t *testing.T) {
	order := []string{
		"rope_freqs.weight", "blk.", "blk.x.y", "blk.-1.x", "blk.99999999999999999999.x", "blk.4294967296.x",
		"blk.0.x", "blk.9.x", "blk.10.x", "blk.2147483647.x", "output_norm.weight", "token_embd.weight",
	}
	const none = 6 // of the first ones, which keep the file's order
	written := slices.Concat(order[none:], order[:none])
	slices.Reverse(written[:len(order)-none])
	w := gguf.NewWriter()
	for _, name := range written {
		w.AddTensor(name, tensor.F32, []uint64{1024}, make([]byte, 4096))
	}
	var file bytes.Buffer
	if _, err := w.WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	f := parse(t, file.Bytes())
	spans, err := models.FirstUse(f, budget.New(1<<20).Lease())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range spans {
		for info := range f.Tensors() {
			if at := int64(info.Offset); s.Offset <= at && at < s.Offset+s.Bytes {
				got = append(got, info.Name)
			}
		}
	}
	if !slices.Equal(got, order) {
		t.Errorf("the order is %q, want %q", got, order)
	}
}

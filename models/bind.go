package models

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/models/gguf"
	"github.com/dunlin-go/dunlin/tensor"
)

// bind fills the [*tensor.Tensor] fields of the struct that weights points to
// from the file. Each field has the tags
//
//	gguf:"blk.{n}.attn_q.weight"       the name in GGUF, {n} the layer's number
//	hf:"model.layers.{n}.…"            the name in Hugging Face checkpoints
//	dims:"heads,embedding"             rows and columns as names in sizes; one name for a vector
//	optional:"true"                    the field may stay nil
func (l *loader) bind(weights any, layer int, sizes map[string]int) error {
	v := reflect.ValueOf(weights).Elem()
	for i := range v.NumField() {
		field := v.Type().Field(i)
		name := strings.ReplaceAll(field.Tag.Get("gguf"), "{n}", strconv.Itoa(layer))
		info, ok := l.file.Lookup(name)
		if !ok {
			if field.Tag.Get("optional") == "true" {
				continue
			}
			return fmt.Errorf("%w: tensor %q is missing", ErrInvalid, name)
		}
		t, err := l.tensor(info, strings.Split(field.Tag.Get("dims"), ","), sizes)
		if err != nil {
			return err
		}
		v.Field(i).Set(reflect.ValueOf(t))
	}
	return nil
}

// tensorBytes is the price of a tensor's view, beside its name, and of its place
// among those that were bound. layerBytes is that of a layer's struct and of what is
// kept of each layer elsewhere.
const (
	tensorBytes = 192
	layerBytes  = 256
)

// reserveLayers prices the structs of the layers, of which a file may have as many
// as it has tensors.
func (l *loader) reserveLayers(n int) error {
	return l.lease.ReserveItems(budget.Metadata, uint64(n), layerBytes)
}

// tensor views one tensor of the file after checking its shape.
func (l *loader) tensor(info gguf.TensorInfo, dims []string, sizes map[string]int) (*tensor.Tensor, error) {
	want := [gguf.MaxDims]uint64{1, 1, 1, 1} // GGUF's order: columns first
	for i, d := range dims {
		want[len(dims)-1-i] = uint64(sizes[d])
	}
	if info.Shape != want {
		return nil, fmt.Errorf("%w: tensor %q has the shape %v, the configuration says %v", ErrInvalid, info.Name, info.Dims(), want[:len(dims)])
	}
	if !info.Type.Computes() || len(dims) == 1 && info.Type != tensor.F32 {
		return nil, fmt.Errorf("%w: tensor %q has weights of type %v", ErrUnsupported, info.Name, info.Type)
	}
	if err := l.lease.Reserve(budget.Metadata, tensorBytes+int64(len(info.Name))); err != nil {
		return nil, err
	}
	data, err := l.file.Data(info)
	if err != nil {
		return nil, err
	}
	// The name is cloned, as the file's texts are one block and go together.
	t, err := tensor.New(strings.Clone(info.Name), info.Type, int(want[1]), int(want[0]), data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	l.used[info.Name] = true
	return t, nil
}

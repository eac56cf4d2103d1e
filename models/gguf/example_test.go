package gguf_test

import (
	"bytes"
	"fmt"
	"log"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/models/gguf"
	"github.com/dunlin-go/dunlin/tensor"
)

func Example() {
	w := gguf.NewWriter()
	w.SetString("general.architecture", "llama")
	w.SetUint32("llama.block_count", 2)
	w.SetStrings("tokenizer.ggml.tokens", []string{"<s>", "hello"})
	w.AddTensor("output_norm.weight", tensor.F32, []uint64{4}, make([]byte, 16))
	var file bytes.Buffer
	if _, err := w.WriteTo(&file); err != nil {
		log.Fatal(err)
	}

	ledger := budget.New(1 << 20)
	f, err := gguf.Parse(file.Bytes(), ledger.Lease())
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	blocks, _ := f.Uint("llama.block_count")
	tokens, _ := f.Strings("tokenizer.ggml.tokens")
	fmt.Println(blocks, tokens.Len(), tokens.At(1))
	for t := range f.Tensors() {
		data, err := f.Data(t)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(t.Name, t.Type, t.Dims(), len(data))
	}
	// Output:
	// 2 2 hello
	// output_norm.weight F32 [4] 16
}

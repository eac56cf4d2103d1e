// Command transformers runs a model of Hugging Face Transformers inside this process,
// without cgo; `make bridge` makes what it needs:
//
//	go run ./examples/transformers DIR
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"slices"

	"github.com/dunlin-go/dunlin/cbind"
	"github.com/dunlin-go/dunlin/runtime"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: transformers DIR")
	}
	if err := run(context.Background(), os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, dir string) error {
	m, err := cbind.Open(ctx, dir) // with cbind.Isolated() in a child process
	if err != nil {
		return err
	}
	defer m.Close()

	// The logits of a text, where torch has them.
	const text = "The capital of France is"
	ids, err := m.Tokenize(ctx, text, runtime.TokenizeOptions{AddSpecial: true})
	if err != nil {
		return err
	}
	out, err := m.Infer(ctx, cbind.Input{Tokens: ids})
	if err != nil {
		return err
	}
	defer out.Release()
	logits, err := out.Values() // [rows, tokens, vocabulary]
	if err != nil {
		return err
	}
	last := logits[len(logits)-m.Info().Vocabulary:]
	best := slices.Index(last, slices.Max(last))
	fmt.Printf("%s ...%q\n", text, m.TokenBytes(int32(best)))

	// And it is a generator like any other.
	req := runtime.Request{Prompt: text, MaxTokens: 32}
	for ev, err := range runtime.All(ctx, m, req) {
		if err != nil {
			return err
		}
		fmt.Print(ev.Text)
	}
	fmt.Println()
	return nil
}

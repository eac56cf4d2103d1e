// Command embed answers a question with a model file, inside this process:
//
//	go run ./examples/embed MODEL.gguf
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/dunlin-go/dunlin/runtime"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: embed MODEL.gguf")
	}
	ctx := context.Background()
	m, err := runtime.Load(ctx, os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	question := runtime.Message{Role: "user", Content: "What is the boiling point of water in Celsius?"}
	req := runtime.Request{Messages: []runtime.Message{question}, MaxTokens: 64}
	for ev, err := range runtime.All(ctx, m, req) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(ev.Text)
	}
}

// Command dunlin-bridge has Hugging Face Transformers for a program that keeps it
// out of its own process. It is started by package cbind/isolated, not by people.
package main

import (
	"fmt"
	"os"

	"github.com/dunlin-go/dunlin/cbind"
)

func main() {
	if err := cbind.Serve(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "dunlin-bridge:", err)
		os.Exit(1)
	}
}

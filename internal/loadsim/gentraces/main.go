// Command gentraces writes the synthetic traces into a directory, by default this one.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dunlin-go/dunlin/internal/loadsim"
)

func main() {
	dir := "."
	if len(os.Args) > 1 {
		dir = os.Args[1]
	}
	if err := write(dir); err != nil {
		fmt.Fprintln(os.Stderr, "gentraces:", err)
		os.Exit(1) //nolint:forbidigo // a command
	}
}

func write(dir string) error {
	for _, t := range []*loadsim.Trace{loadsim.Chat(), loadsim.Retrieval()} {
		f, err := os.Create(filepath.Join(dir, t.Name+".jsonl"))
		if err != nil {
			return err
		}
		if err := errors.Join(t.Write(f), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

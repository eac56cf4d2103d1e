// Command gentraces writes the synthetic traces into a directory.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dunlin-go/dunlin/internal/loadsim"
)

func main() {
	if err := write(os.Args[1]); err != nil {
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

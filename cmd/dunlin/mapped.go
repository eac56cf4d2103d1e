package main

import (
	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/models/gguf"
	"github.com/dunlin-go/dunlin/models/pool"
)

// mapModel maps the files of the model that the file at path belongs to. They stay
// mapped until the handle is closed.
func mapModel(path string) (*pool.Handle, error) {
	paths, err := gguf.PartPaths(path)
	if err != nil {
		return nil, err
	}
	return pool.OpenParts(paths, pool.Pinned())
}

// readModel parses a model's files for as long as f runs. They need not be a model
// that can be loaded. Their tables, and what is made of them, are priced in lease.
func readModel(h *pool.Handle, lease *budget.Lease, f func(*gguf.File) error) error {
	return h.Read(func() error {
		file, err := gguf.ParseParts(h.Parts(), lease)
		if err != nil {
			return err
		}
		return f(file)
	})
}

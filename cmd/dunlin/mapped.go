package main

import (
	"errors"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/models/gguf"
	"github.com/dunlin-go/dunlin/models/pool"
)

// mapped is the files of a model in memory: one, or all of its parts.
type mapped []*pool.Handle

// mapModel maps the files of the model that the file at path belongs to.
func mapModel(path string) (mapped, error) {
	paths, err := gguf.PartPaths(path)
	if err != nil {
		return nil, err
	}
	var files mapped
	for _, path := range paths {
		h, err := pool.Open(path)
		if err != nil {
			return nil, errors.Join(err, files.Close())
		}
		files = append(files, h)
	}
	return files, nil
}

// read parses the files for as long as f runs. They need not be a model that
// can be loaded.
func (m mapped) read(f func(*gguf.File) error) error {
	return pool.Guard(func() error {
		parts := make([][]byte, len(m))
		for i, h := range m {
			parts[i] = h.Bytes()
		}
		file, err := gguf.ParseParts(parts, budget.New(budget.Available()/2).Lease())
		if err != nil {
			return err
		}
		defer file.Close()
		return f(file)
	})
}

// Close gives the mappings back.
func (m mapped) Close() error {
	var errs []error
	for _, h := range m {
		errs = append(errs, h.Close())
	}
	return errors.Join(errs...)
}

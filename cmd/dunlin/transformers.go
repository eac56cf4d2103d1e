package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/dunlin-go/dunlin/cbind/isolated"
	"github.com/dunlin-go/dunlin/models/hub"
	"github.com/dunlin-go/dunlin/runtime"
)

// transformersPrefix begins the names of models that Hugging Face Transformers computes,
// in a child process, so that dunlin stays one static binary.
const transformersPrefix = "transformers:"

func isTransformers(name string) bool { return strings.HasPrefix(name, transformersPrefix) }

// openTransformers refuses the options that only the native engine has.
func openTransformers(ctx context.Context, name string, opts []runtime.Option) (model, error) {
	path, id, err := findTransformers(name)
	if err != nil {
		return nil, err
	}
	m, err := isolated.Open(ctx, path, isolated.WithRuntime(append(opts, runtime.WithID(id))...))
	if err != nil {
		return nil, err // not a model that is nil
	}
	return m, nil
}

// findTransformers is the path and the id of a Hugging Face directory, which goes by
// its own name, or of a GGUF file, with the prefix or without it.
func findTransformers(name string) (path, id string, err error) {
	name = strings.TrimPrefix(name, transformersPrefix)
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		path, err := filepath.Abs(name) // of "." too
		return path, filepath.Base(path), err
	}
	path, err = hub.Resolve(name)
	return path, hub.ID(name), err
}

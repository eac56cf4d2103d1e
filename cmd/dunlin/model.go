package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/dunlin-go/dunlin/models/hub"
	"github.com/dunlin-go/dunlin/runtime"
)

// maxInputBytes bounds what is read from standard input or a text file.
const maxInputBytes = 64 << 20

// engineFlags say how models are loaded, and with how many threads.
type engineFlags struct {
	Threads int `short:"t" placeholder:"N" help:"Threads that compute (default: all processors)."`
	modelFlags
}

// modelFlags say how models are loaded.
type modelFlags struct {
	Context int      `short:"c" placeholder:"N" help:"Most tokens of prompt and answer together (default: what the model was trained on)."`
	KVCache byteSize `name:"kv-cache" placeholder:"SIZE" help:"Memory for keys and values, such as 256MiB; a context that needs more is cut (default: up to half of the memory limit)."`
	computeFlags
}

// computeFlags say how models are loaded whose context a command sets itself.
type computeFlags struct {
	MemoryLimit byteSize    `placeholder:"SIZE" help:"Most memory of the process besides the mapped weights, for all of its models, such as 512MiB (default: half of what the process may use)."`
	Activations activations `enum:"int8,f32" default:"int8" placeholder:"FORMAT" help:"Format of activations: int8, or f32 for the slow reference."`
	KVCacheType kvCacheType `name:"kv-cache-type" enum:"f16,q8_0" default:"f16" placeholder:"TYPE" help:"Type of keys and values in the cache: f16, or q8_0 for half the memory."`
}

// activations is an --activations flag, kvCacheType a --kv-cache-type flag.
type (
	activations string
	kvCacheType string
)

// model is what a command runs: the native engine's, or one of Transformers.
type model interface {
	runtime.Generator
	runtime.Tokenizer
	runtime.Scorer
	io.Closer
}

// load loads the model that a path or a name of the catalogue means, or what stands after
// "transformers:".
func (f *engineFlags) load(ctx context.Context, name string, opts ...runtime.Option) (model, error) {
	if f.Threads != 0 {
		opts = append(opts, runtime.WithThreads(f.Threads))
	}
	return f.modelFlags.load(ctx, name, opts...)
}

// places are how many requests run and wait, 0 for the defaults.
func places(parallel, queue int) (opts []runtime.Option) {
	if parallel != 0 {
		opts = append(opts, runtime.WithMaxSequences(parallel))
	}
	if queue != 0 {
		opts = append(opts, runtime.WithQueue(queue))
	}
	return opts
}

func (f *modelFlags) load(ctx context.Context, name string, opts ...runtime.Option) (model, error) {
	if f.Context != 0 {
		opts = append(opts, runtime.WithContextLength(f.Context))
	}
	if f.KVCache != 0 {
		opts = append(opts, runtime.WithKVCacheBytes(int64(f.KVCache)))
	}
	return f.computeFlags.load(ctx, name, opts...)
}

func (f *computeFlags) load(ctx context.Context, name string, opts ...runtime.Option) (model, error) {
	if f.MemoryLimit != 0 {
		if err := runtime.SetMemoryLimit(int64(f.MemoryLimit)); err != nil {
			return nil, err
		}
	}
	if f.Activations == "f32" {
		opts = append(opts, runtime.WithActivations(runtime.ActivationsF32))
	}
	if f.KVCacheType == "q8_0" {
		opts = append(opts, runtime.WithKVCacheType(runtime.KVCacheQ8_0))
	}
	open := openNative
	if isTransformers(name) {
		open = openTransformers
	}
	m, err := open(ctx, name, opts)
	if err != nil && !errors.Is(err, hub.ErrNotFound) && !errors.Is(err, hub.ErrNotPulled) && !errors.Is(err, hub.ErrChecksum) {
		err = fmt.Errorf("%s: %w", name, err) // those of package hub name it themselves
	}
	return m, err
}

func openNative(ctx context.Context, name string, opts []runtime.Option) (model, error) {
	path, err := hub.Resolve(name)
	if err != nil {
		return nil, err
	}
	m, err := runtime.Load(ctx, path, append(opts, runtime.WithID(hub.ID(name)))...)
	if err != nil {
		return nil, err // not a model that is nil
	}
	return m, nil
}

// closeInto closes c and keeps the first error.
func closeInto(err *error, c io.Closer) {
	if closeErr := c.Close(); *err == nil {
		*err = closeErr
	}
}

// text is a command's text argument: itself, or standard input for "-".
func (s *stdio) text(ctx context.Context, arg string) (string, error) {
	if arg != "-" {
		return arg, nil
	}
	return s.readAll(ctx)
}

// readAll reads standard input, byte for byte.
func (s *stdio) readAll(ctx context.Context) (string, error) {
	return readAll(ctx, s.in, "standard input")
}

// readAll reads at most maxInputBytes of r, which errors call name. A read can't
// be interrupted: one that waits when the context ends is left behind, and the
// process ends.
func readAll(ctx context.Context, r io.Reader, name string) (string, error) {
	type result struct {
		data []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		data, err := io.ReadAll(io.LimitReader(r, maxInputBytes+1))
		done <- result{data, err}
	}()
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case r := <-done:
		if r.err == nil && len(r.data) > maxInputBytes {
			r.err = fmt.Errorf("%s has more than %d bytes", name, maxInputBytes)
		}
		return string(r.data), r.err
	}
}

// piped reports whether standard input is something that ends by itself.
func (s *stdio) piped() bool {
	f, ok := s.in.(*os.File)
	if !ok {
		return true
	}
	fi, err := f.Stat()
	return err == nil && fi.Mode()&os.ModeCharDevice == 0
}

var errNoPrompt = errors.New("no prompt: give it as an argument or on standard input")

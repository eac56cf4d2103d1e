package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/internal/exec"
	"github.com/dunlin-go/dunlin/models"
	"github.com/dunlin-go/dunlin/models/gguf"
	"github.com/dunlin-go/dunlin/models/pool"
	"github.com/dunlin-go/dunlin/tokenizer"
)

// Load maps the GGUF file at path, or all parts of a model in several files of which
// path is one, and returns the model. The weights stay in the page cache, shared
// with every process that maps the file; what is allocated is priced in the memory
// budget first. ctx bounds the loading only, and is looked at between its parts.
//
// Errors have [CodeModelNotFound], [CodeInvalidModel], [CodeUnsupported],
// [CodeModelChanged] (meanwhile), [CodeResourceExhausted], [CodeInvalidRequest] (for
// options), [CodeCanceled] or [CodeDeadline].
func Load(ctx context.Context, path string, opts ...Option) (*Model, error) {
	o, err := newOptions(opts)
	if err = cmp.Or(needContext(ctx), err); err != nil {
		return nil, err
	}
	h, err := openFile(path, o.mapping())
	if err != nil {
		return nil, err
	}
	return load(ctx, h, stem(gguf.TrimPart(path)), &o)
}

// LoadBytes is [Load] for a GGUF file that is in memory already, such as one
// embedded in the program. The bytes are used where they lie and must not be
// changed until the model is closed.
func LoadBytes(ctx context.Context, data []byte, opts ...Option) (*Model, error) {
	o, err := newOptions(opts)
	if err = cmp.Or(needContext(ctx), err); err != nil {
		return nil, err
	}
	return load(ctx, pool.Wrap(data), "model", &o)
}

func openFile(path string, opts []pool.Option) (*pool.Handle, error) {
	paths, err := gguf.PartPaths(path)
	if err != nil {
		return nil, loadError(err)
	}
	h, err := pool.OpenParts(paths, opts...)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, NewError(CodeModelNotFound, oneLineError{err})
	case err != nil:
		return nil, NewError(CodeInvalidModel, oneLineError{err})
	}
	return h, nil
}

// stem is a file's name without directory and extension.
func stem(path string) string {
	base := filepath.Base(path)
	return strings.TrimSuffix(base, filepath.Ext(base))
}

// load makes a model of a mapped file and owns the handle from here on.
func load(ctx context.Context, h *pool.Handle, id string, o *options) (*Model, error) {
	if o.id == "" {
		o.id = id
	}
	made := &Model{handle: h, lease: o.budget.Lease()}
	loaded := false // nor is it when the progress function panics
	defer func() {
		if !loaded {
			_ = made.Close() // the reason for giving up says more
		}
	}()
	err := readFile(ctx, h, o.budget, func(f *gguf.File) error { return made.build(ctx, f, o) })
	if err == nil && o.warmUp == WarmUpWait {
		err = made.warming.wait(ctx, o.progress)
	}
	if err != nil {
		return nil, loadError(err)
	}
	loaded = true
	return made, nil
}

// readFile parses a mapped file and gives it to read. Faults and panics on the
// way are errors. The file's own tables go when it returns.
func readFile(ctx context.Context, h *pool.Handle, b *budget.Budget, read func(*gguf.File) error) error {
	return readMapped(ctx, h, b, func(meta *budget.Lease) error {
		f, err := gguf.ParseParts(h.Parts(), meta)
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return contextError(ctx)
		}
		return read(f)
	})
}

// readMapped is readFile before anything is parsed; what the lease was charged
// for is needed until read returns.
func readMapped(ctx context.Context, h *pool.Handle, b *budget.Budget, read func(meta *budget.Lease) error) error {
	err := guarded(CodeInvalidModel, func() error {
		return h.Read(func() error {
			meta := b.Lease()
			defer meta.Close()
			return read(meta)
		})
	})
	if err == nil && ctx.Err() != nil {
		err = contextError(ctx)
	}
	if err == nil {
		// A file that changed while it was read may have been read half and half.
		err = h.Check()
	}
	return err
}

// guarded runs f and makes an error of a panic in it: what works on a caller's
// goroutine with a file's or a request's text must not end the caller.
func guarded(code Code, f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &Error{Code: code, Err: fmt.Errorf("internal error: %w", &exec.PanicError{Value: r, Stack: debug.Stack()})}
		}
	}()
	return f()
}

// loadError gives an error of the packages below its code.
func loadError(err error) error {
	code := CodeInvalidModel
	switch {
	case errors.Is(err, budget.ErrExceeded):
		code = CodeResourceExhausted
	case errors.Is(err, models.ErrUnsupported), errors.Is(err, gguf.ErrUnsupported), errors.Is(err, gguf.ErrVersion),
		errors.Is(err, gguf.ErrBigEndian), errors.Is(err, tokenizer.ErrUnsupported):
		code = CodeUnsupported
	case errors.Is(err, pool.ErrChanged), errors.Is(err, pool.ErrFault):
		code = CodeModelChanged
	}
	return NewError(code, oneLineError{err})
}

// Opener opens a generator for [Open]; name is what follows the scheme.
type Opener func(ctx context.Context, name string, opts ...Option) (Generator, error)

var schemes sync.Map // of string to Opener

// RegisterScheme makes [Open] send names that begin with scheme and a colon to
// open. Packages call it in init; a second registration of a scheme panics.
func RegisterScheme(scheme string, open Opener) {
	if _, dup := schemes.LoadOrStore(scheme, open); dup {
		panic("runtime: scheme registered twice: " + scheme)
	}
}

// Open opens whatever a name stands for: "scheme:rest" of a registered scheme,
// or the path of a file for [Load]. Close the generator if it is an io.Closer.
func Open(ctx context.Context, name string, opts ...Option) (Generator, error) {
	scheme, rest, ok := strings.Cut(name, ":")
	if open, known := schemes.Load(scheme); ok && known {
		return open.(Opener)(ctx, rest, opts...)
	}
	m, err := Load(ctx, name, opts...)
	if err != nil {
		return nil, err // not a nil *Model in an interface
	}
	return m, nil
}

// TokenizerFile is the tokenizer of a model file, without the model. It
// implements [Tokenizer].
type TokenizerFile struct {
	vocabulary
	lease *budget.Lease
}

// OpenTokenizer reads only the vocabulary of a GGUF file, which may be a file
// that holds nothing else, or the one that a Hugging Face tokenizer.json is.
func OpenTokenizer(ctx context.Context, path string, opts ...Option) (*TokenizerFile, error) {
	o, err := newOptions(opts)
	if err = cmp.Or(needContext(ctx), err); err != nil {
		return nil, err
	}
	h, err := openFile(path, nil)
	if err != nil {
		return nil, err
	}
	t := &TokenizerFile{lease: o.budget.Lease(), vocabulary: vocabulary{budget: o.budget}}
	err = readMapped(ctx, h, o.budget, func(meta *budget.Lease) error {
		if b := h.Bytes(); len(b) > 0 && b[0] == '{' {
			v, err := tokenizer.FromJSON(b, meta)
			if err == nil {
				t.tok, err = tokenizer.FromVocab(v, t.lease)
			}
			return err
		}
		f, err := gguf.ParseParts(h.Parts(), meta)
		if err == nil {
			t.tok, err = tokenizer.New(metadataSource{f}, t.lease)
		}
		return err
	})
	if err := errors.Join(err, h.Close()); err != nil {
		t.lease.Close()
		return nil, loadError(err)
	}
	return t, nil
}

// Close gives the vocabulary's memory back to the budget.
func (t *TokenizerFile) Close() error {
	t.lease.Close()
	return nil
}

// metadataSource shows a file's metadata as the tokenizer reads it.
type metadataSource struct{ *gguf.File }

// String copies the text, which the tokenizer keeps for longer than the file: names,
// of which a longer one is no other name.
func (s metadataSource) String(key string) (string, bool) {
	v, ok := s.File.String(key)
	return strings.Clone(v[:min(len(v), maxNameBytes)]), ok
}

func (s metadataSource) Strings(key string) (tokenizer.List[string], bool) {
	v, ok := s.File.Strings(key)
	return v, ok
}

func (s metadataSource) Ints(key string) (tokenizer.List[int64], bool) {
	v, ok := s.File.Ints(key)
	return v, ok
}

func (s metadataSource) Floats(key string) (tokenizer.List[float64], bool) {
	v, ok := s.File.Floats(key)
	return v, ok
}

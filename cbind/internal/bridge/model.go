package bridge

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dunlin-go/dunlin/cbind/internal/device"
	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/runtime"
)

// Model is a model that Transformers computes. It implements [runtime.Generator],
// [runtime.Tokenizer], [runtime.Templater], [runtime.Scorer] and [runtime.StatsReader]
// and is safe for concurrent use. Requests of one priority run in the order
// in which they came; tenants have no shares of their own, and nothing is kept of
// computed prompts.
type Model struct {
	dev    device.Model
	desc   device.Info
	info   runtime.Info
	words  *vocabulary
	budget *budget.Budget
	lease  *budget.Lease // the weights and the vocabulary
	loop   *loop

	closeOnce sync.Once
	closeErr  error
}

var (
	_ runtime.Generator   = (*Model)(nil)
	_ runtime.Tokenizer   = (*Model)(nil)
	_ runtime.Templater   = (*Model)(nil)
	_ runtime.Scorer      = (*Model)(nil)
	_ runtime.StatsReader = (*Model)(nil)
)

// Open opens the Hugging Face directory or GGUF file at path. ctx bounds the opening.
func Open(ctx context.Context, path string, o *Options, start Starter) (*Model, error) {
	if ctx == nil {
		return nil, errNoContext
	}
	s, err := runtime.ReadSettings(o.Runtime...)
	if err != nil {
		return nil, err
	}
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, runtime.NewError(runtime.CodeModelNotFound, err)
	}
	m := &Model{budget: budget.Process().Child(s.MemoryLimit)}
	m.lease = m.budget.Lease()
	opened := false
	defer func() {
		if !opened {
			_ = m.Close() // the reason for giving up says more
		}
	}()
	size, err := estimate(path, &o.Device)
	if err != nil {
		return nil, err
	}
	if err := m.lease.Reserve(budget.Scratch, size); err != nil {
		return nil, coded(0, err)
	}
	paths, err := device.Find(o.Dir)
	if err != nil {
		return nil, coded(0, err)
	}
	dev, err := start(ctx, paths, s.Threads)
	if err != nil {
		return nil, coded(runtime.CodeInternal, err)
	}
	if m.dev, err = dev.Open(ctx, path, o.Device); err != nil {
		return nil, coded(runtime.CodeInvalidModel, err)
	}
	if err := m.describe(ctx, path, &s); err != nil {
		return nil, err
	}
	m.loop = newLoop(m, &s)
	opened = true
	return m, nil
}

// describe fills in what is known once the model is open.
func (m *Model) describe(ctx context.Context, path string, s *runtime.Settings) error {
	m.desc = m.dev.Info()
	words, err := m.dev.Vocabulary(ctx)
	if err != nil {
		return coded(runtime.CodeInvalidModel, err)
	}
	m.words = newVocabulary(words, &m.desc)
	m.lease.Close() // the estimate, for what it came to
	m.lease = m.budget.Lease()
	if err := m.lease.Reserve(budget.Scratch, m.desc.Bytes-m.desc.SharedBytes); err != nil {
		return coded(0, err)
	}
	if err := m.lease.Reserve(budget.Vocabulary, int64(len(words.Bytes)+9*len(words.Kinds))); err != nil {
		return coded(0, err)
	}
	context := cmp.Or(m.desc.ContextLength, defaultContext)
	if s.ContextLength > context && m.desc.ContextLength > 0 {
		return invalid("context_length", "the context length is %d, the model was trained on %d", s.ContextLength, context)
	}
	m.info = runtime.Info{
		ID: cmp.Or(s.ID, strings.TrimSuffix(filepath.Base(path), ".gguf")), Name: filepath.Base(path), Architecture: m.desc.Architecture,
		Quantization: m.desc.DType, Parameters: m.desc.Parameters, FileBytes: fileBytes(path), ContextLength: cmp.Or(s.ContextLength, context),
		Vocabulary: m.desc.Vocabulary,
	}
	return nil
}

// defaultContext is for models that don't say what they were trained on.
const defaultContext = 4096

// ggufFactor is by how much weights grow at most that are unpacked to float32, from about
// 4 bits.
const ggufFactor = 8

// estimate is the price of a model's weights before they are read: files of 16 bits take
// twice as much in float32.
func estimate(path string, o *device.Options) (int64, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, runtime.NewError(runtime.CodeModelNotFound, err)
	case err != nil:
		return 0, runtime.NewError(runtime.CodeInvalidModel, err)
	case !info.IsDir() && o.ShareWeights:
		return 2 * info.Size(), nil
	case !info.IsDir():
		return ggufFactor * info.Size(), nil
	}
	size := fileBytes(path)
	if o.DType != "float32" {
		return size, nil
	}
	if mentions(filepath.Join(path, "config.json"), "float16") { // as in bfloat16
		size *= 2
	}
	return size, nil
}

// mentions reports whether the word is in a file, of which a megabyte is read. What is
// wrong with the file Transformers tells.
func mentions(path, word string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 1<<20))
	return err == nil && bytes.Contains(text, []byte(word))
}

// fileBytes is the size of a model's weights on the disk.
func fileBytes(path string) (size int64) {
	files := []string{path}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		files = nil
		for _, pattern := range []string{"*.safetensors", "*.bin"} {
			found, _ := filepath.Glob(filepath.Join(path, pattern)) // the pattern is a valid one
			files = append(files, found...)
		}
	}
	for _, f := range files {
		if info, err := os.Stat(f); err == nil {
			size += info.Size()
		}
	}
	return size
}

// Info implements [runtime.Generator].
func (m *Model) Info() runtime.Info { return m.info }

// SharedBytes is how much of the weights lies in the mapped file; see [WithSharedWeights].
func (m *Model) SharedBytes() int64 { return m.desc.SharedBytes }

// Versions are those of torch and Transformers.
func (m *Model) Versions() (torch, transformers string) { return m.desc.Torch, m.desc.Transformers }

// Ready reports whether requests are taken.
func (m *Model) Ready(context.Context) error { return m.loop.ready() }

// Close ends what is running with [runtime.CodeClosed], waits for the step that
// runs and gives the memory back. It may be called more than once.
func (m *Model) Close() error {
	m.closeOnce.Do(func() {
		if m.loop != nil {
			m.loop.close()
		}
		if m.dev != nil {
			m.closeErr = coded(runtime.CodeInternal, m.dev.Close())
		}
		if m.loop != nil {
			<-m.loop.done
		}
		m.lease.Close()
	})
	return m.closeErr
}

// Start implements [runtime.Generator].
func (m *Model) Start(ctx context.Context, req runtime.Request) (*runtime.Stream, error) {
	s, err := m.start(ctx, req)
	if err != nil {
		m.loop.refused(err)
		return nil, err
	}
	return s, nil
}

func (m *Model) start(ctx context.Context, req runtime.Request) (*runtime.Stream, error) {
	begin := time.Now()
	if ctx == nil {
		return nil, errNoContext
	}
	if err := req.Validate(); err != nil {
		return nil, err
	}
	if err := m.loop.ready(); err != nil {
		return nil, err
	}
	lease := m.budget.Lease()
	s, err := m.sequence(ctx, &req, lease, begin)
	var stream *runtime.Stream
	if err == nil {
		stream, err = m.loop.submit(ctx, s)
	}
	if err != nil {
		lease.Close()
	}
	return stream, err
}

func (m *Model) sequence(ctx context.Context, req *runtime.Request, lease *budget.Lease, begin time.Time) (*sequence, error) {
	const perEvent = 512
	price := runtime.AnswerBytes(req, m.desc.Vocabulary) + perEvent*int64(m.loop.streamBuffer)
	if err := lease.Reserve(budget.Request, price); err != nil {
		return nil, coded(0, err)
	}
	prompt, name, err := m.prompt(ctx, req)
	if err != nil {
		return nil, field(name, err)
	}
	if len(prompt) >= m.info.ContextLength { // one token at least is to be generated
		return nil, m.tooLong(name, len(prompt))
	}
	if err := lease.ReserveItems(budget.Request, uint64(len(prompt)), 4); err != nil {
		return nil, coded(0, err)
	}
	limit := m.info.ContextLength - len(prompt)
	if req.MaxTokens > 0 {
		limit = min(limit, req.MaxTokens)
	}
	return &sequence{
		Answer: runtime.NewAnswer(req, m.words.textAfter(prompt), func(id int32) bool { return m.words.ends[id] }),
		prompt: prompt, limit: limit, priority: req.Priority, lease: lease, started: begin,
	}, nil
}

// prompt turns a request's input into ids of the model's own, and names its field.
func (m *Model) prompt(ctx context.Context, req *runtime.Request) (ids []int32, name string, err error) {
	if len(req.Tokens) > 0 {
		if len(req.Tokens) >= m.info.ContextLength {
			return nil, "tokens", m.tooLong("tokens", len(req.Tokens))
		}
		return slices.Clone(req.Tokens), "tokens", m.checkTokens(req.Tokens)
	}
	text, name, opt := req.Prompt, "prompt", runtime.TokenizeOptions{AddSpecial: true, ParseSpecial: true}
	if len(req.Messages) > 0 {
		name, opt.AddSpecial = "messages", false // templates write the special tokens themselves
		if text, err = m.ApplyTemplate(ctx, req.Messages, true); err != nil {
			return nil, name, err
		}
	}
	if err := m.checkText(name, int64(len(text))); err != nil {
		return nil, name, err
	}
	ids, err = m.Tokenize(ctx, text, opt)
	if err == nil && len(ids) == 0 {
		err = invalid(name, "the prompt has no tokens")
	}
	return ids, name, err
}

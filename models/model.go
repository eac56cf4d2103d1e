package models

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/models/gguf"
	"github.com/dunlin-go/dunlin/tensor"
)

// Config is what an engine has to know about a model.
type Config struct {
	Architecture  string
	ContextLength int // tokens that the model was trained on
	Vocabulary    int // rows of the output head
	Layers        int
	KVHeads       int
	HeadDim       int
	Windowed      []bool // the layers that attend to the last Window positions only; nil for none
	Window        int
	MaxCols       int // the longest weight row
	Parameters    int64
	Quantization  string // the weight format that most parameters have
}

// Limits are the largest batch that a model's working memory is made for.
type Limits struct {
	Tokens int // tokens in a batch
	Logits int // positions of a batch that need logits
}

// Model is an architecture with its weights. Forward has one caller at a time.
type Model interface {
	Config() Config
	// Forward computes a batch: it stores its keys and values on the batch's
	// pages of kv and sets logits `[len(b.Logits), Vocabulary]` for the
	// positions that the batch asks for. It runs inside a step of c.
	Forward(c *tensor.Compute, b *tensor.Batch, kv *tensor.KV, logits []float32)
}

// architectures are the registered constructors by GGUF's name.
var architectures = map[string]func(*loader) (Model, error){}

func register(name string, f func(*loader) (Model, error)) { architectures[name] = f }

// Architectures lists the names that [New] knows, sorted.
func Architectures() []string {
	names := make([]string, 0, len(architectures))
	for name := range architectures {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// New makes the model that a file describes. Its working memory, for batches up
// to limits, is reserved in lease. The mappings of the file, or of all its parts,
// must stay until the last Forward; f itself isn't kept.
func New(f *gguf.File, limits Limits, lease *budget.Lease) (Model, error) {
	arch, ok := f.String("general.architecture")
	if !ok {
		return nil, fmt.Errorf("%w: the file has no general.architecture", ErrInvalid)
	}
	build, ok := architectures[arch]
	if !ok {
		return nil, fmt.Errorf("%w: architecture %.64q (there are %s)", ErrUnsupported, arch, strings.Join(Architectures(), ", "))
	}
	l := &loader{metadata: metadata{file: f, arch: strings.Clone(arch)}, limits: limits, lease: lease, used: map[string]bool{}}
	m, err := build(l)
	if err != nil {
		return nil, err
	}
	for t := range f.Tensors() {
		if !l.used[t.Name] {
			return nil, fmt.Errorf("%w: tensor %.64q is no part of %s", ErrUnsupported, t.Name, arch)
		}
	}
	return m, nil
}

// loader is what a constructor works with.
type loader struct {
	metadata
	limits Limits
	lease  *budget.Lease
	used   map[string]bool // names of the tensors that were bound
}

// buffer is working memory of n elements for each token of a batch.
type buffer struct {
	dst *[]float32
	n   int
}

// scratch prices and allocates working memory.
func (l *loader) scratch(buffers []buffer) error {
	for _, b := range buffers {
		if err := l.lease.ReserveItems(budget.Scratch, uint64(l.limits.Tokens), uint64(b.n)*4); err != nil {
			return err
		}
		*b.dst = make([]float32, l.limits.Tokens*b.n)
	}
	return nil
}

// vocabulary is the number of rows of the token embedding.
func (l *loader) vocabulary() int {
	t, ok := l.file.Lookup("token_embd.weight")
	if !ok || t.Shape[1] > maxSize {
		l.fail("%w: no usable tensor \"token_embd.weight\"", ErrInvalid)
		return 1
	}
	return int(t.Shape[1])
}

// checkShape refuses layers and heads that don't fit together.
func (l *loader) checkShape(cfg *Config, heads, ropeDims int) {
	switch {
	case cfg.HeadDim < 2 || cfg.HeadDim%2 != 0 || cfg.HeadDim > 1024:
		l.fail("%w: heads of %d elements", ErrUnsupported, cfg.HeadDim)
	case heads%cfg.KVHeads != 0:
		l.fail("%w: %d heads can't share %d key heads", ErrInvalid, heads, cfg.KVHeads)
	case ropeDims%2 != 0 || ropeDims > cfg.HeadDim:
		l.fail("%w: %d rotated elements in heads of %d", ErrInvalid, ropeDims, cfg.HeadDim)
	case cfg.Layers > l.file.TensorCount():
		l.fail("%w: %d layers and only %d tensors", ErrInvalid, cfg.Layers, l.file.TensorCount())
	}
}

// ropeFactors copies what a rotation's frequencies are divided by; nil for a tensor
// that the file doesn't have.
func (l *loader) ropeFactors(w *tensor.Tensor) ([]float32, error) {
	if w == nil {
		return nil, nil
	}
	if err := l.lease.ReserveItems(budget.Scratch, uint64(w.Cols), 4); err != nil {
		return nil, err
	}
	factors := w.Floats()
	for i, f := range factors {
		// An infinite factor has the inverse 0, a subnormal one an infinite one.
		if inverse := 1 / f; !(inverse > 0) || math.IsInf(float64(inverse), 0) {
			return nil, fmt.Errorf("%w: tensor %q: factor %d is %g, it and its inverse must be finite and above zero", ErrInvalid, w.Name, i, f)
		}
	}
	return factors, nil
}

// weights counts the parameters and finds the format that most of them have.
func (l *loader) weights() (parameters int64, quantization string) {
	by := map[tensor.DType]uint64{}
	most := tensor.F32
	for t := range l.file.Tensors() {
		n := min(t.Elements(), math.MaxInt64/4) // only shown
		parameters = min(parameters, math.MaxInt64/2) + int64(n)
		by[t.Type] += n
		if by[t.Type] > by[most] {
			most = t.Type
		}
	}
	return parameters, most.String()
}

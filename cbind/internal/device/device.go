// Package device says what the bridge needs of Hugging Face Transformers, however
// it is reached: in this process, or in a child.
package device

import (
	"context"
	"errors"
	"fmt"
)

// Device opens models.
type Device interface {
	Open(ctx context.Context, path string, o Options) (Model, error)
}

// Options say how a model is opened.
type Options struct {
	// DType is that of the weights: a name of torch's, or "auto" for that of the files.
	DType string
	// ShareWeights lets torch use the mapped tensors of a GGUF file where they lie.
	ShareWeights bool
}

// Model is an open model. Its methods may be called by several goroutines and wait
// for each other. A call whose context ends while it waits for its turn isn't made;
// one that runs is left to itself, and what it gives is released.
type Model interface {
	Info() Info
	// Lost counts how often all sequences were lost since the model was opened, and says why
	// the last time.
	Lost() (times int64, why error)
	// Infer runs ids, in rows of equal length, through the model from an empty context. ids
	// must not be changed until it returns, nor, if ctx ended it, at all.
	Infer(ctx context.Context, ids []int32, rows int, kind Kind) (*Tensor, error)
	// Step extends sequences and gives the logits after the last token of each, [rows,
	// vocabulary]. All rows have as many tokens, or are all new. An error ends its sequences. It
	// isn't cut short: the ids are the model's until it returns.
	Step(rows []Row) (*Tensor, error)
	// Drop forgets sequences.
	Drop(sequences []uint64) error
	// Encode turns text into ids, Decode ids into text.
	Encode(ctx context.Context, text string, addSpecial, parseSpecial bool) ([]int32, error)
	Decode(ctx context.Context, ids []int32, skipSpecial bool) (string, error)
	// Template renders a JSON list of messages.
	Template(ctx context.Context, messages []byte, generationPrompt bool) (string, error)
	// Generate is Transformers' own greedy generation. It ends where each returns false.
	Generate(ctx context.Context, ids []int32, maxTokens int, each func(id int32) bool) error
	Vocabulary(ctx context.Context) (*Vocabulary, error)
	// Close waits for the call that runs.
	Close() error
}

// Info is what Transformers says of a model.
type Info struct {
	Name          string  `json:"name"`
	Architecture  string  `json:"architecture"`
	DType         string  `json:"dtype"` // of most parameters
	Parameters    int64   `json:"parameters"`
	Bytes         int64   `json:"bytes"`        // of the parameters
	SharedBytes   int64   `json:"shared_bytes"` // of them those that lie in a mapped file
	ContextLength int     `json:"context_length"`
	Vocabulary    int     `json:"vocabulary"` // logits of a token
	Hidden        int     `json:"hidden"`     // width of the last hidden state
	KVBytes       int64   `json:"kv_bytes"`   // keys and values of a token
	Batching      string  `json:"batching"`   // "batched", "single" or "recompute"
	EndIDs        []int32 `json:"end_ids"`
	SpacePrefix   bool    `json:"space_prefix"` // the vocabulary writes a space before each text
	Torch         string  `json:"torch"`
	Transformers  string  `json:"transformers"`
}

// Kind is what Infer gives.
type Kind int32

// The kinds.
const (
	Logits Kind = iota // [rows, tokens, vocabulary]
	Hidden             // the last hidden state, [rows, tokens, width]
)

// Row is a sequence of a step, and its next tokens.
type Row struct {
	Sequence uint64
	Past     int // tokens of earlier steps
	Tokens   []int32
}

// Tensor is a view of memory that isn't Go's, until Release is called.
type Tensor struct {
	Data    []float32
	Shape   []int
	InputAt uintptr // where torch saw the input of Infer
	Free    func()
}

// Release gives the memory back. Data must not be used any more.
func (t *Tensor) Release() {
	if t != nil && t.Free != nil {
		t.Free()
		t.Free = nil
		t.Data = nil
	}
}

// TokenKind says what an id of a vocabulary is.
type TokenKind uint8

// The kinds.
const (
	Text TokenKind = iota
	Special
	NoToken
)

// Vocabulary has the bytes of all tokens.
type Vocabulary struct {
	Bytes   []byte
	Offsets []int64 // where a token begins; one more than tokens
	Kinds   []TokenKind
}

// Status is a TransformersStatus of transformers.h.
type Status int32

// The statuses.
const (
	OK Status = iota
	Exception
	Invalid
	NotFound
	Unsupported
	NoMemory
	NotRunning
)

// Error is a call that failed in libtransformers.
type Error struct {
	Status  Status
	Type    string // the Python exception's class, if it is one
	Message string // one line
}

// Error is the message, which for an exception begins with its class.
func (e *Error) Error() string { return e.Message }

// CrashError is the death of the child process that had the model.
type CrashError struct {
	How    string // how it ended, such as "signal: killed"
	Stderr string // the last line that it wrote, if any
}

// Error tells both.
func (e *CrashError) Error() string {
	s := "the process of the transformers backend died: " + e.How
	if e.Stderr != "" {
		s += ": " + e.Stderr
	}
	return s
}

// ErrClosed is what calls of a closed model give.
var ErrClosed = errors.New("the model was closed")

// ErrBusy is what a call gives that finds too many others waiting.
var ErrBusy = errors.New("too many calls wait for the transformers backend")

// SetupError says what is missing, and what to do.
type SetupError struct {
	What string
	Err  error // may be nil
}

// Error tells what to run.
func (e *SetupError) Error() string {
	s := e.What
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s + " (run `make bridge` in a checkout of dunlin, or set DUNLIN_BRIDGE to the directory that it filled)"
}

// Unwrap gives the cause.
func (e *SetupError) Unwrap() error { return e.Err }

// CheckShape reports ids that don't make rows of equal length.
func CheckShape(ids, rows int) error {
	if rows < 1 || ids == 0 || ids%rows != 0 {
		return fmt.Errorf("%d ids don't make %d rows of equal length", ids, rows)
	}
	return nil
}

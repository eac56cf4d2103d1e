package child

import (
	"github.com/dunlin-go/dunlin/cbind/internal/device"
)

// span is a place in the shared memory, in bytes.
type span struct {
	At   int64 `json:"at"`
	Size int64 `json:"size"`
}

// request is what the parent asks for.
type request struct {
	Op        string          `json:"op"`
	Path      string          `json:"path,omitempty"`
	Options   *device.Options `json:"options,omitempty"`
	Rows      []row           `json:"rows,omitempty"`
	Kind      device.Kind     `json:"kind,omitempty"`
	Count     int             `json:"count,omitempty"` // rows of infer, or tokens of generate
	Text      []byte          `json:"text,omitempty"`
	Add       bool            `json:"add,omitempty"`
	Parse     bool            `json:"parse,omitempty"`
	Sequences []uint64        `json:"sequences,omitempty"`
	Out       span            `json:"out"` // where the result is to be put
}

// row is a sequence of a step, or the ids of another call.
type row struct {
	Sequence uint64 `json:"sequence"`
	Past     int    `json:"past"`
	Tokens   span   `json:"tokens"`
}

// The operations.
const (
	opOpen       = "open"
	opInfer      = "infer"
	opStep       = "step"
	opDrop       = "drop"
	opEncode     = "encode"
	opDecode     = "decode"
	opTemplate   = "template"
	opGenerate   = "generate"
	opStop       = "stop" // ends the generation that runs; it has no reply
	opVocabulary = "vocabulary"
)

// reply is what the child answers.
type reply struct {
	Error      *device.Error      `json:"error,omitempty"`
	Token      *int32             `json:"token,omitempty"` // of a generation that goes on: another reply follows
	Info       *device.Info       `json:"info,omitempty"`
	Shape      []int              `json:"shape,omitempty"`
	InputAt    int64              `json:"input_at,omitempty"` // in the shared memory
	Size       int64              `json:"size,omitempty"`     // bytes of the result
	Text       []byte             `json:"text,omitempty"`
	Vocabulary *device.Vocabulary `json:"vocabulary,omitempty"`
}

// The descriptors that the child finds, and its flags.
const (
	socketFD = 3
	memoryFD = 4
)

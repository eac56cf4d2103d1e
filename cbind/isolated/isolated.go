// Package isolated runs models of Hugging Face Transformers in a child process, the
// program dunlin-bridge that `make bridge` makes. It has what package cbind has, and links
// no FFI. Tensors cross in memory that both processes map.
//
// A child that dies ends the requests in flight with a [CrashError] and is started
// anew with the next one. It ends with its parent, however that ends.
package isolated

import (
	"context"

	"github.com/dunlin-go/dunlin/cbind/internal/bridge"
	"github.com/dunlin-go/dunlin/cbind/internal/child"
	"github.com/dunlin-go/dunlin/cbind/internal/device"
	"github.com/dunlin-go/dunlin/runtime"
)

// The types of the bridge, which package cbind has as well.
type (
	// Model is a model that Transformers computes.
	Model = bridge.Model
	// Input is what [Model.Infer] computes.
	Input = bridge.Input
	// Output is a tensor in memory that the child maps as well.
	Output = bridge.Output
	// Result is what [Model.AsyncInfer] sends.
	Result = bridge.Result
	// Option changes how a model is opened.
	Option = bridge.Option
	// PythonError is a call that failed in Python, with the exception's class and the
	// last line of its traceback. Find it with errors.As.
	PythonError = device.Error
	// CrashError is the death of the child.
	CrashError = device.CrashError
	// SetupError says what of the bridge is missing and what to run.
	SetupError = device.SetupError
)

// ErrReleased is what a released [Output] gives.
var ErrReleased = bridge.ErrReleased

// WithDir names the directory that `make bridge` filled. Without it that is what
// DUNLIN_BRIDGE says, or dunlin/bridge in the user's cache directory.
func WithDir(dir string) Option { return bridge.WithDir(dir) }

// WithDType sets the type of weights and arithmetic: "float32", the default,
// "bfloat16", "float16", or "auto" for that of the files.
func WithDType(name string) Option { return bridge.WithDType(name) }

// WithSharedWeights has torch use the F32, F16 and BF16 tensors of a GGUF file where
// they are mapped, so that all processes share one copy.
func WithSharedWeights() Option { return bridge.WithSharedWeights() }

// WithRuntime passes options of package runtime. Those of the native engine alone
// are refused.
func WithRuntime(opts ...runtime.Option) Option { return bridge.WithRuntime(opts...) }

// Open opens the Hugging Face directory or GGUF file at path in a child of its own.
func Open(ctx context.Context, path string, opts ...Option) (*Model, error) {
	o, err := bridge.ReadOptions(opts)
	if err != nil {
		return nil, err
	}
	return bridge.Open(ctx, path, o, child.Start)
}

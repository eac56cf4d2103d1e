package cbind

import (
	"context"

	"github.com/dunlin-go/dunlin/cbind/internal/bridge"
	"github.com/dunlin-go/dunlin/cbind/internal/child"
	"github.com/dunlin-go/dunlin/cbind/internal/device"
	"github.com/dunlin-go/dunlin/cbind/internal/ffi"
	"github.com/dunlin-go/dunlin/runtime"
)

func init() {
	runtime.RegisterScheme("transformers", func(ctx context.Context, path string, opts ...runtime.Option) (runtime.Generator, error) {
		m, err := Open(ctx, path, WithRuntime(opts...))
		if err != nil {
			return nil, err // not a nil *Model in an interface
		}
		return m, nil
	})
}

// The types of the bridge, which package isolated has as well.
type (
	// Model is a model that Transformers computes.
	Model = bridge.Model
	// Input is what [Model.Infer] computes.
	Input = bridge.Input
	// Output is a tensor in torch's memory.
	Output = bridge.Output
	// Result is what [Model.AsyncInfer] sends.
	Result = bridge.Result
	// Option changes how a model is opened.
	Option = bridge.Option
	// PythonError is a call that failed in Python, with the exception's class and the
	// last line of its traceback. Find it with errors.As.
	PythonError = device.Error
	// CrashError is the death of an isolated child.
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
// they are mapped; see [Model.SharedBytes]. A file that is cut while it is in use
// then ends the process that has torch.
func WithSharedWeights() Option { return bridge.WithSharedWeights() }

// WithRuntime passes options of package runtime. Those of the native engine alone
// are refused.
func WithRuntime(opts ...runtime.Option) Option { return bridge.WithRuntime(opts...) }

// Isolated puts torch into a child process, which is started anew when it dies; the
// requests in flight end with a [CrashError].
func Isolated() Option { return bridge.Isolated() }

// Open opens the Hugging Face directory or GGUF file at path. The first model that
// isn't isolated starts the interpreter, which takes seconds, with its number of threads.
//
// Errors have the codes of [runtime.Load], and [runtime.CodeUnsupported] with a [SetupError] where
// the bridge isn't there.
func Open(ctx context.Context, path string, opts ...Option) (*Model, error) {
	o, err := bridge.ReadOptions(opts)
	if err != nil {
		return nil, err
	}
	start := startHere
	if o.Isolated {
		start = child.Start
	}
	return bridge.Open(ctx, path, o, start)
}

func startHere(_ context.Context, paths device.Paths, threads int) (device.Device, error) {
	d, err := ffi.Start(paths, threads)
	if err != nil {
		return nil, err
	}
	return d, nil
}

// Shutdown closes the models of this process's interpreter and ends it. It can't be
// started again. A program that ends needn't call it.
func Shutdown() error { return ffi.Shutdown() }

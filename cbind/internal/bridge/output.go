package bridge

import (
	"context"
	"errors"
	"math"
	goruntime "runtime"
	"slices"
	"sync"

	"github.com/dunlin-go/dunlin/cbind/internal/device"
	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/runtime"
)

// Input is what [Model.Infer] computes.
type Input struct {
	// Tokens are the ids, where torch will read them: they must not be changed until
	// the result is there and, if the call was cancelled, not at all.
	Tokens []int32
	// Rows is how many sequences of equal length Tokens has one after the other; 0
	// means one.
	Rows int
	// Hidden asks for the last hidden state instead of the logits.
	Hidden bool
}

// Output is a tensor in torch's memory.
type Output struct {
	mu      sync.Mutex
	tensor  *device.Tensor // nil when it was released
	shape   []int
	inputAt uintptr
	cleanup goruntime.Cleanup // releases it if nobody ever looked at it
	lease   *budget.Lease
}

// ErrReleased is what a released output gives.
var ErrReleased = errors.New("the output was released")

// Shape is [rows, tokens, vocabulary] for logits, [rows, tokens, width] for hidden states.
func (o *Output) Shape() []int { return slices.Clone(o.shape) }

// InputAddress is where torch read the tokens: the address of Input.Tokens in this
// process, or that of their place in the memory shared with a child.
func (o *Output) InputAddress() uintptr { return o.inputAt }

// Values is a view of the tensor, row-major. It isn't copied: it must not be used
// after [Output.Release], which from now on must be called. In builds with the race detector or
// the tag dunlin_debug, Release fills it with NaN first, which every sampler refuses.
func (o *Output) Values() ([]float32, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.tensor == nil {
		return nil, ErrReleased
	}
	o.cleanup.Stop()
	return o.tensor.Data, nil
}

// Release gives the memory back to torch. It may be called more than once.
func (o *Output) Release() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.tensor == nil {
		return
	}
	o.cleanup.Stop()
	if poison {
		for i := range o.tensor.Data {
			o.tensor.Data[i] = float32(math.NaN())
		}
	}
	o.tensor.Release()
	o.tensor = nil
	o.lease.Close()
}

// Result is what [Model.AsyncInfer] sends.
type Result struct {
	Output *Output
	Err    error
}

// Infer runs tokens through the model from an empty context, all of them in one
// forward as Transformers does: the values are the same bits. It waits for its turn among
// the model's steps. Where ctx ends it returns at once; a forward that
// has begun is completed and its result dropped.
func (m *Model) Infer(ctx context.Context, in Input) (*Output, error) {
	if ctx == nil {
		return nil, errNoContext
	}
	rows := max(in.Rows, 1)
	if err := device.CheckShape(len(in.Tokens), rows); err != nil {
		return nil, invalid("tokens", "%w", err)
	}
	if n := len(in.Tokens) / rows; n > m.info.ContextLength {
		return nil, m.tooLong("tokens", n)
	}
	if err := m.checkTokens(in.Tokens); err != nil {
		return nil, err
	}
	kind, width := device.Logits, m.desc.Vocabulary
	if in.Hidden {
		kind, width = device.Hidden, m.desc.Hidden
	}
	lease := m.budget.Lease()
	if err := lease.ReserveItems(budget.Request, uint64(len(in.Tokens)), uint64(width)*4); err != nil {
		lease.Close()
		return nil, coded(0, err)
	}
	t, err := m.dev.Infer(ctx, in.Tokens, rows, kind)
	if err != nil {
		lease.Close()
		return nil, coded(runtime.CodeInternal, err)
	}
	return newOutput(t, lease), nil
}

func newOutput(t *device.Tensor, lease *budget.Lease) *Output {
	out := &Output{tensor: t, shape: t.Shape, inputAt: t.InputAt, lease: lease}
	out.cleanup = goruntime.AddCleanup(out, func(t *device.Tensor) {
		t.Release()
		lease.Close()
	}, t)
	return out
}

// AsyncInfer is [Model.Infer] without waiting: the channel gets one result. If nobody
// receives it, the garbage collector releases its output.
func (m *Model) AsyncInfer(ctx context.Context, in Input) <-chan Result {
	ch := make(chan Result, 1)
	go func() {
		out, err := device.Guarded(func() (*Output, error) { return m.Infer(ctx, in) })
		ch <- Result{out, err}
	}()
	return ch
}

// GenerateReference is Transformers' own greedy generation, without dunlin's
// sampling. each gets every token and ends it with false.
func (m *Model) GenerateReference(ctx context.Context, tokens []int32, maxTokens int, each func(id int32) bool) error {
	if ctx == nil {
		return errNoContext
	}
	if err := m.checkTokens(tokens); err != nil {
		return err
	}
	if n := len(tokens) + max(maxTokens, 1); n > m.info.ContextLength {
		return m.tooLong("tokens", n)
	}
	return coded(runtime.CodeInternal, m.dev.Generate(ctx, tokens, maxTokens, each))
}

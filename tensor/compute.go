package tensor

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/internal/exec"
	"github.com/dunlin-go/dunlin/tensor/internal/kernel"
)

// instructionSet is the fastest set of kernels that this CPU runs, or the one
// that the environment variable DUNLIN_CPU (generic, avx2, avx512) forces.
var instructionSet = sync.OnceValues(func() (*kernel.Set, error) {
	set, err := kernel.Select(os.Getenv("DUNLIN_CPU"))
	if err != nil {
		return nil, fmt.Errorf("DUNLIN_CPU: %w", err)
	}
	return set, nil
})

// InstructionSet names the kernels in use: "generic", "avx2" or "avx512".
func InstructionSet() string {
	set, err := instructionSet()
	if err != nil {
		return err.Error()
	}
	return set.Name
}

// Activations is the format that activations have in products with quantised
// weights.
type Activations uint8

// The formats of activations.
const (
	// ActivationsInt8 quantises them to int8 in blocks of 32: fast.
	ActivationsInt8 Activations = iota
	// ActivationsF32 widens the weights instead: the reference that the
	// integer products are measured against.
	ActivationsF32
)

// Limits are the largest sizes that a [Compute] is asked for.
type Limits struct {
	Threads int // workers that take part in a step
	Tokens  int // tokens of a batch
	MaxCols int // elements of the longest weight row
	HeadDim int // elements of a key
}

// Compute carries out operations in the steps of one engine: it has the
// kernels, the working memory and, while [Compute.Step] runs, the executor's
// threads. Its operations panic on shapes that don't match and are called from
// one goroutine, inside Step.
//
// Every operation gives the same bits whatever shares the batch and however
// many threads take part: work is split between tokens, rows and heads; sums
// only where their positions say so.
type Compute struct {
	set         *kernel.Set
	activations Activations
	limits      Limits
	workers     []worker
	acts        *kernel.Acts
	step        *exec.Step // while Step runs; operations read it
	f           func() error
	inStep      func(*exec.Step) error // runStep, made once

	attended AttentionCost // of this step so far

	mu      sync.Mutex
	current *exec.Step // the same, for Interrupt

	// One task of each kind, so that a step allocates nothing.
	linear    linearTask
	inputs    prepareTask
	store     storeTask
	attention attentionTask
	embed     embedTask
	rows      rowsTask
	each      eachTask
}

// worker is the working memory of one thread.
type worker struct {
	products  *kernel.Scratch
	queries   *kernel.Queries
	folded    *kernel.States // of the spans that its queries have seen
	half      []uint16       // a key
	quantised *kernel.Acts   // a key or value
	ahead     []byte         // what it will read next and hasn't fetched
	_         [64]byte       // keeps the workers' headers on separate cache lines
}

// NewCompute prices and allocates the working memory for limits.
func NewCompute(lease *budget.Lease, act Activations, limits Limits) (*Compute, error) {
	set, err := instructionSet()
	if err != nil {
		return nil, err
	}
	if err := lease.Reserve(budget.Scratch, kernel.ActsBytes(limits.Tokens, limits.MaxCols)); err != nil {
		return nil, err
	}
	for range limits.Threads {
		if err := lease.Reserve(budget.Scratch, kernel.ScratchBytes(limits.MaxCols)); err != nil {
			return nil, err
		}
		if err := lease.Reserve(budget.Scratch, kernel.QueriesBytes(tileQueries, limits.HeadDim)); err != nil {
			return nil, err
		}
		if err := lease.Reserve(budget.Scratch, kernel.StatesBytes(tileQueries, limits.HeadDim)); err != nil {
			return nil, err
		}
		if err := lease.ReserveItems(budget.Scratch, uint64(limits.HeadDim), 2); err != nil {
			return nil, err
		}
		if err := lease.Reserve(budget.Scratch, kernel.ActsBytes(1, wholeBlocks(limits.HeadDim))); err != nil {
			return nil, err
		}
	}
	states := spanStates * limits.Threads
	if err := lease.Reserve(budget.Scratch, kernel.StatesBytes(states, limits.HeadDim)); err != nil {
		return nil, err
	}
	const partBytes, counterBytes = 6 * 8, 4
	if err := lease.ReserveItems(budget.Scratch, uint64(limits.Tokens)+uint64(states), partBytes+counterBytes); err != nil {
		return nil, err
	}
	c := &Compute{set: set, activations: act, limits: limits, acts: kernel.NewActs(limits.Tokens, limits.MaxCols)}
	c.inStep = c.runStep
	c.attention.attentionParts = attentionParts{
		parts:  make([]attentionPart, 0, limits.Tokens+states),
		states: kernel.NewStates(states, limits.HeadDim), left: make([]atomic.Int32, states),
	}
	c.linear.c = c
	c.linear.order.shares = make([]share, limits.Threads)
	for range limits.Threads {
		c.workers = append(c.workers, worker{
			products:  kernel.NewScratch(limits.MaxCols),
			queries:   kernel.NewQueries(tileQueries, limits.HeadDim),
			folded:    kernel.NewStates(tileQueries, limits.HeadDim),
			half:      make([]uint16, limits.HeadDim),
			quantised: kernel.NewActs(1, wholeBlocks(limits.HeadDim)),
		})
	}
	return c, nil
}

// wholeBlocks is n and what is wanting for whole blocks.
func wholeBlocks(n int) int { return (n + kernel.BlockLen - 1) / kernel.BlockLen * kernel.BlockLen }

// Step takes a turn on an executor and runs f, whose operations run on its
// threads. Panics and memory faults in f come back as the executor's errors.
func (c *Compute) Step(ctx context.Context, ex exec.Stepper, f func() error) error {
	c.f = f
	return ex.Step(ctx, c.limits.Threads, c.inStep)
}

// runStep is what the executor calls in [Compute.Step].
func (c *Compute) runStep(s *exec.Step) error {
	c.setStep(s)
	defer c.setStep(nil)
	c.linear.order.at = 0
	c.attended = AttentionCost{}
	return c.f()
}

func (c *Compute) setStep(s *exec.Step) {
	c.step = s
	c.mu.Lock()
	c.current = s
	c.mu.Unlock()
}

// Each calls f for the items [0, n), each on any of the step's threads. f calls no
// operation of c.
func (c *Compute) Each(n int, f func(i int)) {
	c.each = eachTask(f)
	c.step.Do(&c.each, n, 1)
}

type eachTask func(i int)

func (t *eachTask) Do(_, lo, hi int) {
	for i := lo; i < hi; i++ {
		(*t)(i)
	}
}

// Interrupt makes the Step that runs now, if one does, return early with
// [exec.ErrStopped]. It may be called from any goroutine.
func (c *Compute) Interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil {
		c.current.Stop()
	}
}

func check(ok bool, op string) {
	if !ok {
		panic("tensor: " + op + ": shapes don't match")
	}
}

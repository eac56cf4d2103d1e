package runtime

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/internal/exec"
	"github.com/dunlin-go/dunlin/internal/kvcache"
	"github.com/dunlin-go/dunlin/internal/sched"
	"github.com/dunlin-go/dunlin/models"
	"github.com/dunlin-go/dunlin/models/pool"
	"github.com/dunlin-go/dunlin/tensor"
	"github.com/dunlin-go/dunlin/tokenizer"
)

// engine serves a model's requests from one goroutine, its loop. In each step
// the loop computes one ragged batch: a token of every sequence that is
// decoding, then chunks of the prompts that are being prefilled, as many tokens
// as the last steps say fit into stepTime.
//
// The loop owns the scheduler, which knows who waits and who runs, the KV cache
// and the batch. Others reach it through mu: what has arrived, what is in
// flight, and the end. The order of locks is engine.mu, then a stream's or the
// Compute's; a stream calls poke without its lock. Nothing is sent or awaited
// under mu.
//
// A step is the boundary at which a fault or a panic ends: it fails the
// sequences of that step and no others, and the loop goes on. A model whose
// file changed stays broken: its mapping may hold anything.
type engine struct {
	model   models.Model
	tok     *tokenizer.Tokenizer
	limits  models.Limits
	compute *tensor.Compute
	cache   *kvcache.Cache
	exec    *exec.Executor
	handle  *pool.Handle

	contextLength, maxSequences, maxQueue, streamBuffer int
	stallLimit, prefixIdle                              time.Duration
	privatePrefixes                                     bool

	mu       sync.Mutex
	arrivals []*sequence // not seen by the loop yet
	waiting  int         // in the scheduler's queue
	occupied int         // sequences that run
	inFlight []*sequence // in the step that runs now
	turnover turnover
	broken   error // why the model takes no more requests
	closing  bool

	wake chan struct{} // has one token when the loop has something to look at
	done chan struct{} // closed when the loop has ended

	// The loop's own.
	sched    *sched.Scheduler
	live     map[*sequence]struct{} // all that the scheduler has
	arrived  []*sequence            // reused, as is step
	step     []*sequence            // planned for the next step
	prefills int                    // how many of them, the last ones, compute their prompts
	batch    tensor.Batch
	logits   []float32
	forward  func() error // runs the model on batch and chooses the next tokens
	choose   func(i int)  // for the step's sequence i
	began    time.Time    // when forward did
	pace     pace
	idle     idleness
	check    func() // for tests: looks at the state after a step

	counts struct {
		running, pages, kept, preempted, steps, prompt, cached, completion atomic.Int64
	}
}

// How long a step is meant to take. Whoever is decoding waits that long for the
// next token while a long prompt is prefilled. Where nobody is, steps are longer,
// as each reads all weights anew: only a request that comes meanwhile waits.
const (
	stepTime      = 40 * time.Millisecond
	stepTimeAlone = 100 * time.Millisecond
)

func newEngine(model models.Model, limits models.Limits, handle *pool.Handle, tok *tokenizer.Tokenizer, lease *budget.Lease, o *options) (*engine, error) {
	cfg := model.Config()
	e := &engine{
		model: model, tok: tok, limits: limits, handle: handle, exec: exec.Default(),
		contextLength: o.contextLength, maxSequences: o.maxSequences, maxQueue: o.queue, streamBuffer: o.streamBuffer,
		stallLimit: o.stallLimit, prefixIdle: o.prefixIdle, privatePrefixes: o.privatePrefixes, live: map[*sequence]struct{}{},
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	if err := lease.ReserveItems(budget.Scratch, uint64(limits.Logits), uint64(cfg.Vocabulary)*4); err != nil {
		return nil, err
	}
	e.logits = make([]float32, limits.Logits*cfg.Vocabulary)
	var err error
	e.compute, err = tensor.NewCompute(lease, o.activations, tensor.Limits{
		Threads: o.threads, Tokens: limits.Tokens, MaxCols: cfg.MaxCols, HeadDim: cfg.HeadDim,
	})
	if err != nil {
		return nil, err
	}
	shape := kvcache.Shape{Layers: cfg.Layers, Heads: cfg.KVHeads, HeadDim: cfg.HeadDim, Type: o.kvType}
	if err := shape.Check(); err != nil {
		return nil, &Error{Code: CodeInvalidRequest, Field: "kv_cache_type", Err: err}
	}
	if e.cache, err = newCache(shape, o); err != nil {
		return nil, err
	}
	e.contextLength = min(e.contextLength, e.cache.Pages()*kvcache.PageTokens)
	e.sched = sched.New(e.cache, o.maxSequences, o.tenantWeights)
	e.forward = func() error {
		if e.abandoned() {
			return exec.ErrStopped
		}
		e.began = time.Now()
		n := len(e.batch.Logits) * cfg.Vocabulary
		model.Forward(e.compute, &e.batch, e.cache.KV(), e.logits[:n])
		e.compute.Each(len(e.step), e.choose)
		return nil
	}
	e.choose = func(i int) {
		if s := e.step[i]; s.score == nil && s.Rows > 0 {
			s.choose(e.row(s.firstRow))
		}
	}
	e.exec.Retain()
	go e.loop()
	return e, nil
}

// newCache makes pages for a full context of every sequence, as far as the
// share of what the budget has left allows, and for one at least; or as many as
// an option says. Memory is committed only for those that are used.
func newCache(shape kvcache.Shape, o *options) (*kvcache.Cache, error) {
	one := kvcache.PagesFor(o.contextLength)
	room := int64(float64(o.budget.Limit()-o.budget.Used()) * o.kvShare)
	if o.kvBytes > 0 {
		room, one = o.kvBytes, 1
	}
	most := int64(kvcache.PagesFor(o.contextLength)) * int64(o.maxSequences)
	pages := max(one, int(min(room/shape.PagePrice(), most)))
	cache, err := kvcache.New(shape, pages, o.budget)
	if err != nil {
		return nil, err
	}
	// A model that has no room for a single request isn't loaded.
	probe := o.budget.Lease()
	defer probe.Close()
	if err := probe.Reserve(budget.Request, requestBytes(o.streamBuffer, o.contextLength, true)); err != nil {
		return nil, errors.Join(err, cache.Close())
	}
	return cache, nil
}

// requestBytes is the price of a request's stream, whose texts are included
// in the size of its events, of its tokens and of its page table.
func requestBytes(events, capacity int, logprobs bool) int64 {
	event := int64(256)
	if logprobs {
		event = 512
	}
	return int64(events)*event + 4*int64(capacity) + 4*int64(kvcache.PagesFor(capacity))
}

// ready is the error that a new request would meet.
func (e *engine) ready() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.refusal()
}

func (e *engine) refusal() error {
	if e.closing {
		return errModelClosed
	}
	return e.broken
}

var errModelClosed = &Error{Code: CodeClosed, Err: errors.New("the model was closed")}

// submit queues a sequence whose prompt is set and makes its stream.
func (e *engine) submit(ctx context.Context, s *sequence) error {
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	s.Owner, s.Tokens, s.Limit = s, s.prompt, len(s.prompt)
	if s.score == nil {
		s.From = len(s.prompt) - 1 // only the last token's logits are of interest
		s.Limit = e.contextLength
		if s.maxTokens > 0 {
			s.Limit = min(s.Limit, len(s.prompt)+min(s.maxTokens, e.contextLength))
		}
	}
	s.Salt = cacheSalt(s.Tenant, s.Salt, e.privatePrefixes)
	if err := s.lease.Reserve(budget.Request, requestBytes(e.streamBuffer, s.Limit, s.topLogprobs > 0)); err != nil {
		return NewError(CodeResourceExhausted, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.refusal(); err != nil {
		return err
	}
	// The loop moves requests to free places only between steps.
	if n := e.waiting + len(e.arrivals); n >= e.maxQueue+e.maxSequences-e.occupied {
		return &Error{Code: CodeOverloaded, Err: &OverloadedError{Waiting: n, RetryAfter: e.turnover.hint(n)}}
	}
	s.stream, s.writer = NewStream(ctx, e.streamBuffer, e.poke)
	e.arrivals = append(e.arrivals, s)
	e.signal()
	return nil
}

func (e *engine) signal() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// poke is what a stream calls when it has room again or was given up. A step
// that nobody waits for any more is cut short.
func (e *engine) poke() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.inFlight) > 0 && e.allEnded() {
		e.compute.Interrupt()
	}
	e.signal()
}

// allEnded reports whether nobody waits for the step in flight. The caller
// holds mu.
func (e *engine) allEnded() bool {
	return !slices.ContainsFunc(e.inFlight, func(s *sequence) bool { return !s.writer.Ended() })
}

// abandoned reports whether a step is not worth beginning: while it waited for
// its turn on the executor its requests ended.
func (e *engine) abandoned() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closing || e.allEnded()
}

// close ends everything and waits for the loop.
func (e *engine) close() error {
	e.mu.Lock()
	e.closing = true
	if len(e.inFlight) > 0 {
		e.compute.Interrupt()
	}
	e.mu.Unlock()
	e.signal()
	<-e.done
	return e.cache.Close()
}

func (e *engine) loop() {
	defer close(e.done)
	defer e.exec.Release()
	for e.turn() {
	}
	e.failAll(errModelClosed)
	e.count()
}

// turn does one round of the loop; false ends it. Whatever panics outside of
// a step is a fault of the engine's own and fails all that is running.
func (e *engine) turn() (goOn bool) {
	defer func() {
		if r := recover(); r != nil {
			err := &exec.PanicError{Value: r, Stack: debug.Stack()}
			e.failAll(&Error{Code: CodeInternal, Err: fmt.Errorf("internal error: %w", err)})
			goOn = true
		}
	}()
	if !e.gather(time.Now()) {
		return false
	}
	e.count()
	if !e.plan() {
		e.forget()
		e.sleep()
		return true
	}
	e.idle = idleness{}
	e.run()
	if e.check != nil {
		e.check()
	}
	return true
}

// sleep waits until there is something to look at: at the latest when a stream
// that nobody reads has held up the queue for too long, or memory has been idle
// for long.
func (e *engine) sleep() {
	limit := e.stallLimit
	quiet := len(e.live) == 0
	switch {
	case quiet:
		limit = e.idle.next(e.prefixIdle)
	case e.sched.Waiting() == 0:
		limit = 0
	}
	if limit == 0 {
		<-e.wake
		return
	}
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-e.wake:
	case <-t.C:
		if quiet {
			e.idle.giveBack(e.cache)
		}
	}
}

// owner is the request whose sequence the scheduler means.
func owner(s *sched.Sequence) *sequence { return s.Owner.(*sequence) }

// endStalled ends the streams that nobody has read for stallLimit while other
// requests wait for their place.
func (e *engine) endStalled(now time.Time) {
	if e.sched.Waiting() == 0 {
		return
	}
	for _, r := range e.sched.Running() {
		if s := owner(r); !s.stalled.IsZero() && now.Sub(s.stalled) >= e.stallLimit {
			s.writer.Finish(&Error{Code: CodeClosed, Err: fmt.Errorf("nobody read the stream for %v while other requests waited", e.stallLimit)})
		}
	}
}

// gather takes in what has arrived, drops what has ended and admits what there
// is room for. It returns false when the engine is being closed.
func (e *engine) gather(now time.Time) bool {
	e.mu.Lock()
	if e.closing {
		e.mu.Unlock()
		return false
	}
	e.arrived, e.arrivals = e.arrivals, e.arrived[:0]
	e.waiting += len(e.arrived)
	e.mu.Unlock()
	for _, s := range e.arrived {
		e.live[s] = struct{}{}
		if err := e.sched.Add(&s.Sequence); err != nil {
			s.writer.Finish(NewError(CodeResourceExhausted, err))
			e.retire(s)
		}
	}
	clear(e.arrived)
	e.endStalled(now)
	ran := len(e.sched.Running())
	e.sched.Drop(func(r *sched.Sequence) bool {
		ended := owner(r).writer.Ended()
		if ended {
			e.retire(owner(r))
		}
		return ended
	})
	ended := ran - len(e.sched.Running())
	e.look(now)
	e.sched.Admit()
	e.look(now) // at those that have a place again, too
	e.mu.Lock()
	e.waiting, e.occupied = e.sched.Waiting(), len(e.sched.Running())
	e.turnover.add(ended, e.waiting+e.occupied > 0, now)
	e.mu.Unlock()
	return true
}

// retire gives back what a sequence holds besides its pages, when its stream
// has ended.
func (e *engine) retire(s *sequence) {
	delete(e.live, s)
	s.lease.Close()
}

// run computes the planned step and hands out its results.
func (e *engine) run() {
	e.setInFlight(e.step)
	err := e.compute.Step(context.Background(), e.exec, e.forward)
	now := time.Now()
	e.setInFlight(nil)
	if err != nil {
		err = stepError(err)
	}
	fault := errors.Is(err, pool.ErrFault)
	if changed := e.handle.Check(); changed != nil {
		if fault {
			changed = fmt.Errorf("%w: %w", changed, err)
		}
		e.fail(changed)
		return
	}
	switch {
	case errors.Is(err, exec.ErrStopped):
		return // nobody waits for it
	case fault:
		e.failStep(&Error{Code: CodeModelChanged, Err: err})
		return
	case err != nil:
		e.failStep(&Error{Code: CodeInternal, Err: fmt.Errorf("internal error in a step: %w", err)})
		return
	}
	e.counts.steps.Add(1)
	e.pace.add(e.batch.Len(), e.prefills > 0, now.Sub(e.began))
	for _, s := range e.step {
		if s.firstStep.IsZero() {
			s.firstStep = e.began
		}
		e.deliver(s, now)
	}
}

// row is a row of the step's logits. What is beyond the tokenizer's vocabulary is
// padding: it has no text.
func (e *engine) row(i int) []float32 {
	vocabulary := len(e.logits) / e.limits.Logits
	return e.logits[i*vocabulary:][:e.tok.Size()]
}

// stepError names a memory fault as the pool does.
func stepError(err error) error {
	if fault := (*exec.FaultError)(nil); errors.As(err, &fault) {
		return fmt.Errorf("%w: %w", pool.ErrFault, err)
	}
	return err
}

func (e *engine) setInFlight(step []*sequence) {
	e.mu.Lock()
	e.inFlight = step
	e.mu.Unlock()
}

// deliver takes a sequence's results out of a step.
func (e *engine) deliver(s *sequence, now time.Time) {
	rows, prompt := s.Rows, min(s.Planned, max(len(s.prompt)-s.Done, 0))
	e.sched.Advance(&s.Sequence)
	first := s.Done - rows // the first position that has logits
	if prompt > 0 {
		e.counts.prompt.Add(int64(prompt))
		// Progress is news only for a reader who keeps up, and never takes the
		// room that the answer needs.
		if s.Done < len(s.prompt) && s.writer.Room(0) > e.streamBuffer/2 {
			s.writer.TrySend(Event{Kind: EventProgress, Progress: Progress{Stage: StagePrefill, Done: s.Done, Total: len(s.prompt)}})
		}
	}
	for i := range rows {
		var ended bool
		var err error
		if s.score != nil {
			if s.writer.Ended() {
				return // of a large vocabulary, all rows of a step take a while
			}
			err = s.score.add(s.prompt, first+i, e.row(s.firstRow+i))
			ended = err != nil || first+i+1 == len(s.prompt)
		} else {
			ended, err = s.accept(e.tok, now)
			if err == nil {
				e.counts.completion.Add(1)
				e.sched.Append(&s.Sequence, s.chosen.Token)
			}
		}
		if ended {
			s.writer.Finish(err)
			return
		}
	}
}

// fail makes the model refuse everything from here on.
func (e *engine) fail(err error) {
	err = &Error{Code: CodeModelChanged, Err: err}
	e.mu.Lock()
	e.broken = err
	e.mu.Unlock()
	e.failAll(err)
}

// failStep ends the sequences of the step that was run.
func (e *engine) failStep(err error) {
	for _, s := range e.step {
		s.writer.Finish(err)
	}
}

// failAll ends every sequence there is. Where the scheduler's own state is to
// blame for that, nothing can run any more.
func (e *engine) failAll(err error) {
	e.mu.Lock()
	for _, s := range append(e.arrivals, e.arrived...) { // which may not be with the scheduler yet
		if s != nil {
			e.live[s] = struct{}{}
		}
	}
	e.arrivals, e.arrived, e.inFlight, e.waiting, e.occupied = nil, nil, nil, 0, 0
	e.mu.Unlock()
	for s := range e.live {
		s.writer.Finish(err)
	}
	all := func(*sched.Sequence) bool { return true }
	if err := guarded(CodeInternal, func() error { e.sched.Drop(all); return nil }); err != nil {
		e.mu.Lock()
		e.broken = err
		e.mu.Unlock()
	}
	for s := range e.live {
		e.retire(s)
	}
}

// count publishes the loop's figures.
func (e *engine) count() {
	e.counts.running.Store(int64(len(e.sched.Running())))
	e.counts.pages.Store(int64(e.cache.Used()))
	e.counts.kept.Store(int64(e.cache.Kept()))
	e.counts.preempted.Store(e.sched.Preemptions())
	e.counts.cached.Store(e.sched.Cached())
}

func (e *engine) stats() Stats {
	e.mu.Lock()
	waiting := e.waiting + len(e.arrivals)
	e.mu.Unlock()
	pages := e.counts.pages.Load()
	return Stats{
		Running: int(e.counts.running.Load()), Waiting: waiting, Steps: e.counts.steps.Load(),
		PromptTokens: e.counts.prompt.Load(), CachedTokens: e.counts.cached.Load(), CompletionTokens: e.counts.completion.Load(),
		Preemptions: e.counts.preempted.Load(),
		KVPages:     e.cache.Pages(), KVPagesUsed: int(pages), KVPagesCached: int(e.counts.kept.Load()), KVBytes: pages * e.cache.PageBytes(),
	}
}

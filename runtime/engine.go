package runtime

import (
	"context"
	"errors"
	"fmt"
	goruntime "runtime"
	"runtime/debug"
	"slices"
	"sync"
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
	exec    *exec.Client
	handle  *pool.Handle

	contextLength, maxSequences, maxQueue, streamBuffer int
	longestText                                         int // of a token, in bytes
	water                                               water
	stallLimit, prefixIdle, heartbeat                   time.Duration
	weight                                              float64 // of a sequence beside those of other models
	privatePrefixes                                     bool

	mu       sync.Mutex
	arrivals []*sequence // not seen by the loop yet
	waiting  int         // in the scheduler's queue
	free     int         // places for more than those: none while anybody waits
	inFlight []*sequence // in the step that runs now
	turnover turnover
	rates    rates
	requests uint64 // that were queued so far
	broken   error  // why the model takes no more requests
	closing  bool
	giveUp   context.CancelFunc // ends the wait for weights, if there is one

	stop context.CancelFunc // ends the step, or the wait for its turn, on closing
	wake chan struct{}      // has one token when the loop has something to look at
	done chan struct{}      // closed when the loop has ended

	// The loop's own.
	sched    *sched.Scheduler
	live     map[*sequence]struct{} // all that the scheduler has
	arrived  []*sequence            // reused, as is step
	step     []*sequence            // planned for the next step
	prefills int                    // how many of them, the last ones, compute their prompts
	batch    tensor.Batch
	logits   []float32
	rows     []*sequence  // whose the step's rows of logits are
	forward  func() error // runs the model on batch and looks at its logits
	evaluate func(i int)  // row i: chooses the next token, or scores one
	gathered time.Time    // when gather was called
	began    time.Time    // when forward did
	yielded  time.Time    // when others were let run
	waited   time.Time    // since when somebody waits for a place, zero while nobody does
	pace     pace
	attends  attends
	price    float64 // of a pair of positions in this plan
	idle     idleness
	warming  *warming
	rewarm   bool   // begin it when the weights have gone
	lost     bool   // the scheduler's state is damaged, and the loop is to end
	check    func() // for tests: looks at the state after a step

	listeners   []*listener
	preemptions int64 // that were noticed
	counts      meters
}

// How long a step is meant to take. Whoever is decoding waits that long for the
// next token while a long prompt is prefilled. Where nobody is, steps are longer,
// as each reads all weights anew: only a request that comes meanwhile waits.
const (
	stepTime      = 40 * time.Millisecond
	stepTimeAlone = 100 * time.Millisecond
)

// yieldAfter is for how long the engine computes before it lets those run whom it has
// given something: the threads of the next step would take all CPUs, and Go preempts
// them after 10 ms only. After each short step would be too often, where the host's
// other goroutines want the CPUs as well.
const yieldAfter = 2 * time.Millisecond

func newEngine(model models.Model, limits models.Limits, handle *pool.Handle, w *warming, tok *tokenizer.Tokenizer, lease *budget.Lease, o *options) (*engine, error) {
	cfg := model.Config()
	e := &engine{
		model: model, tok: tok, limits: limits, handle: handle,
		contextLength: o.contextLength, maxSequences: o.maxSequences, free: o.maxSequences, maxQueue: o.queue, streamBuffer: o.streamBuffer, longestText: tok.MaxTokenBytes(),
		water: waterOf(o.streamBuffer, o.highWater), heartbeat: o.heartbeat, stallLimit: o.stallLimit, prefixIdle: o.prefixIdle,
		privatePrefixes: o.privatePrefixes, weight: o.weight, live: map[*sequence]struct{}{},
		warming: w, rewarm: o.warmUp != WarmUpNone, giveUp: func() {}, attends: attendsOf(&cfg), wake: make(chan struct{}, 1), done: make(chan struct{}),
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
	if !o.keepWindows {
		shape.Windowed, shape.Window = cfg.Windowed, cfg.Window
	}
	if e.cache, err = newCache(shape, e.longestText, limits.Tokens, o); err != nil {
		return nil, err
	}
	e.contextLength = min(e.contextLength, e.cache.Capacity())
	e.sched = sched.New(e.cache, o.maxSequences, o.tenantWeights)
	e.forward = func() error {
		if e.abandoned() {
			return exec.ErrStopped
		}
		e.began = time.Now()
		n := len(e.batch.Logits) * cfg.Vocabulary
		model.Forward(e.compute, &e.batch, e.cache.KV(), e.logits[:n])
		e.compute.Each(len(e.rows), e.evaluate)
		return nil
	}
	e.evaluate = func(i int) {
		if s := e.rows[i]; s.score == nil {
			s.Choose(e.row(i))
		} else {
			s.score.add(s.prompt, s.Done+s.Planned-s.Rows+i-s.firstRow, e.row(i))
		}
	}
	for _, o := range o.observers {
		e.listeners = append(e.listeners, listen(o, &e.counts.observersDropped))
	}
	e.exec = exec.Default().NewClient()
	ctx, cancel := context.WithCancel(context.Background())
	e.stop = cancel
	go e.loop(ctx)
	return e, nil
}

// newCache makes pages for a full context of every sequence and a step of so many
// tokens, as far as the share of what the budget has left allows, and for one
// sequence at least; or as many as an option says. Memory is committed only for
// those that are used.
func newCache(shape kvcache.Shape, longestText, step int, o *options) (*kvcache.Cache, error) {
	one := shape.PagesFor(o.contextLength)
	room := int64(float64(o.budget.Left()) * o.kvShare)
	most := int64(one)*int64(o.maxSequences) + int64(shape.PagesAhead(step))
	if o.kvBytes > 0 {
		room, one = o.kvBytes, shape.PagesFor(1)
	}
	pages := max(one, int(min(room/shape.PagePrice(), most)))
	cache, err := kvcache.New(shape, pages, o.budget)
	if err != nil {
		return nil, err
	}
	// A model that has no room for a single request isn't loaded.
	probe := o.budget.Lease()
	defer probe.Close()
	if err := probe.Reserve(budget.Request, requestBytes(cache, longestText, o.streamBuffer, o.contextLength, true)); err != nil {
		return nil, errors.Join(err, cache.Close())
	}
	return cache, nil
}

// longText is for how many bytes of a token's text the price of an event has room.
// Where tokens have more each event is dearer. A byte that isn't UTF-8 takes three.
const longText = 24

// requestBytes is the price of a request's stream, of its tokens and of its page
// table.
func requestBytes(cache *kvcache.Cache, longestText, events, capacity int, logprobs bool) int64 {
	event := int64(256)
	if logprobs {
		event = 512
	}
	event += 3 * int64(max(longestText-longText, 0))
	return int64(events)*event + 4*int64(capacity) + 4*int64(cache.TableLen(capacity))
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
func (e *engine) submit(ctx context.Context, s *sequence) (*Stream, error) {
	if ctx.Err() != nil {
		return nil, contextError(ctx)
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
	if err := s.lease.Reserve(budget.Request, requestBytes(e.cache, e.longestText, e.streamBuffer, s.Limit, s.topLogprobs > 0)); err != nil {
		return nil, NewError(CodeResourceExhausted, err)
	}
	if e.observed() {
		s.ctx = ctx
	}
	if err := e.admits(); err != nil {
		return nil, err
	}
	// The context may be the caller's own code, so it is hooked without the lock.
	stream, w := NewStream(ctx, e.streamBuffer, e.poke)
	s.writer = w
	if s.score == nil {
		w.s.heartbeat = e.heartbeat
	}
	if err := e.enqueue(s); err != nil {
		w.Finish(err)
		return nil, err
	}
	return stream, nil
}

// admits is the refusal that a request would meet now.
func (e *engine) admits() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.full()
}

// full is refusal, for a full queue too. The caller holds mu.
func (e *engine) full() error {
	if err := e.refusal(); err != nil {
		return err
	}
	// The loop moves requests to free places only between steps.
	if n := e.waiting + len(e.arrivals); n >= e.maxQueue+e.free {
		return &Error{Code: CodeOverloaded, Err: &OverloadedError{Waiting: n, RetryAfter: e.turnover.hint(n)}}
	}
	return nil
}

func (e *engine) enqueue(s *sequence) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.full(); err != nil {
		return err
	}
	e.requests++
	s.id = e.requests
	e.counts.queued.Add(1)
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
		e.giveUp()
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
	e.mu.Unlock()
	e.stop()
	e.signal()
	<-e.done
	e.warming.close()
	return e.cache.Close()
}

func (e *engine) loop(ctx context.Context) {
	defer close(e.done)
	defer e.exec.Close()
	for e.turn(ctx) {
	}
	e.failAll(e.ready()) // why none can come any more
	e.count()
	e.counts.running.Store(0) // what a damaged scheduler still has doesn't run
	for _, l := range e.listeners {
		l.end()
	}
}

// turn does one round of the loop; false ends it. Whatever panics outside of
// a step is a fault of the engine's own and fails all that is running.
func (e *engine) turn(ctx context.Context) (goOn bool) {
	defer func() {
		if r := recover(); r != nil {
			err := &exec.PanicError{Value: r, Stack: debug.Stack()}
			e.failAll(&Error{Code: CodeInternal, Err: fmt.Errorf("internal error: %w", err)})
			goOn = true
		}
	}()
	if e.lost || !e.gather() {
		return false
	}
	e.count()
	goOn = e.plan()
	e.notice()
	if !goOn {
		e.exec.Idle()
		e.forget()
		e.sleep()
		return true
	}
	e.idle = idleness{}
	e.run(ctx)
	if e.check != nil {
		e.check()
	}
	return true
}

// sleep waits until there is something to look at: at the latest when a stream
// that nobody reads has held up the queue for too long, or memory has been idle
// for long.
func (e *engine) sleep() {
	now := time.Now()
	quiet := len(e.live) == 0
	left, ok := e.untilStalled(now)
	if quiet {
		left, ok = e.idle.next(now, e.prefixIdle)
	}
	if !ok {
		<-e.wake
		return
	}
	t := time.NewTimer(left)
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

// gather takes in what has arrived, drops what has ended and admits what there
// is room for. It returns false when the engine is being closed.
func (e *engine) gather() bool {
	e.mu.Lock()
	if e.closing {
		e.mu.Unlock()
		return false
	}
	e.arrived, e.arrivals = e.arrivals, e.arrived[:0]
	e.waiting += len(e.arrived)
	e.mu.Unlock()
	now := time.Now() // no earlier than any of them
	e.gathered = now
	for i, s := range e.arrived {
		e.arrived[i] = nil // whatever happens, it is among the live ones
		e.live[s] = struct{}{}
		e.tellQueued(s)
		if err := e.sched.Add(&s.Sequence); err != nil {
			s.writer.Finish(NewError(CodeResourceExhausted, err))
			e.retire(s, now)
		}
	}
	ran := len(e.sched.Running())
	e.sched.Drop(func(r *sched.Sequence) bool {
		ended := owner(r).writer.Ended()
		if ended {
			e.retire(owner(r), now)
		}
		return ended
	})
	ended := ran - len(e.sched.Running())
	e.look(now)
	e.sched.Admit()
	e.look(now) // at those that have a place again, too
	e.contend(now)
	e.endStalled(now)
	e.mu.Lock()
	running := len(e.sched.Running())
	if e.waiting, e.free = e.sched.Waiting(), 0; e.waiting == 0 {
		e.free = e.maxSequences - running
	}
	e.turnover.add(ended, e.waiting+running > 0, now)
	e.rates.add(e.totals(now))
	e.mu.Unlock()
	return true
}

// retire gives back what a sequence holds besides its pages, when its stream
// has ended.
func (e *engine) retire(s *sequence, now time.Time) {
	delete(e.live, s)
	s.lease.Close()
	outcome, err := s.outcome()
	e.counts.ended[outcome].Add(1)
	e.tellEnded(s, now, outcome, err)
}

// run computes the planned step and hands out its results.
func (e *engine) run(ctx context.Context) {
	e.setInFlight(e.step)
	e.began = time.Time{}
	err := e.takeWeights(ctx)
	if err == nil {
		err = e.compute.Step(ctx, e.exec, e.forward)
		e.handle.Done()
	}
	now := time.Now()
	e.setInFlight(nil)
	if err != nil {
		err = stepError(err)
	} else {
		e.counts.steps.Add(1)
	}
	e.tellStep(now, err)
	fault := errors.Is(err, pool.ErrFault)
	if changed := e.handle.Check(); changed != nil {
		if fault {
			changed = fmt.Errorf("%w: %w", changed, err)
		}
		e.fail(changed)
		return
	}
	switch {
	case errors.Is(err, exec.ErrStopped), err != nil && ctx.Err() != nil:
		return // nobody waits for it, or the model is being closed
	case fault:
		e.failStep(&Error{Code: CodeModelChanged, Err: err})
		return
	case err != nil:
		e.failStep(&Error{Code: CodeInternal, Err: fmt.Errorf("internal error in a step: %w", err)})
		return
	}
	a := e.compute.AttentionCost()
	e.pace.add(measured{tokens: e.batch.Len(), prefill: e.prefills > 0, pairs: a.Pairs, took: now.Sub(e.began), attention: a.Took})
	for _, s := range e.step {
		if s.firstStep.IsZero() {
			s.firstStep = e.began
			e.counts.queueTime.add(s.firstStep.Sub(s.started))
		}
		e.deliver(s, now)
	}
	if now.Sub(e.yielded) >= yieldAfter {
		goruntime.Gosched()
		e.yielded = time.Now()
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
	if prompt > 0 {
		e.counts.prompt.Add(int64(prompt))
		// Progress is news only for a reader who keeps up, and never takes the
		// room that the answer needs or holds it up.
		if n := s.writer.unread(); s.Done < len(s.prompt) && s.generated == 0 && n < e.streamBuffer-e.streamBuffer/2 && n+1 < e.water.high {
			s.writer.TrySend(Event{Kind: EventProgress, Progress: Progress{Stage: StagePrefill, Done: s.Done, Total: len(s.prompt)}})
		}
	}
	if rows == 0 {
		return
	}
	var ended bool
	var ev Event
	var err error
	if s.score != nil {
		ended, err = s.Done == len(s.prompt), s.score.err
	} else if ev, err = s.accept(now); err == nil {
		e.countToken(s) // before anybody can read it
		ended = s.send(ev)
		e.sched.Append(&s.Sequence, ev.Token)
	}
	if ended || err != nil {
		s.writer.Finish(err)
	}
}

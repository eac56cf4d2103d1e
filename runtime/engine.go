package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/internal/exec"
	"github.com/dunlin-go/dunlin/internal/kvcache"
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
// The loop owns the sequences it runs, the KV cache and the batch. Others reach
// it through mu: the queue, what is in flight, and the end. The order of locks
// is engine.mu, then a stream's or the Compute's; a stream calls poke without
// its lock. Nothing is sent or awaited under mu.
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

	mu       sync.Mutex
	waiting  []*sequence
	inFlight []*sequence // in the step that runs now
	broken   error       // why the model takes no more requests
	closing  bool

	wake chan struct{} // has one token when the loop has something to look at
	done chan struct{} // closed when the loop has ended

	// The loop's own.
	running   []*sequence
	step      []*sequence // planned for the next step, reused
	batch     tensor.Batch
	logits    []float32
	forward   func() error // runs the model on batch
	tokenCost float64      // seconds a token of a step, from the last steps

	counts struct {
		running, pages, steps, prompt, completion atomic.Int64
	}
}

// stepTime is how long a step is meant to take. Whoever is decoding waits that
// long for the next token while a long prompt is prefilled.
const stepTime = 40 * time.Millisecond

// minPrefill is how many prompt tokens a step takes however slow the machine
// is and however many sequences are decoding.
const minPrefill = 4

// firstChunk is the tokens of the first step, before anything was measured.
const firstChunk = 16

// maxContexts is for how many full contexts the KV cache has pages, if the
// budget has room. Fewer, longer or more, shorter sequences share them.
const maxContexts = 16

func newEngine(model models.Model, limits models.Limits, handle *pool.Handle, tok *tokenizer.Tokenizer, lease *budget.Lease, o *options) (*engine, error) {
	cfg := model.Config()
	e := &engine{
		model: model, tok: tok, limits: limits, handle: handle, exec: exec.Default(),
		contextLength: o.contextLength, maxSequences: o.maxSequences, maxQueue: o.queue, streamBuffer: o.streamBuffer,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	if err := lease.ReserveItems(budget.Scratch, uint64(limits.Logits), uint64(cfg.Vocabulary)*4); err != nil {
		return nil, err
	}
	e.logits = make([]float32, limits.Logits*cfg.Vocabulary)
	var err error
	e.compute, err = tensor.NewCompute(lease, o.activations, tensor.Limits{
		Threads: o.threads, Tokens: limits.Tokens, MaxCols: cfg.MaxCols, PageSize: kvcache.PageTokens,
	})
	if err != nil {
		return nil, err
	}
	shape := kvcache.Shape{Layers: cfg.Layers, Heads: cfg.KVHeads, HeadDim: cfg.HeadDim, F32: o.activations == ActivationsF32}
	one := kvcache.PagesFor(o.contextLength)
	room := (o.budget.Limit() - o.budget.Used()) / 2 / shape.PageBytes()
	pages := max(one, int(min(room, int64(one)*int64(min(maxContexts, o.maxSequences)))))
	if e.cache, err = kvcache.New(shape, pages, o.budget); err != nil {
		return nil, err
	}
	e.forward = func() error {
		n := len(e.batch.Logits) * cfg.Vocabulary
		model.Forward(e.compute, &e.batch, e.cache.KV(), e.logits[:n])
		return nil
	}
	e.exec.Retain()
	go e.loop()
	return e, nil
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
	s.capacity = min(e.contextLength, e.cache.Pages()*kvcache.PageTokens)
	if s.score != nil {
		s.capacity = len(s.prompt)
	} else if s.maxTokens > 0 {
		s.capacity = min(s.capacity, len(s.prompt)+min(s.maxTokens, e.contextLength))
	}
	price := int64(e.streamBuffer)*eventBytes + int64(kvcache.PagesFor(s.capacity))*4
	if err := s.lease.Reserve(budget.Request, price); err != nil {
		return NewError(CodeResourceExhausted, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.refusal(); err != nil {
		return err
	}
	if len(e.waiting) >= e.maxQueue {
		return &Error{Code: CodeOverloaded, Err: fmt.Errorf("%d requests are waiting already, try again later", len(e.waiting))}
	}
	s.stream, s.writer = NewStream(ctx, e.streamBuffer, e.poke)
	e.waiting = append(e.waiting, s)
	e.signal()
	return nil
}

// eventBytes is about what an event in a stream's buffer takes, its text
// included.
const eventBytes = 256

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
	if len(e.inFlight) > 0 && !slices.ContainsFunc(e.inFlight, func(s *sequence) bool { return !s.writer.Ended() }) {
		e.compute.Interrupt()
	}
	e.signal()
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
}

// turn does one round of the loop; false ends it. Whatever panics outside of
// a step is a fault of the engine's own and fails all that is running.
func (e *engine) turn() (goOn bool) {
	defer func() {
		if r := recover(); r != nil {
			e.failAll(&Error{Code: CodeInternal, Err: fmt.Errorf("internal error: %v", r)})
			goOn = true
		}
	}()
	if !e.admit() {
		return false
	}
	if len(e.running) == 0 || !e.plan() {
		e.count()
		<-e.wake
		return true
	}
	e.run()
	e.count()
	return true
}

// admit drops what has ended and starts what waits, as far as there is room. It
// returns false when the engine is being closed.
func (e *engine) admit() bool {
	e.running = slices.DeleteFunc(e.running, func(s *sequence) bool {
		if s.writer.Ended() {
			s.release()
			return true
		}
		return false
	})
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closing {
		return false
	}
	e.waiting = slices.DeleteFunc(e.waiting, func(s *sequence) bool {
		if s.writer.Ended() {
			s.release()
			return true
		}
		return false
	})
	for len(e.waiting) > 0 && len(e.running) < e.maxSequences {
		s := e.waiting[0]
		pages, err := e.cache.Lease(s.capacity)
		if err != nil {
			break // first come, first served: its pages come when others end
		}
		s.pages = pages
		e.waiting[0] = nil
		e.waiting = e.waiting[1:]
		e.running = append(e.running, s)
	}
	return true
}

// release gives back what a sequence holds. It is called once, when the stream
// has ended.
func (s *sequence) release() {
	if s.pages != nil {
		s.pages.Release()
	}
	s.lease.Close()
}

// plan fills the batch for the next step. It returns false where no sequence
// can go on: their readers have to take something first.
func (e *engine) plan() bool {
	b := &e.batch
	b.Reset()
	e.step = e.step[:0]
	rows := e.limits.Logits
	for _, s := range e.running {
		s.planned = 0
		// A token can bring the finish with it.
		if rows > 0 && !s.prefilling() && s.writer.Room(2) >= 2 {
			e.include(s, 1, 1)
			rows--
		}
	}
	left := min(max(e.tokensPerStep()-b.Len(), minPrefill), e.limits.Tokens-b.Len())
	for _, s := range e.running {
		if left == 0 {
			break
		}
		if !s.prefilling() || s.writer.Room(2) < 2 {
			continue
		}
		n, need := min(left, len(s.prompt)-s.done), 0
		if s.score != nil {
			n = min(n, rows)
			need = n
		} else if s.done+n == len(s.prompt) {
			need = 1
		}
		if n == 0 || need > rows {
			continue
		}
		e.include(s, n, need)
		left -= n
		rows -= need
	}
	return b.Len() > 0
}

// tokensPerStep is how many tokens a step of stepTime has room for.
func (e *engine) tokensPerStep() int {
	if e.tokenCost == 0 {
		return firstChunk
	}
	return int(min(stepTime.Seconds()/e.tokenCost, float64(e.limits.Tokens)))
}

// include puts the next n tokens of a sequence into the batch; the last rows of
// them need logits.
func (e *engine) include(s *sequence, n, rows int) {
	b := &e.batch
	s.planned, s.rows, s.firstRow = n, rows, len(b.Logits)
	s.pages.Grow(s.done + n)
	for i := range n {
		id := s.last
		if s.prefilling() {
			id = s.prompt[s.done+i]
		}
		if i >= n-rows {
			b.Logits = append(b.Logits, int32(b.Len()))
		}
		b.Tokens = append(b.Tokens, id)
		b.Positions = append(b.Positions, int32(s.done+i))
		b.Seqs = append(b.Seqs, int32(len(b.Tables)))
	}
	b.Tables = append(b.Tables, s.pages.Table)
	e.step = append(e.step, s)
}

// run computes the planned step and hands out its results.
func (e *engine) run() {
	e.setInFlight(e.step)
	start := time.Now()
	for _, s := range e.step {
		if s.done == 0 {
			s.firstStep = start
		}
	}
	err := e.compute.Step(context.Background(), e.exec, e.forward)
	now := time.Now()
	e.setInFlight(nil)
	fault := (*exec.FaultError)(nil)
	if errors.As(err, &fault) {
		err = fmt.Errorf("%w: %w", pool.ErrFault, err)
	}
	if changed := e.handle.Check(); changed != nil {
		if fault != nil {
			changed = fmt.Errorf("%w: %w", changed, err)
		}
		e.fail(changed)
		return
	}
	switch {
	case errors.Is(err, exec.ErrStopped):
		return // nobody waits for it
	case fault != nil:
		e.failStep(&Error{Code: CodeModelChanged, Err: err})
		return
	case err != nil:
		e.failStep(&Error{Code: CodeInternal, Err: fmt.Errorf("internal error in a step: %w", err)})
		return
	}
	e.counts.steps.Add(1)
	e.measure(now.Sub(start))
	for _, s := range e.step {
		e.deliver(s, now)
	}
}

func (e *engine) setInFlight(step []*sequence) {
	e.mu.Lock()
	e.inFlight = step
	e.mu.Unlock()
}

// measure follows the cost of a token slowly, so that one slow step doesn't
// starve the prompts of the next ones.
func (e *engine) measure(took time.Duration) {
	if e.batch.Len() < minPrefill {
		return // a few tokens cost as much as one: reading the weights
	}
	cost := took.Seconds() / float64(e.batch.Len())
	if e.tokenCost == 0 {
		e.tokenCost = cost
	}
	e.tokenCost += (cost - e.tokenCost) / 4
}

// deliver takes a sequence's results out of a step.
func (e *engine) deliver(s *sequence, now time.Time) {
	prefilled := s.prefilling()
	first := s.done + s.planned - s.rows // the first position that has logits
	s.done += s.planned
	if prefilled {
		e.counts.prompt.Add(int64(s.planned))
		// Progress is news only for a reader who keeps up, and never takes the
		// room that the answer needs.
		if s.prefilling() && s.writer.Room(0) > e.streamBuffer/2 {
			s.writer.TrySend(Event{Kind: EventProgress, Progress: Progress{Stage: StagePrefill, Done: s.done, Total: len(s.prompt)}})
		}
	}
	vocabulary := len(e.logits) / e.limits.Logits
	for i := range s.rows {
		logits := e.logits[(s.firstRow+i)*vocabulary : (s.firstRow+i+1)*vocabulary]
		var ended bool
		var err error
		if s.score != nil {
			err = s.score.add(s.prompt, first+i, logits)
			ended = err != nil || first+i+1 == len(s.prompt)
		} else {
			ended, err = s.accept(e.tok, logits, now)
			e.counts.completion.Add(1)
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

// failAll ends every sequence there is.
func (e *engine) failAll(err error) {
	e.mu.Lock()
	all := append(e.running, e.waiting...)
	e.running, e.waiting, e.inFlight = nil, nil, nil
	e.mu.Unlock()
	for _, s := range all {
		s.writer.Finish(err)
		s.release()
	}
}

// count publishes the loop's figures.
func (e *engine) count() {
	e.counts.running.Store(int64(len(e.running)))
	e.counts.pages.Store(int64(e.cache.Used()))
}

func (e *engine) stats() Stats {
	e.mu.Lock()
	waiting := len(e.waiting)
	e.mu.Unlock()
	pages := e.counts.pages.Load()
	return Stats{
		Running: int(e.counts.running.Load()), Waiting: waiting, Steps: e.counts.steps.Load(),
		PromptTokens: e.counts.prompt.Load(), CompletionTokens: e.counts.completion.Load(),
		KVPages: e.cache.Pages(), KVPagesUsed: int(pages), KVBytes: pages * e.cache.PageBytes(),
	}
}

package bridge

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dunlin-go/dunlin/cbind/internal/device"
	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/runtime"
)

// chunkTokens is how many tokens of prompts a step computes: those who decode wait
// for it, and a cancelled prompt ends after it.
const chunkTokens = 512

// kvFactor is what keys and values take beside themselves while a step appends to
// them: torch writes them anew.
const kvFactor = 2

// loop computes the requests of one model from one goroutine.
type loop struct {
	m            *Model
	maxSequences int
	maxQueue     int
	streamBuffer int
	stallLimit   time.Duration

	mu       sync.Mutex
	arrivals []*sequence
	waiting  int // in the loop's queue
	closing  bool
	nextID   uint64

	wake chan struct{} // has one token when there is something to look at
	done chan struct{}

	// The loop's own.
	queue   []*sequence
	running []*sequence
	kv      *budget.Lease // keys and values of those that run
	rows    []device.Row
	step    []*sequence
	dropped []uint64
	lost    int64 // of [device.Model]'s Lost
	ran     int   // how many ran after the last gather

	counts struct {
		running, steps, prompt, completion, queued atomic.Int64
		ended                                      [runtime.NumOutcomes]atomic.Int64
	}
}

func newLoop(m *Model, s *runtime.Settings) *loop {
	l := &loop{
		m: m, maxSequences: s.MaxSequences, maxQueue: s.Queue, streamBuffer: s.StreamBuffer, stallLimit: s.StallLimit,
		kv: m.budget.Lease(), wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	go l.run()
	return l
}

func (l *loop) ready() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return errClosed
	}
	return nil
}

// submit queues a sequence and makes its stream.
func (l *loop) submit(ctx context.Context, s *sequence) (*runtime.Stream, error) {
	if err := ctx.Err(); err != nil {
		return nil, runtime.NewError(runtime.CodeCanceled, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closing:
		return nil, errClosed
	case l.waiting+len(l.arrivals) >= l.maxQueue:
		return nil, &runtime.Error{Code: runtime.CodeOverloaded, Err: fmt.Errorf("%d requests wait already", l.maxQueue)}
	}
	var stream *runtime.Stream
	stream, s.writer = runtime.NewStream(ctx, l.streamBuffer, l.signal)
	l.nextID++
	s.id = l.nextID
	l.arrivals = append(l.arrivals, s)
	l.counts.queued.Add(1)
	l.signal()
	return stream, nil
}

func (l *loop) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// close tells the loop to end; it does after the step that runs.
func (l *loop) close() {
	l.mu.Lock()
	l.closing = true
	l.mu.Unlock()
	l.signal()
}

func (l *loop) run() {
	defer close(l.done)
	for l.turn() {
	}
	l.failAll(errClosed)
	l.kv.Close()
}

// turn does one round; false ends the loop. A panic fails what is running.
func (l *loop) turn() (goOn bool) {
	defer func() {
		if r := recover(); r != nil {
			l.failAll(&runtime.Error{Code: runtime.CodeInternal, Err: fmt.Errorf("internal error: %v at %s", r, firstLine(debug.Stack()))})
			goOn = true
		}
	}()
	if !l.gather() {
		return false
	}
	decoded := l.compute(l.decoders(), 1)
	if !l.compute(l.prompts(), chunkTokens) && !decoded {
		l.sleep()
	}
	return true
}

// gather takes in what has arrived, drops what has ended and admits what there is
// room for. It returns false when the model is being closed.
func (l *loop) gather() bool {
	l.mu.Lock()
	if l.closing {
		l.mu.Unlock()
		return false
	}
	l.queue = append(l.queue, l.arrivals...)
	arrived := len(l.arrivals) > 0
	clear(l.arrivals)
	l.arrivals = l.arrivals[:0]
	l.waiting = len(l.queue)
	l.mu.Unlock()
	if arrived {
		slices.SortStableFunc(l.queue, func(a, b *sequence) int { return b.priority - a.priority })
	}
	before := l.ran
	l.queue = l.keep(l.queue)
	l.running = l.keep(l.running)
	l.lose()
	l.endStalled(time.Now())
	l.forget()
	if len(l.running) < before {
		l.kv.Close() // a lease only grows
		l.kv = l.m.budget.Lease()
		_ = l.cover(nil) // less than before; if others took it meanwhile, the next step tells
	}
	for len(l.queue) > 0 && len(l.running) < l.maxSequences {
		s := l.queue[0]
		if err := l.cover(s); err != nil {
			if len(l.running) > 0 {
				break // there will be room
			}
			l.end(s, coded(0, err))
		} else {
			s.progress(runtime.StageQueue)
			l.running = append(l.running, s)
		}
		l.queue = slices.Delete(l.queue, 0, 1)
	}
	l.mu.Lock()
	l.waiting = len(l.queue)
	l.mu.Unlock()
	l.ran = len(l.running)
	l.counts.running.Store(int64(l.ran))
	return true
}

// keep is list without those whose stream has ended.
func (l *loop) keep(list []*sequence) []*sequence {
	return slices.DeleteFunc(list, func(s *sequence) bool {
		ended := s.writer.Ended()
		if ended {
			l.end(s, nil)
		}
		return ended
	})
}

// lose ends the sequences that torch had keys and values of when it died.
func (l *loop) lose() {
	times, why := l.m.dev.Lost()
	if times == l.lost {
		return
	}
	l.lost = times
	l.running = slices.DeleteFunc(l.running, func(s *sequence) bool {
		gone := s.done > 0
		if gone {
			l.end(s, coded(runtime.CodeInternal, why))
		}
		return gone
	})
}

// end finishes a sequence that is in no list any more, with an error or for what its
// stream says.
func (l *loop) end(s *sequence, err error) {
	if err != nil {
		s.writer.Finish(err)
	}
	s.lease.Close()
	if s.done > 0 {
		l.dropped = append(l.dropped, s.id)
	}
	outcome := runtime.OutcomeClosed
	switch {
	case s.Finished() == runtime.FinishStop:
		outcome = runtime.OutcomeStop
	case s.Finished() == runtime.FinishLength:
		outcome = runtime.OutcomeLength
	case s.writer.Err() != nil:
		outcome = runtime.OutcomeOf(s.writer.Err())
	}
	l.counts.ended[outcome].Add(1)
}

// forget has torch drop the keys and values of those that have ended.
func (l *loop) forget() {
	if len(l.dropped) == 0 {
		return
	}
	_ = l.m.dev.Drop(l.dropped) // if that fails, it is because they are gone
	l.dropped = l.dropped[:0]
}

// cover prices the keys and values of all that run, and of one more: torch pads each to
// the longest.
func (l *loop) cover(more *sequence) error {
	rows, longest := 0, 0
	for _, s := range append(l.running, more) {
		if s != nil {
			rows++
			longest = max(longest, len(s.prompt)+s.Generated()+1)
		}
	}
	return l.kv.Cover(budget.KVCache, kvFactor*int64(rows)*int64(longest)*l.m.desc.KVBytes)
}

// decoders are the sequences that get their next token: those whose readers leave room.
func (l *loop) decoders() []*sequence {
	l.step = l.step[:0]
	now := time.Now()
	for _, s := range l.running {
		if !s.prefilling() && l.hasRoom(s, now) {
			l.step = append(l.step, s)
		}
	}
	return l.step
}

func (l *loop) hasRoom(s *sequence, now time.Time) bool {
	if s.writer.Room(2) >= 2 {
		s.held = time.Time{}
		return true
	}
	if s.held.IsZero() {
		s.held = now
	}
	return false
}

// prompts are the sequences whose prompts the next step computes: the first one's next
// chunk, or several whole prompts of about one length that fit a chunk together.
func (l *loop) prompts() []*sequence {
	l.step = l.step[:0]
	longest, tokens := 0, 0
	for _, s := range l.running {
		if !s.prefilling() || s.writer.Ended() {
			continue
		}
		n := len(s.prompt)
		longest, tokens = max(longest, n), tokens+n
		padded := longest * (len(l.step) + 1)
		whole := s.done == 0 && n <= chunkTokens
		if len(l.step) > 0 && (!whole || padded > chunkTokens || padded > tokens+tokens/4 || l.m.desc.Batching != "batched") {
			break
		}
		l.step = append(l.step, s)
		if !whole {
			break
		}
	}
	return l.step
}

// compute runs a step of the sequences and hands out what it gives; false: there were none.
func (l *loop) compute(step []*sequence, most int) bool {
	if len(step) == 0 {
		return false
	}
	if err := l.cover(nil); err != nil {
		// The youngest gives way; the others have what it held.
		youngest := slices.MaxFunc(step, func(a, b *sequence) int { return a.started.Compare(b.started) })
		l.fail([]*sequence{youngest}, coded(0, err))
		return true
	}
	l.rows = l.rows[:0]
	began := time.Now()
	for _, s := range step {
		if s.firstStep.IsZero() {
			s.firstStep = began
		}
		l.rows = append(l.rows, device.Row{Sequence: s.id, Past: s.done, Tokens: s.chunk(most)})
	}
	t, err := l.m.dev.Step(l.rows)
	defer clear(l.rows)
	if err != nil {
		l.fail(step, coded(runtime.CodeInternal, err))
		return true
	}
	defer t.Release()
	l.counts.steps.Add(1)
	now := time.Now()
	for i, s := range step {
		n := len(l.rows[i].Tokens)
		if s.prefilling() {
			l.counts.prompt.Add(int64(n))
		}
		s.done += n
		if s.done < len(s.prompt) {
			s.progress(runtime.StagePrefill)
			continue
		}
		l.counts.completion.Add(1)
		width := l.m.desc.Vocabulary
		ended, err := s.take(t.Data[i*width:][:width], now)
		if err != nil {
			l.fail([]*sequence{s}, err)
		} else if ended {
			s.writer.Finish(nil)
		}
	}
	return true
}

// fail ends sequences that run.
func (l *loop) fail(list []*sequence, err error) {
	failed := slices.Clone(list) // the caller's list may be the loop's
	l.running = slices.DeleteFunc(l.running, func(s *sequence) bool { return slices.Contains(failed, s) })
	for _, s := range failed {
		l.end(s, err)
	}
}

func (l *loop) failAll(err error) {
	l.mu.Lock()
	all := slices.Concat(l.running, l.queue, l.arrivals)
	l.running, l.queue, l.arrivals = nil, nil, nil
	l.waiting = 0
	l.mu.Unlock()
	for _, s := range all {
		l.end(s, err)
	}
	l.counts.running.Store(0)
}

var errStalled = errors.New("the stream wasn't read while others waited for its place")

// endStalled ends sequences whose readers have left no room for long, where others wait.
func (l *loop) endStalled(now time.Time) {
	if len(l.queue) == 0 {
		return
	}
	l.running = slices.DeleteFunc(l.running, func(s *sequence) bool {
		stalled := !s.held.IsZero() && now.Sub(s.held) >= l.stallLimit
		if stalled {
			l.end(s, &runtime.Error{Code: runtime.CodeClosed, Err: errStalled})
		}
		return stalled
	})
}

// sleep waits until there is something to do: for a stalled stream a while at most.
func (l *loop) sleep() {
	if len(l.queue) == 0 {
		<-l.wake
		return
	}
	t := time.NewTimer(min(l.stallLimit, time.Second))
	defer t.Stop()
	select {
	case <-l.wake:
	case <-t.C:
	}
}

// refused counts a request that wasn't let in.
func (l *loop) refused(err error) { l.counts.ended[runtime.OutcomeOf(err)].Add(1) }

// Stats implements [runtime.StatsReader].
func (m *Model) Stats() runtime.Stats {
	l := m.loop
	l.mu.Lock()
	waiting := l.waiting + len(l.arrivals)
	l.mu.Unlock()
	s := runtime.Stats{
		Running: int(l.counts.running.Load()), Waiting: waiting, Steps: l.counts.steps.Load(),
		PromptTokens: l.counts.prompt.Load(), CompletionTokens: l.counts.completion.Load(), Queued: l.counts.queued.Load(),
		Budget: m.budget.Usage(), ProcessBudget: budget.Process().Usage(), WeightsBytes: m.info.FileBytes,
	}
	s.KVBytes = s.Budget.By[budget.KVCache]
	for i := range s.Ended {
		s.Ended[i] = l.counts.ended[i].Load()
	}
	return s
}

func firstLine(stack []byte) string {
	for i, c := range stack {
		if c == '\n' {
			return string(stack[:i])
		}
	}
	return string(stack)
}

package runtime

import (
	"context"
	"sync/atomic"
	"time"
)

// Observer is told what an engine does; see [WithObserver]. Functions that are
// nil are not called. It is a struct and not an interface, as
// [net/http/httptrace.ClientTrace] is, so that it can grow: a new function or a
// new field of what one is given breaks nobody, and an observer has only what
// it is interested in.
//
// Of a request there is first Queued, then at most one Admitted and one
// FirstToken, any number of Preempted, and last Ended, exactly one. Calls that
// were refused, which get an error from Start, are not told; [Stats.Ended]
// counts them. Nor are single tokens: the reader has them, Ended their number,
// and [Stats.TimeBetweenTokens] their times, while a call for each would
// be most of what an observer does.
//
// Times have a monotonic part.
type Observer struct {
	Queued     func(RequestQueued)
	Admitted   func(RequestAdmitted)
	FirstToken func(RequestFirstToken)
	Preempted  func(RequestPreempted)
	Ended      func(RequestEnded)
	Step       func(StepEnded)
}

// RequestQueued is told of a request that was let into the queue.
type RequestQueued struct {
	ID      uint64          // counts the model's requests, and names this one in what follows
	At      time.Time       // when Start or Score was called
	Context context.Context // that of the call, for what a caller hands to an observer, such as a span
	Tenant  string
	// Priority is that of the request.
	Priority     int
	PromptTokens int
	MaxTokens    int // that the answer may have, at most; 0 for a score
}

// RequestAdmitted is told when a request has got a place among those that run.
type RequestAdmitted struct {
	ID           uint64
	At           time.Time
	CachedTokens int // prompt tokens that it begins with; more may be found later
}

// RequestFirstToken is told when the first token of an answer was chosen.
type RequestFirstToken struct {
	ID uint64
	At time.Time
}

// RequestPreempted is told when a request had to give up its pages. It goes on
// later, without being admitted again.
type RequestPreempted struct {
	ID uint64
	At time.Time
}

// RequestEnded is told when the engine has let go of a request.
type RequestEnded struct {
	ID      uint64
	At      time.Time
	Outcome Outcome
	Err     error  // what the reader was given; nil for a good end
	Usage   Usage  // until then
	Timing  Timing // until then, 0 for what it hasn't come to
}

// StepEnded is told after each step.
type StepEnded struct {
	Number        int64 // of those that succeeded, this one included
	Began         time.Time
	Duration      time.Duration
	Decoding      int   // sequences that computed one token of their answers
	Prefilling    int   // sequences that computed tokens of their prompts
	PrefillTokens int   // that these computed together
	Err           error // why it gave no results; it was interrupted where nobody waited for any
}

// WithObserver lets o follow the requests and steps of the model. It may be
// given several times. Without it nothing is measured for it and nothing
// allocated.
//
// The functions are called one after the other, in the order of what happened,
// on a goroutine that the model keeps for o and that [Model.Close] waits for. The
// engine doesn't wait for them but where an observer is 256 calls behind. A panic
// in one, runtime.Goexit, or keeping the engine waiting for a second, or
// for a tenth of the time in the long run, or Close for a second, ends the observer: it is told nothing more, and the engine goes on;
// [Stats.ObserversDropped] counts it.
func WithObserver(o Observer) Option {
	return func(opts *options) error {
		opts.observers = append(opts.observers, o)
		return nil
	}
}

const (
	observerQueue    = 256
	observerPatience = time.Second
)

// listener hands to one observer what the loop tells.
type listener struct {
	observer Observer
	queue    chan observation
	done     chan struct{} // closed when its goroutine has ended
	patience time.Duration // for how long the loop waits for it altogether; a tenth of the time that passes comes back
	waited   time.Time     // when it last did
	gone     atomic.Bool   // it is told nothing more
	dropped  *atomic.Int64 // counts those that are gone before their time
}

// observation is a step, or whatever a request's function tells. Steps come all
// the time and must not be allocated.
type observation struct {
	step    StepEnded
	request func(*Observer)
}

func listen(o Observer, dropped *atomic.Int64) *listener {
	l := &listener{observer: o, queue: make(chan observation, observerQueue), done: make(chan struct{}), dropped: dropped}
	go l.loop()
	return l
}

func (l *listener) loop() {
	defer close(l.done)
	for ob := range l.queue {
		if l.gone.Load() || !l.call(&ob) {
			return
		}
	}
}

// call tells the observer. It comes back, or ends the goroutine, with the observer
// gone where that has failed.
func (l *listener) call(ob *observation) (ok bool) {
	defer func() {
		if !ok {
			_ = recover() // of nobody's concern but the observer's
			l.drop()
		}
	}()
	if ob.request != nil {
		ob.request(&l.observer)
	} else {
		l.observer.Step(ob.step)
	}
	return true
}

func (l *listener) drop() {
	if !l.gone.Swap(true) {
		l.dropped.Add(1)
	}
}

// tell queues an observation, and waits for room for as long as patience lasts: an
// observer that is always late must not set the engine's pace.
func (l *listener) tell(ob observation) {
	if l.gone.Load() {
		return
	}
	select {
	case l.queue <- ob:
		return
	default:
	}
	now := time.Now()
	left := observerPatience
	if !l.waited.IsZero() {
		left = min(left, l.patience+now.Sub(l.waited)/10)
	}
	t := time.NewTimer(left)
	defer t.Stop()
	select {
	case l.queue <- ob:
		l.waited = time.Now()
		l.patience = left - l.waited.Sub(now)
	case <-l.done:
	case <-t.C:
		l.drop()
	}
}

// end lets the observer hear what is left and waits for that.
func (l *listener) end() {
	close(l.queue)
	t := time.NewTimer(observerPatience)
	defer t.Stop()
	select {
	case <-l.done:
	case <-t.C:
		l.drop()
	}
}

func (e *engine) tell(ob observation) {
	for _, l := range e.listeners {
		l.tell(ob)
	}
}

func (e *engine) observed() bool { return len(e.listeners) > 0 }

func (e *engine) tellQueued(s *sequence) {
	if s.ctx == nil { // nobody observes, or it was told
		return
	}
	ev := RequestQueued{ID: s.id, At: s.started, Context: s.ctx, Tenant: s.Tenant, Priority: s.Priority, PromptTokens: len(s.prompt)}
	if s.score == nil {
		ev.MaxTokens = s.Limit - len(s.prompt)
	}
	s.ctx = nil
	e.tell(observation{request: func(o *Observer) {
		if o.Queued != nil {
			o.Queued(ev)
		}
	}})
}

// notice looks for requests that the scheduler has admitted or preempted.
func (e *engine) notice() {
	now := e.gathered
	for _, r := range e.sched.Running() {
		e.noticeAdmitted(owner(r), now)
	}
	if n := e.sched.Preemptions(); n != e.preemptions {
		e.preemptions = n
		for s := range e.live {
			for ; s.preempted < s.Preempted; s.preempted++ {
				e.noticeAdmitted(s, now) // it may have lost its place at once
				e.tellPreempted(s, now)
			}
		}
	}
}

func (e *engine) noticeAdmitted(s *sequence, now time.Time) {
	if s.admitted {
		return
	}
	s.admitted = true
	e.counts.lookedUp.Add(int64(min(s.From, len(s.prompt))))
	if !e.observed() {
		return
	}
	ev := RequestAdmitted{ID: s.id, At: now, CachedTokens: s.Cached}
	e.tell(observation{request: func(o *Observer) {
		if o.Admitted != nil {
			o.Admitted(ev)
		}
	}})
}

func (e *engine) tellFirstToken(s *sequence) {
	if !e.observed() {
		return
	}
	ev := RequestFirstToken{ID: s.id, At: s.firstToken}
	e.tell(observation{request: func(o *Observer) {
		if o.FirstToken != nil {
			o.FirstToken(ev)
		}
	}})
}

func (e *engine) tellPreempted(s *sequence, now time.Time) {
	if !e.observed() {
		return
	}
	ev := RequestPreempted{ID: s.id, At: now}
	e.tell(observation{request: func(o *Observer) {
		if o.Preempted != nil {
			o.Preempted(ev)
		}
	}})
}

func (e *engine) tellEnded(s *sequence, now time.Time, outcome Outcome, err error) {
	if !e.observed() {
		return
	}
	ev := RequestEnded{ID: s.id, At: now, Outcome: outcome, Err: err, Usage: s.usage(), Timing: s.timing()}
	e.tell(observation{request: func(o *Observer) {
		if o.Ended != nil {
			o.Ended(ev)
		}
	}})
}

// tellStep tells of the step that began at e.began, if it did.
func (e *engine) tellStep(now time.Time, err error) {
	if !e.observed() || e.began.IsZero() {
		return
	}
	decoding := len(e.step) - e.prefills
	ob := observation{step: StepEnded{
		Number: e.counts.steps.Load(), Began: e.began, Duration: now.Sub(e.began),
		Decoding: decoding, Prefilling: e.prefills, PrefillTokens: e.batch.Len() - decoding, Err: err,
	}}
	for _, l := range e.listeners {
		if l.observer.Step != nil { // nobody else is to be woken for each step
			l.tell(ob)
		}
	}
}

package runtime

import (
	"cmp"
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/internal/sampler"
	"github.com/dunlin-go/dunlin/internal/sched"
)

// sequence is one request from submission to its end. All but its stream
// belongs to the engine's loop once it was submitted.
type sequence struct {
	sched.Sequence

	id     uint64
	ctx    context.Context // until an observer has it
	writer *StreamWriter
	lease  *budget.Lease // what the request keeps in memory

	prompt   []int32
	firstRow int // of its logits, in the step that is being run

	maxTokens int // what the request said, for Limit
	Answer

	started, firstStep, firstToken, newest time.Time     // newest is that of the newest token
	gap                                    time.Duration // between the newest token and the one before it
	stalled                                time.Time     // since when its reader has left no room, zero if it has

	// What was told of it.
	admitted  bool
	preempted int
	heldUp    bool // by its reader, since the newest token

	score *scoreRun // set for Score: the prompt is evaluated and nothing generated
}

// scoreRun gathers what Score returns, for the positions of a prompt from a first one
// on.
type scoreRun struct {
	from, top int
	each      func(at int, logits []float32) // nil for none
	result    Score

	mu  sync.Mutex // held for err inside of a step
	err error      // of some position

	lending  sync.RWMutex // read-held by a call of each
	returned bool         // Score has, so there are no more calls
}

// end waits for calls of each; there are none after it.
func (r *scoreRun) end() {
	r.lending.Lock()
	r.returned = true
	r.lending.Unlock()
}

func (r *scoreRun) lend(at int, logits []float32) {
	if r.each == nil {
		return
	}
	r.lending.RLock()
	defer r.lending.RUnlock()
	if !r.returned {
		r.each(at, logits)
	}
}

// cacheSalt joins what keeps the prefixes of requests apart. A tenant and a
// salt never give what another pair gives.
func cacheSalt(tenant, salt string, private bool) string {
	if private {
		return strconv.Itoa(len(tenant)) + ":" + tenant + salt
	}
	return strings.Clone(salt) // pages keep it for longer than the request
}

// accept takes the chosen token into the answer.
func (s *sequence) accept(now time.Time) (Event, error) {
	ev, err := s.Accept(len(s.prompt)+s.generated+1 >= s.Limit) // MaxTokens is part of it
	if err != nil {
		return Event{}, err
	}
	if s.generated == 1 {
		s.firstToken = now
	}
	s.gap, s.newest = now.Sub(s.newest), now
	return ev, nil
}

// send gives the reader a token, and the end after the last one; ended says that it
// was. The stream has room for two events.
func (s *sequence) send(ev Event) (ended bool) {
	s.writer.TrySend(ev)
	if s.finish == 0 {
		return false
	}
	end := s.Finish()
	end.Usage, end.Timing = s.usage(), s.timing()
	s.writer.TrySend(end)
	return true
}

// usage is what it has taken so far.
func (s *sequence) usage() Usage {
	return Usage{PromptTokens: len(s.prompt), CompletionTokens: s.generated, CachedTokens: s.Cached}
}

// timing is where its time went so far.
func (s *sequence) timing() (t Timing) {
	if !s.firstStep.IsZero() {
		t.Queue = s.firstStep.Sub(s.started)
	}
	if s.generated > 0 {
		t.TimeToFirstToken, t.Prefill, t.Decode = s.firstToken.Sub(s.started), s.firstToken.Sub(s.firstStep), s.newest.Sub(s.firstToken)
	}
	return t
}

// outcome is how it ended, with the error that its reader was given.
func (s *sequence) outcome() (Outcome, error) {
	err := s.writer.Err()
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return OutcomeOf(err), err
	case s.score != nil:
		return OutcomeScored, nil
	case s.finish == FinishLength:
		return OutcomeLength, nil
	}
	return OutcomeStop, nil
}

// add takes the logits after the prompt's token number at. It is called inside of the
// step, for several positions at once. A panic is an error of this score only.
func (r *scoreRun) add(prompt []int32, at int, logits []float32) {
	if err := guarded(CodeInternal, func() error { return r.evaluate(prompt, at, logits) }); err != nil {
		r.mu.Lock()
		r.err = cmp.Or(r.err, err)
		r.mu.Unlock()
	}
}

func (r *scoreRun) evaluate(prompt []int32, at int, logits []float32) error {
	best, err := sampler.Argmax(logits)
	if err != nil {
		return NewError(CodeNumerics, err)
	}
	r.result.Argmax[at-r.from] = best
	r.lend(at, logits)
	if at+1 < len(prompt) {
		r.result.Logprobs[at-r.from] = float64(logits[prompt[at+1]]) - sampler.LogSumExp(logits)
		return nil
	}
	for _, c := range sampler.TopK(nil, logits, r.top) {
		r.result.Top = append(r.result.Top, TokenLogit{ID: c.ID, Logit: c.Logit})
	}
	return nil
}

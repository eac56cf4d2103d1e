package runtime

import (
	"strconv"
	"strings"
	"time"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/internal/sampler"
	"github.com/dunlin-go/dunlin/internal/sched"
	"github.com/dunlin-go/dunlin/tokenizer"
)

// sequence is one request from submission to its end. All but its stream
// belongs to the engine's loop once it was submitted.
type sequence struct {
	sched.Sequence

	stream *Stream
	writer *StreamWriter
	lease  *budget.Lease // what the request keeps in memory

	prompt   []int32
	firstRow int // of its logits, in the step that is being run

	maxTokens   int // what the request said, for Limit
	ignoreEOS   bool
	logprobs    bool
	topLogprobs int
	sampler     *sampler.Sampler
	stopper     sampler.Stopper
	decoder     *tokenizer.StreamDecoder
	generated   int
	chosen      Event // the token that the step has chosen
	chosenErr   error

	started, firstStep, firstToken time.Time
	stalled                        time.Time // since when its reader has left no room, zero if it has

	score *scoreRun // set for Score: the prompt is evaluated and nothing generated
}

// scoreRun gathers what Score returns.
type scoreRun struct {
	top    int
	result Score
}

// cacheSalt joins what keeps the prefixes of requests apart. A tenant and a
// salt never give what another pair gives.
func cacheSalt(tenant, salt string, private bool) string {
	if private {
		return strconv.Itoa(len(tenant)) + ":" + tenant + salt
	}
	return strings.Clone(salt) // pages keep it for longer than the request
}

// choose takes the logits after the newest token and chooses the next one. It is
// called inside of the step, for several sequences at once.
func (s *sequence) choose(logits []float32) {
	s.chosen = Event{Kind: EventToken}
	if s.chosen.Token, s.chosenErr = s.sampler.Next(logits); s.chosenErr == nil && s.logprobs {
		s.addLogprobs(&s.chosen, logits)
	}
}

// accept sends the chosen token. The stream has room for two events. ended is true
// when the answer is complete.
func (s *sequence) accept(tok *tokenizer.Tokenizer, now time.Time) (ended bool, err error) {
	if s.chosenErr != nil {
		return true, NewError(CodeNumerics, s.chosenErr)
	}
	ev := s.chosen
	id := ev.Token
	if s.generated == 0 {
		s.firstToken = now
	}
	s.generated++
	finish := FinishReason(0)
	if !s.ignoreEOS && tok.IsEndOfGeneration(id) {
		finish = FinishStop
	} else {
		var stopped bool
		if ev.Text, stopped = s.stopper.Push(s.decoder.Text(id)); stopped {
			finish = FinishStop
			s.decoder.Reset()
		} else if len(s.prompt)+s.generated >= s.Limit { // MaxTokens is part of it
			finish = FinishLength
		}
	}
	s.writer.TrySend(ev)
	if finish == 0 {
		return false, nil
	}
	s.writer.TrySend(Event{
		Kind: EventFinish, Text: s.rest(), Finish: finish,
		Usage: Usage{PromptTokens: len(s.prompt), CompletionTokens: s.generated, CachedTokens: s.Cached},
		Timing: Timing{
			Queue: s.firstStep.Sub(s.started), TimeToFirstToken: s.firstToken.Sub(s.started),
			Prefill: s.firstToken.Sub(s.firstStep), Decode: now.Sub(s.firstToken),
		},
	})
	return true, nil
}

// rest is the text that was held back, at the end of an answer.
func (s *sequence) rest() string {
	text, stopped := s.stopper.Push(string(s.decoder.Flush(nil)))
	if !stopped {
		text += s.stopper.Rest()
	}
	return text
}

func (s *sequence) addLogprobs(ev *Event, logits []float32) {
	total := sampler.LogSumExp(logits)
	ev.Logprob = float32(float64(logits[ev.Token]) - total)
	if s.topLogprobs > 0 {
		ev.TopLogprobs = make([]TokenLogprob, 0, s.topLogprobs)
	}
	for _, c := range sampler.TopK(nil, logits, s.topLogprobs) {
		ev.TopLogprobs = append(ev.TopLogprobs, TokenLogprob{ID: c.ID, Logprob: float32(float64(c.Logit) - total)})
	}
}

// add takes the logits after the prompt's token number at.
func (r *scoreRun) add(prompt []int32, at int, logits []float32) error {
	best, err := sampler.Argmax(logits)
	if err != nil {
		return NewError(CodeNumerics, err)
	}
	r.result.Argmax = append(r.result.Argmax, best)
	if at+1 < len(prompt) {
		r.result.Logprobs = append(r.result.Logprobs, float64(logits[prompt[at+1]])-sampler.LogSumExp(logits))
		return nil
	}
	for _, c := range sampler.TopK(nil, logits, r.top) {
		r.result.Top = append(r.result.Top, TokenLogit{ID: c.ID, Logit: c.Logit})
	}
	return nil
}

package runtime

import (
	"math/rand/v2"
	"slices"

	"github.com/dunlin-go/dunlin/internal/sampler"
)

// TokenText turns the tokens of one answer into text, as they come.
type TokenText interface {
	// Text is what has become certain with one more token: valid UTF-8.
	Text(id int32) string
	// Flush appends what was held back, which no token follows.
	Flush(dst []byte) []byte
	// Reset forgets what was held back.
	Reset()
}

// Answer makes the events of one answer out of logits: it samples, decodes, looks for
// stop strings and counts. It is for generators that compute the logits: the native
// engine and the bridge answer alike because both use it. It has one user at a time.
type Answer struct {
	text TokenText
	ends func(id int32) bool // the model's end-of-generation tokens

	ignoreEOS   bool
	logprobs    bool
	topLogprobs int
	sampler     *sampler.Sampler
	stopper     sampler.Stopper

	generated int
	finish    FinishReason
	chosen    Event
	chosenErr error
}

// NewAnswer begins the answer to a valid request.
func NewAnswer(req *Request, text TokenText, ends func(id int32) bool) *Answer {
	a := newAnswer(req, text, ends)
	return &a
}

func newAnswer(req *Request, text TokenText, ends func(id int32) bool) Answer {
	return Answer{
		text: text, ends: ends, ignoreEOS: req.IgnoreEOS, logprobs: req.Logprobs, topLogprobs: req.TopLogprobs,
		sampler: sampler.New(samplerConfig(req)), stopper: sampler.NewStopper(slices.Clone(req.Stop)),
	}
}

// samplerConfig draws a seed where the request has none.
func samplerConfig(req *Request) sampler.Config {
	cfg := sampler.Config{Temperature: req.Temperature, TopK: req.TopK, TopP: req.TopP}
	if req.Seed != nil {
		cfg.Seed = *req.Seed
	} else {
		cfg.Seed = rand.Uint64()
	}
	return cfg
}

// AnswerBytes is the memory that the answer to a request comes to hold, where the
// logits have so many elements.
func AnswerBytes(req *Request, vocabulary int) int64 { return samplerConfig(req).Bytes(vocabulary) }

// Choose takes the logits after the newest token and chooses the next one. It looks
// at them during the call only.
func (a *Answer) Choose(logits []float32) {
	a.chosen = Event{Kind: EventToken}
	if a.chosen.Token, a.chosenErr = a.sampler.Next(logits); a.chosenErr == nil && a.logprobs {
		a.addLogprobs(&a.chosen, logits)
	}
}

// Accept takes the chosen token into the answer and gives its event. last says that
// there is no room for another one. An error has [CodeNumerics]: the logits were
// not finite numbers.
func (a *Answer) Accept(last bool) (Event, error) {
	if a.chosenErr != nil {
		return Event{}, NewError(CodeNumerics, a.chosenErr)
	}
	ev := a.chosen
	a.generated++
	if !a.ignoreEOS && a.ends(ev.Token) {
		a.finish = FinishStop
		return ev, nil
	}
	var stopped bool
	if ev.Text, stopped = a.stopper.Push(a.text.Text(ev.Token)); stopped {
		a.finish = FinishStop
		a.text.Reset()
	} else if last {
		a.finish = FinishLength
	}
	return ev, nil
}

// Finished is why the answer has ended, 0 where it goes on.
func (a *Answer) Finished() FinishReason { return a.finish }

// Generated is the number of tokens so far.
func (a *Answer) Generated() int { return a.generated }

// Token is the newest token.
func (a *Answer) Token() int32 { return a.chosen.Token }

// Finish is the last event, with the text that was held back. The caller sets its
// timing and what it knows of the usage besides the generated tokens.
func (a *Answer) Finish() Event {
	return Event{Kind: EventFinish, Text: a.rest(), Finish: a.finish, Usage: Usage{CompletionTokens: a.generated}}
}

// rest is the text that was held back, at the end of an answer.
func (a *Answer) rest() string {
	text, stopped := a.stopper.Push(string(a.text.Flush(nil)))
	if !stopped {
		text += a.stopper.Rest()
	}
	return text
}

func (a *Answer) addLogprobs(ev *Event, logits []float32) {
	total := sampler.LogSumExp(logits)
	ev.Logprob = float32(float64(logits[ev.Token]) - total)
	if a.topLogprobs > 0 {
		ev.TopLogprobs = make([]TokenLogprob, 0, a.topLogprobs)
	}
	for _, c := range sampler.TopK(nil, logits, a.topLogprobs) {
		ev.TopLogprobs = append(ev.TopLogprobs, TokenLogprob{ID: c.ID, Logprob: float32(float64(c.Logit) - total)})
	}
}

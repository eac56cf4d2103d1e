package runtime

import (
	"fmt"
	"time"
)

// EventKind says what an [Event] reports.
type EventKind uint8

// The kinds of events, in the order in which a stream has them: any number of
// progress reports, then tokens, then one finish. Heartbeats may come between any
// two, where they were asked for.
const (
	EventProgress  EventKind = iota + 1 // Progress is set
	EventToken                          // Token, Text and, where asked for, the logprobs are set
	EventFinish                         // Text (what was held back), Finish, Usage and Timing are set
	EventHeartbeat                      // nothing happened; see [WithHeartbeat]
)

// Event is one thing that happened to a request.
type Event struct {
	Kind     EventKind
	Choice   int      // which of several answers; always 0 for one answer
	Progress Progress // how far the request is before its first token

	Token int32 // the token that was chosen
	// Text is what became sayable with this event: whole UTF-8 sequences that
	// can't be the beginning of a stop string. It may be empty.
	Text        string
	Logprob     float32        // natural log-probability of Token
	TopLogprobs []TokenLogprob // the likeliest tokens at this place

	Finish FinishReason
	Usage  Usage
	Timing Timing
}

// TokenLogprob is a token and its natural log-probability.
type TokenLogprob struct {
	ID      int32
	Logprob float32
}

// Stage is where a request stands before its first token.
type Stage uint8

// The stages of a request.
const (
	StageQueue   Stage = iota // waiting for room
	StagePrefill              // the prompt is being computed
)

// Progress tells how far a request is before its first token.
type Progress struct {
	Stage Stage
	Done  int // prompt tokens computed
	Total int // prompt tokens in all
}

// FinishReason says why an answer ended.
type FinishReason uint8

// The reasons, with OpenAI's names as their text.
const (
	FinishStop   FinishReason = iota + 1 // the model ended it, or a stop string did
	FinishLength                         // MaxTokens or the context's end was reached
)

// String is the reason's name in OpenAI's API.
func (f FinishReason) String() string {
	switch f {
	case FinishStop:
		return "stop"
	case FinishLength:
		return "length"
	}
	return fmt.Sprintf("reason %d", uint8(f))
}

// Usage counts tokens.
type Usage struct {
	PromptTokens     int
	CompletionTokens int // end-of-generation tokens included
	CachedTokens     int // prompt tokens that did not have to be computed
}

// Timing is where a request's time went, as the generator saw it.
type Timing struct {
	Queue            time.Duration // from Start to the first step
	TimeToFirstToken time.Duration // from Start to the first token
	Prefill          time.Duration // from the first step to the first token
	Decode           time.Duration // from the first token to the last
}

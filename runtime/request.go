package runtime

import (
	"math"
	"strconv"
)

// Message is one turn of a conversation.
type Message struct {
	Role    string // "system", "user", "assistant", or what the template knows
	Content string
}

// Request says what to generate. Exactly one of Messages, Prompt and Tokens is
// set. The zero value of every other field is its default.
type Request struct {
	Messages []Message // rendered with the model's chat template
	Prompt   string    // text taken as it is, special tokens parsed, BOS added where the model asks for it
	Tokens   []int32   // token ids taken as they are

	// MaxTokens bounds the answer. 0 means as many as the context has room for.
	MaxTokens int
	// Stop ends the answer before the first of these strings appears in it.
	// At most 16 of up to 256 bytes.
	Stop []string
	// IgnoreEOS goes on past the model's end-of-generation tokens.
	IgnoreEOS bool

	// Temperature divides the logits: 0 (the default) is greedy decoding, 1
	// the model's own distribution. At most 100.
	Temperature float64
	// TopK samples from the K likeliest tokens; 0 from all of them.
	TopK int
	// TopP samples from the smallest set of likeliest tokens whose
	// probabilities reach P, in (0, 1]; 0 means 1, all of them.
	TopP float64
	// Seed makes sampling repeatable, whatever else runs at the same time;
	// nil draws a new one.
	Seed *uint64

	// Priority puts the request before all that wait with a lower one; where
	// there is no room they are even taken out of their places and computed
	// anew later. Any number, 0 by default. It is strict: as long as requests
	// of a higher priority come, lower ones wait.
	Priority int
	// Tenant names on whose behalf the request is made, in at most 64 bytes.
	// Tenants that wait share what is computed by their weights; see
	// [WithTenantWeight] and [WithPrivatePrefixes].
	Tenant string
	// CacheSalt keeps the request's computed prompt apart: only requests of
	// the same salt can start from it, so that none of the others can tell by its
	// time to first token what this one asked. At most 64 bytes.
	CacheSalt string

	// Logprobs asks for each token's log-probability.
	Logprobs bool
	// TopLogprobs asks for that many alternatives at each token, at most 20.
	// It needs Logprobs.
	TopLogprobs int
}

// Bounds of the fields of requests and scores.
const (
	maxStops       = 16
	maxStopBytes   = 256
	maxTemperature = 100
	maxTopLogprobs = 20
	maxMessages    = 65536
	maxTenantBytes = 64
	maxSaltBytes   = 64
	maxScoreTop    = 1000
)

// Validate reports the first field that can't be used, as an [*Error] with
// [CodeInvalidRequest]. Generators call it; it needs no model.
func (r *Request) Validate() error {
	given := 0
	for _, set := range []bool{len(r.Messages) > 0, r.Prompt != "", len(r.Tokens) > 0} {
		if set {
			given++
		}
	}
	switch {
	case given == 0:
		return invalid("messages", "the request is empty: set Messages, Prompt or Tokens")
	case given > 1:
		return invalid("messages", "only one of Messages, Prompt and Tokens may be set")
	case len(r.Messages) > maxMessages:
		return invalid("messages", "%d messages are more than %d", len(r.Messages), maxMessages)
	case r.MaxTokens < 0:
		return invalid("max_tokens", "max tokens is %d, it can't be negative", r.MaxTokens)
	case len(r.Stop) > maxStops:
		return invalid("stop", "%d stop strings are more than %d", len(r.Stop), maxStops)
	case !(r.Temperature >= 0 && r.Temperature <= maxTemperature): // NaN fails too
		return invalid("temperature", "temperature is %s, it must lie in [0, %d]", number(r.Temperature), maxTemperature)
	case r.TopK < 0:
		return invalid("top_k", "top-k is %d, it can't be negative", r.TopK)
	case !(r.TopP >= 0 && r.TopP <= 1):
		return invalid("top_p", "top-p is %s, it must lie in [0, 1]", number(r.TopP))
	case r.TopLogprobs < 0 || r.TopLogprobs > maxTopLogprobs:
		return invalid("top_logprobs", "top logprobs is %d, it must lie in [0, %d]", r.TopLogprobs, maxTopLogprobs)
	case r.TopLogprobs > 0 && !r.Logprobs:
		return invalid("top_logprobs", "top logprobs needs logprobs")
	}
	for i, s := range r.Stop {
		if s == "" || len(s) > maxStopBytes {
			return invalid("stop", "stop string %d has %d bytes, it must have 1 to %d", i, len(s), maxStopBytes)
		}
	}
	for i, m := range r.Messages {
		if m.Role == "" {
			return invalid("messages", "message %d has no role", i)
		}
	}
	return validScheduling(r.Tenant, r.CacheSalt)
}

// Validate reports the first option that can't be used for so many tokens, as an [*Error]
// with [CodeInvalidRequest]. Scorers call it; it needs no model.
func (o *ScoreOptions) Validate(tokens int) error {
	switch {
	case tokens == 0:
		return invalid("tokens", "there are no tokens to score")
	case o.Top < 0 || o.Top > maxScoreTop:
		return invalid("top", "top is %d, it must lie in [0, %d]", o.Top, maxScoreTop)
	case o.From < 0 || o.From >= tokens:
		return invalid("from", "from is %d, it must lie in [0, %d]", o.From, tokens-1)
	}
	return validScheduling(o.Tenant, o.CacheSalt)
}

func validScheduling(tenant, salt string) error {
	switch {
	case len(tenant) > maxTenantBytes:
		return invalid("tenant", "the tenant has %d bytes, it may have %d", len(tenant), maxTenantBytes)
	case len(salt) > maxSaltBytes:
		return invalid("cache_salt", "the cache salt has %d bytes, it may have %d", len(salt), maxSaltBytes)
	}
	return nil
}

func number(f float64) string {
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return strconv.FormatFloat(f, 'g', -1, 64)
	}
	return strconv.FormatFloat(f, 'g', 6, 64)
}

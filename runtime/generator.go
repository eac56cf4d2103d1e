package runtime

import "context"

// Generator is anything that generates text: a native model, a bridge, a
// remote endpoint, a router. Each can stand where another does, and one
// conformance suite (runtime/runtimetest) holds them to the same behaviour.
// Implementations are safe for concurrent use.
type Generator interface {
	// Info describes the model behind the generator.
	Info() Info
	// Start checks the request, queues it and returns its stream. An error
	// is about the request or the generator's state, and nothing runs then.
	// When ctx ends the stream ends with it, also in the middle of a prefill.
	// A stream must be read to its end or closed, or its context ended: until
	// then it keeps its place.
	Start(ctx context.Context, req Request) (*Stream, error)
}

// Info describes a generator's model. Zero values mean that it isn't known.
type Info struct {
	ID            string // what a request names it by, such as a file's stem
	Name          string // what the model calls itself
	Architecture  string // as GGUF names it, such as "llama"
	Quantization  string // the weight format most of the parameters have, such as "Q4_1"
	Parameters    int64  // number of weights
	FileBytes     int64  // size of the model's file
	ContextLength int    // most tokens of prompt and answer together
	Vocabulary    int    // number of token ids
}

// Unwrapper is implemented by generators that stand in front of another one.
type Unwrapper interface{ Unwrap() Generator }

// As finds an optional capability, an interface type such as [Tokenizer],
// [Templater] or [Scorer], in g or in what g wraps.
func As[T any](g Generator) (T, bool) {
	for g != nil {
		if t, ok := g.(T); ok {
			return t, true
		}
		u, ok := g.(Unwrapper)
		if !ok {
			break
		}
		g = u.Unwrap()
	}
	var none T
	return none, false
}

// TokenizeOptions say how text becomes tokens.
type TokenizeOptions struct {
	AddSpecial   bool // add the BOS and EOS tokens that the model asks for
	ParseSpecial bool // read the text of special tokens as those tokens
}

// Tokenizer is the capability to turn text into token ids and back.
type Tokenizer interface {
	// Tokenize returns the ids of text, every byte of it accounted for.
	Tokenize(ctx context.Context, text string, opt TokenizeOptions) ([]int32, error)
	// TokenBytes is the text of one token, which may be part of a UTF-8
	// sequence; special tokens give their names. Unknown ids give nil.
	TokenBytes(id int32) []byte
}

// Templater is the capability to render messages with the model's own chat
// template.
type Templater interface {
	// ApplyTemplate returns the prompt text for the messages. With
	// generationPrompt it ends where the assistant's answer begins.
	ApplyTemplate(ctx context.Context, messages []Message, generationPrompt bool) (string, error)
}

// ScoreOptions say what a [Scorer] returns.
type ScoreOptions struct {
	Top int // how many of the last position's highest logits to return, at most 1000
	// From is the index of the first token after which logits are computed, in
	// [0, number of tokens). Those before it are context only and cost no
	// output head, and may come from the cache of prefixes. 0, the default,
	// scores all.
	From int
	// Each, if it isn't nil, is given the logits after each token from From on, by the
	// token's index. The slice is lent for the call. Calls come in any order and
	// from several goroutines at once, within the generator's step, and none
	// comes or goes on after Score has returned: they are to be quick. A panic in
	// one is an error of this Score.
	Each func(at int, logits []float32)

	// Priority, Tenant and CacheSalt are those of a [Request].
	Priority  int
	Tenant    string
	CacheSalt string
}

// TokenLogit is a token and its logit, the model's unnormalised log-probability.
type TokenLogit struct {
	ID    int32
	Logit float32
}

// Score is what a model thinks of a given text.
type Score struct {
	// Logprobs has, for each token after [ScoreOptions.From], its natural
	// log-probability given all tokens before it: one less than Argmax.
	Logprobs []float64
	// Argmax has, for each token from [ScoreOptions.From] on, the likeliest
	// token after it.
	Argmax []int32
	// Top has the highest logits after the last token, highest first.
	Top []TokenLogit
}

// Scorer is the capability to compute logits for given tokens.
type Scorer interface {
	// Score evaluates the tokens, which must be at least one and fit the
	// context. They are taken as they are, without a BOS before them, and the
	// result depends on no earlier call. Ids without a token, with which models pad
	// their vocabulary, can be context but not be scored. Logits are computed a few
	// positions at a time, so that memory grows with the tokens alone.
	Score(ctx context.Context, tokens []int32, opt ScoreOptions) (*Score, error)
}

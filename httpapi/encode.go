package httpapi

import (
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/dunlin-go/dunlin/runtime"
)

// surface is one of the two kinds of completions.
type surface struct {
	fields    *fields
	input     string // the field that has the prompt
	maxTokens int    // OpenAI's default where the request has none
	idPrefix  string
	object    string // of a whole answer
	chunk     string // of an event
	chat      bool
}

var (
	chat = surface{
		fields: chatFields, input: "messages", idPrefix: "chatcmpl-",
		object: "chat.completion", chunk: "chat.completion.chunk", chat: true,
	}
	legacy = surface{
		fields: legacyFields, input: "prompt", maxTokens: 16, idPrefix: "cmpl-",
		object: "text_completion", chunk: "text_completion",
	}
)

// appendHead begins the object of an answer or of one event, up to its choices.
func (r *reply) appendHead(b []byte, object string) []byte {
	b = append(append(append(b, `{"id":"`...), r.surface.idPrefix...), r.id...)
	b = append(append(b, `","object":"`...), object...)
	b = appendInt(append(b, `","created":`...), r.created)
	b = appendString(append(b, `,"model":`...), r.model.id)
	return append(b, `,"choices":[`...)
}

// appendEvent turns an event into the frames of the stream that tell it.
func (r *reply) appendEvent(b []byte, ev *runtime.Event) []byte {
	if ev.Kind == runtime.EventProgress || ev.Kind == runtime.EventHeartbeat {
		return b
	}
	if r.surface.chat && !r.greeted {
		r.greeted = true
		b = r.appendFrame(b, func(b []byte) []byte {
			return append(b, `{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}`...)
		})
	}
	logprobs := ev.Kind == runtime.EventToken && r.req.gen.Logprobs
	if ev.Text != "" || logprobs {
		b = r.appendFrame(b, func(b []byte) []byte {
			b = appendInt(append(b, `{"index":`...), int64(ev.Choice))
			if r.surface.chat {
				b = append(appendString(append(b, `,"delta":{"content":`...), ev.Text), '}')
			} else {
				b = appendString(append(b, `,"text":`...), ev.Text)
			}
			b = append(b, `,"logprobs":`...)
			if logprobs {
				b = append(r.appendLogprob(append(b, `{"content":[`...), ev), `],"refusal":null}`...)
			} else {
				b = append(b, "null"...)
			}
			return append(b, `,"finish_reason":null}`...)
		})
	}
	if ev.Kind != runtime.EventFinish {
		return b
	}
	r.finished = true
	b = r.appendFrame(b, func(b []byte) []byte {
		b = appendInt(append(b, `{"index":`...), int64(ev.Choice))
		if r.surface.chat {
			b = append(b, `,"delta":{}`...)
		} else {
			b = append(b, `,"text":""`...)
		}
		b = append(b, `,"logprobs":null,"finish_reason":`...)
		return append(appendString(b, ev.Finish.String()), '}')
	})
	if r.req.usage { // comes in an event of its own, without choices
		b = append(append(b, "data: "...), r.head...)
		b = append(appendUsage(append(b, `],"usage":`...), ev.Usage), "}\n\n"...)
	}
	return append(b, "data: [DONE]\n\n"...)
}

// appendFrame puts what choice appends into an event of the stream.
func (r *reply) appendFrame(b []byte, choice func([]byte) []byte) []byte {
	b = choice(append(append(b, "data: "...), r.head...))
	if r.req.usage {
		return append(b, "],\"usage\":null}\n\n"...)
	}
	return append(b, "]}\n\n"...)
}

func appendUsage(b []byte, u runtime.Usage) []byte {
	b = appendInt(append(b, `{"prompt_tokens":`...), int64(u.PromptTokens))
	b = appendInt(append(b, `,"completion_tokens":`...), int64(u.CompletionTokens))
	b = appendInt(append(b, `,"total_tokens":`...), int64(u.PromptTokens)+int64(u.CompletionTokens))
	b = appendInt(append(b, `,"prompt_tokens_details":{"cached_tokens":`...), int64(u.CachedTokens))
	return append(b, "}}"...)
}

// appendLogprob appends one element of logprobs.content.
func (r *reply) appendLogprob(b []byte, ev *runtime.Event) []byte {
	b = r.appendToken(b, ev.Token, ev.Logprob)
	b = append(b, `,"top_logprobs":[`...)
	for i, alt := range ev.TopLogprobs {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(r.appendToken(b, alt.ID, alt.Logprob), '}')
	}
	return append(b, "]}"...)
}

// appendToken begins an object for a token. A token that is part of a UTF-8
// sequence is told exactly only by its bytes.
func (r *reply) appendToken(b []byte, id int32, logprob float32) []byte {
	text := r.model.tokens.TokenBytes(id)
	b = appendString(append(b, `{"token":`...), text)
	b = append(b, `,"logprob":`...)
	if lp := float64(logprob); math.IsNaN(lp) || lp < -9999 {
		b = append(b, "-9999.0"...) // OpenAI's number for what can't be said in JSON
	} else {
		b = strconv.AppendFloat(b, lp, 'g', -1, 32)
	}
	b = append(b, `,"bytes":[`...)
	for i, c := range text {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendInt(b, int64(c))
	}
	return append(b, ']')
}

func appendInt(b []byte, n int64) []byte { return strconv.AppendInt(b, n, 10) }

// appendString appends s as a JSON string.
func appendString[T string | []byte](b []byte, s T) []byte {
	return append(appendEscaped(append(b, '"'), s), '"')
}

// appendEscaped appends the inside of a JSON string. Only what JSON demands is
// escaped; bytes that aren't UTF-8 become U+FFFD.
func appendEscaped[T string | []byte](b []byte, s T) []byte {
	const hex = "0123456789abcdef"
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c >= utf8.RuneSelf:
			r, size := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
			if r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
			b = append(append(b, s[from:i]...), "\ufffd"...)
		case c == '"' || c == '\\':
			b = append(append(b, s[from:i]...), '\\', c)
		case c >= ' ':
			i++
			continue
		case c == '\n':
			b = append(append(b, s[from:i]...), '\\', 'n')
		case c == '\t':
			b = append(append(b, s[from:i]...), '\\', 't')
		case c == '\r':
			b = append(append(b, s[from:i]...), '\\', 'r')
		default:
			b = append(append(b, s[from:i]...), '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i++
		from = i
	}
	return append(b, s[from:]...)
}

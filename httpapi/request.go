package httpapi

import (
	"maps"
	"math"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/dunlin-go/dunlin/runtime"
)

// request is a parsed body.
type request struct {
	api     *API
	model   string
	gen     runtime.Request
	stream  bool
	usage   bool // stream_options.include_usage
	options bool // stream_options is there

	maxTokens, maxCompletion int             // 0 where it isn't there
	message                  runtime.Message // the one that is being read
	hasContent               bool
	part                     struct{ kind, text string } // the one that is being read

	priority  int // the lower, the earlier
	cacheSalt string
}

// parse reads a body. OpenAI's defaults differ from runtime's: an absent
// temperature is 1.
func (a *API) parse(s *surface, body string) (*request, *apiError) {
	obj, e := parseObject(body)
	if e != nil {
		return nil, e
	}
	r := &request{api: a, gen: runtime.Request{Temperature: 1}}
	f := s.fields.read(r, obj, a.ignoreUnknown)
	if f == nil {
		f = r.settle(s)
	}
	if f != nil {
		return nil, f.apiError()
	}
	return r, nil
}

// settle checks what concerns several fields.
func (r *request) settle(s *surface) *fault {
	if r.options && !r.stream {
		return &fault{code: codeValue, param: "stream_options", why: "it is only allowed when stream is true"}
	}
	if r.maxTokens > 0 && r.maxCompletion > 0 {
		return &fault{code: codeValue, param: "max_tokens", why: "it can't be set together with max_completion_tokens"}
	}
	r.gen.MaxTokens = max(r.maxTokens, r.maxCompletion)
	if r.gen.MaxTokens == 0 {
		r.gen.MaxTokens = s.maxTokens
	}
	if len(r.gen.Messages) == 0 && r.gen.Prompt == "" && len(r.gen.Tokens) == 0 {
		return &fault{code: codeMissing, param: s.input, why: "it is absent or empty"}
	}
	return nil
}

// common are the fields that both kinds of completions have.
var common = map[string]setter{
	"model":       func(r *request, v gjson.Result) *fault { return toString(v, &r.model) },
	"max_tokens":  func(r *request, v gjson.Result) *fault { return toInt(v, 1, &r.maxTokens) },
	"temperature": func(r *request, v gjson.Result) *fault { return toFloat(v, &r.gen.Temperature) },
	"top_p":       setTopP,
	"top_k":       func(r *request, v gjson.Result) *fault { return toInt(v, 0, &r.gen.TopK) },
	"seed":        setSeed,
	"stop":        setStop,
	"ignore_eos":  func(r *request, v gjson.Result) *fault { return toBool(v, &r.gen.IgnoreEOS) },
	"stream":      func(r *request, v gjson.Result) *fault { return toBool(v, &r.stream) },
	"stream_options": func(r *request, v gjson.Result) *fault {
		r.options = true
		return nested(r, v, streamOptions)
	},
	"user":       ignored("a string", isString),
	"priority":   setPriority,
	"cache_salt": setCacheSalt,

	"n":                 only("one answer is given", isOne),
	"logit_bias":        only("the logits are taken as they are", isEmpty),
	"presence_penalty":  only("there are no penalties", isZero),
	"frequency_penalty": only("there are no penalties", isZero),
}

var streamOptions = newFields(map[string]setter{
	"include_usage":       func(r *request, v gjson.Result) *fault { return toBool(v, &r.usage) },
	"include_obfuscation": only("events are not padded", isFalse),
})

var chatFields = newFields(with(common, map[string]setter{
	"messages":              setMessages,
	"max_completion_tokens": func(r *request, v gjson.Result) *fault { return toInt(v, 1, &r.maxCompletion) },
	"logprobs":              func(r *request, v gjson.Result) *fault { return toBool(v, &r.gen.Logprobs) },
	"top_logprobs":          func(r *request, v gjson.Result) *fault { return toInt(v, 0, &r.gen.TopLogprobs) },

	"metadata":               ignored("an object", isObject),
	"safety_identifier":      ignored("a string", isString),
	"prompt_cache_key":       ignored("a string", isString),
	"prompt_cache_retention": ignored("a string", isString),
	"parallel_tool_calls":    ignored("a boolean", isBool),

	"store":              only("nothing is stored", isFalse),
	"service_tier":       only("there is one tier", isText("auto", "default")),
	"modalities":         only("answers are text", isTextModality),
	"response_format":    only("answers are text", isTextFormat),
	"reasoning_effort":   only("the model's reasoning isn't controlled", isText("none")),
	"verbosity":          only("the model's verbosity isn't controlled", isText("medium")),
	"tools":              only("tools can't be called", isEmpty),
	"tool_choice":        only("tools can't be called", isText("none")),
	"functions":          only("functions can't be called", isEmpty),
	"function_call":      only("functions can't be called", isText("none")),
	"audio":              refused("answers are text"),
	"prediction":         refused("predictions are not used"),
	"web_search_options": refused("there is no web search"),
	"moderation":         refused("there is no moderation"),
}))

var legacyFields = newFields(with(common, map[string]setter{
	"prompt":   setPrompt,
	"echo":     only("the prompt isn't repeated", isFalse),
	"best_of":  only("one answer is given", isOne),
	"suffix":   only("nothing is filled in", isText("")),
	"logprobs": refused("use chat completions for log-probabilities"),
}))

var messageFields = newFields(map[string]setter{
	"role":          setRole,
	"content":       setContent,
	"name":          refused("names are not rendered"),
	"tool_calls":    only("tools can't be called", isEmpty),
	"tool_call_id":  refused("tools can't be called"),
	"function_call": refused("functions can't be called"),
	"audio":         refused("messages are text"),
	"refusal":       refused("refusals are not rendered"),
	"annotations":   only("annotations are not rendered", isEmpty),
})

var partFields = newFields(map[string]setter{
	"type":                    func(r *request, v gjson.Result) *fault { return toString(v, &r.part.kind) },
	"text":                    func(r *request, v gjson.Result) *fault { return toString(v, &r.part.text) },
	"prompt_cache_breakpoint": refused("prompts are cached without being told"),
	"image_url":               refused("messages are text"),
	"input_audio":             refused("messages are text"),
	"file":                    refused("messages are text"),
	"refusal":                 refused("refusals are not rendered"),
})

func with(a, b map[string]setter) map[string]setter {
	a = maps.Clone(a)
	maps.Copy(a, b)
	return a
}

// nested reads an object inside the request. Unknown fields of it are refused
// whatever the options say: a message must not lose a part.
func nested(r *request, v gjson.Result, f *fields) *fault {
	bad := f.read(r, v, false)
	if bad != nil && bad.param != "" {
		bad.param = "." + bad.param
	}
	return bad
}

// setTopP reads top_p. 0, which runtime takes for the default, means the
// smallest set there is.
func setTopP(r *request, v gjson.Result) *fault {
	bad := toFloat(v, &r.gen.TopP)
	if bad == nil && r.gen.TopP == 0 {
		r.gen.TopP = 1e-9
	}
	return bad
}

// setSeed reads any integer of 64 bits, signed or not.
func setSeed(r *request, v gjson.Result) *fault {
	if v.Type != gjson.Number {
		return wrongType("an integer", v)
	}
	seed, err := strconv.ParseUint(v.Raw, 10, 64)
	if err != nil {
		signed, err := strconv.ParseInt(v.Raw, 10, 64)
		if err != nil {
			return wrongValue("it must be an integer of 64 bits")
		}
		seed = uint64(signed)
	}
	r.gen.Seed = &seed
	return nil
}

// maxStops is the most that generators take, told before a body of some millions is
// a list.
const maxStops = 16

func setStop(r *request, v gjson.Result) *fault {
	if v.Type == gjson.String {
		r.gen.Stop = []string{v.Str}
		return nil
	}
	if !v.IsArray() {
		return wrongType("a string or an array", v)
	}
	if n := v.Get("#").Int(); n > maxStops {
		return wrongValue("%d stop strings are more than %d", n, maxStops)
	}
	return each(v, func(_ int, v gjson.Result) *fault {
		var s string
		bad := toString(v, &s)
		r.gen.Stop = append(r.gen.Stop, s)
		return bad
	})
}

func setMessages(r *request, v gjson.Result) *fault {
	if !v.IsArray() {
		return wrongType("an array", v)
	}
	return each(v, func(_ int, v gjson.Result) *fault {
		r.message, r.hasContent = runtime.Message{}, false
		if bad := nested(r, v, messageFields); bad != nil {
			return bad
		}
		if r.message.Role == "" {
			return &fault{code: codeMissing, param: ".role"}
		}
		if !r.hasContent && r.message.Role != "assistant" { // an assistant's may be null
			return &fault{code: codeMissing, param: ".content"}
		}
		r.gen.Messages = append(r.gen.Messages, r.message)
		return nil
	})
}

func setRole(r *request, v gjson.Result) *fault {
	if bad := toString(v, &r.message.Role); bad != nil {
		return bad
	}
	switch r.message.Role {
	case "system", "user", "assistant":
	case "developer": // OpenAI's later name; templates know the earlier one
		r.message.Role = "system"
	case "tool", "function":
		return &fault{code: codeUnsupported, why: "tools can't be called"}
	default:
		return wrongValue("'%s' is not a role", shorten(r.message.Role))
	}
	return nil
}

func setContent(r *request, v gjson.Result) *fault {
	r.hasContent = true
	if v.Type == gjson.String {
		r.message.Content = v.Str
		return nil
	}
	if !v.IsArray() {
		return wrongType("a string or an array", v)
	}
	var texts []string
	bad := each(v, func(_ int, v gjson.Result) *fault {
		if kind := v.Get("type"); kind.Type == gjson.String && kind.Str != "text" {
			return &fault{code: codeUnsupported, why: "parts of type '" + shorten(kind.Str) + "' can't be read"}
		}
		r.part.kind, r.part.text = "", ""
		if bad := nested(r, v, partFields); bad != nil {
			return bad
		}
		if r.part.kind == "" {
			return &fault{code: codeMissing, param: ".type"}
		}
		texts = append(texts, r.part.text)
		return nil
	})
	r.message.Content = strings.Join(texts, "")
	return bad
}

// setPrompt reads a prompt: a text, token ids, or an array of one of these.
func setPrompt(r *request, v gjson.Result) *fault {
	switch {
	case v.Type == gjson.String:
		r.gen.Prompt = v.Str
		return nil
	case !v.IsArray():
		return wrongType("a string or an array", v)
	}
	ids := false // the first element tells what it is an array of
	return each(v, func(i int, v gjson.Result) *fault {
		if i == 0 {
			ids = v.Type == gjson.Number
		}
		if !ids {
			if i > 0 {
				return &fault{code: codeUnsupported, why: "one prompt is answered"}
			}
			return setPrompt(r, v)
		}
		id, err := strconv.ParseInt(v.Raw, 10, 64)
		if err != nil || id < 0 || id > math.MaxInt32 {
			return wrongValue("it must be a token id")
		}
		r.gen.Tokens = append(r.gen.Tokens, int32(id))
		return nil
	})
}

// isTextFormat accepts the response_format that is the default.
func isTextFormat(v gjson.Result) bool {
	only := v.IsObject()
	v.ForEach(func(key, v gjson.Result) bool {
		only = only && key.Str == "type" && isText("text")(v)
		return only
	})
	return only
}

func isTextModality(v gjson.Result) bool {
	only := v.IsArray()
	v.ForEach(func(_, v gjson.Result) bool {
		only = only && isText("text")(v)
		return only
	})
	return only
}

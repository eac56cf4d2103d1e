// Package httpapi puts generators behind OpenAI's HTTP API, on the Gin engine
// that an application already has.
//
// # Basics
//
// [New] takes generators and [API.Mount] adds the routes to an engine or to a
// group of it:
//
//	api := httpapi.New(model)
//	api.Mount(engine.Group("/llm", auth)) // POST /llm/v1/chat/completions, ...
//
// The routes are
//
//	POST /v1/chat/completions
//	POST /v1/completions
//	GET  /v1/models
//	GET  /v1/models/{id}
//	GET  /healthz   the process answers
//	GET  /readyz    every model answers
//
// A request names a model by its [runtime.Info] ID. "default", like a request
// that names none, is the first model.
//
// A field of OpenAI's API is honoured, or the request is refused and the error
// names the field; none is dropped in silence, and neither is an unknown one
// unless [IgnoreUnknownFields] says so. Without an effect on the answer, and
// therefore accepted, are user, metadata, safety_identifier, prompt_cache_key,
// prompt_cache_retention and parallel_tool_calls, and what asks for the default:
// store false, n 1, penalties of 0, an empty logit_bias, response_format text.
// top_k and ignore_eos are accepted beyond OpenAI's fields. The role developer
// is rendered as system, and the text parts of a message are joined.
//
// # Scheduling
//
// Two more fields are vLLM's:
//
//	cache_salt  a text of up to 1024 bytes: only requests of the same one share computed prompts
//	priority    the lower, the earlier; the opposite of [runtime.Request]'s
//
// A cache_salt only divides what is shared, so everybody may send it. A priority
// is refused unless [AllowPriority] says how far it may go. On whose behalf a
// request is made, for shares by tenant, is never the client's to say: the
// application decides with [WithScheduling]. No field that OpenAI has for names
// of users counts, since nobody vouches for what it says.
//
// How many tokens of a prompt had been computed already is
// usage.prompt_tokens_details.cached_tokens. It tells what others have asked, as
// the time to the first token does, unless salts or [runtime.WithPrivatePrefixes]
// keep them apart.
//
// # Caveats
//
// Authentication, CORS, rate limits, timeouts for reading and the server itself
// are the application's. The package prints nothing: faults whose text is not
// for clients are attached to the Gin context with c.Error, together with the
// request id that the client was given.
//
// An answer may take longer than the server's WriteTimeout: the handlers set the
// deadline of each write themselves, see [WithWriteTimeout]. A middleware that
// wraps the ResponseWriter keeps this working by having an Unwrap method.
//
// Log-probabilities list every token that was chosen, the one that ended the
// answer included.
package httpapi

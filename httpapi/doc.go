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

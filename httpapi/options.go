package httpapi

import (
	"time"

	"github.com/dunlin-go/dunlin/runtime"
)

// The defaults of the options.
const (
	defaultMaxBody      = 4 << 20
	defaultPing         = 15 * time.Second
	defaultWriteTimeout = 30 * time.Second
	defaultReadyTimeout = 5 * time.Second
)

// Option changes an [API].
type Option func(*API)

// WithModels adds more models to the first one, each under its own id.
func WithModels(gens ...runtime.Generator) Option {
	return func(a *API) {
		for _, g := range gens {
			a.add(g)
		}
	}
}

// WithAlias lets requests name the model id by another name too. A name that is
// a model's id stays that model's.
func WithAlias(alias, id string) Option { return func(a *API) { a.aliases[alias] = id } }

// WithMaxBody bounds a request's body, in bytes; 4 MiB without it.
func WithMaxBody(bytes int64) Option { return func(a *API) { a.maxBody = bytes } }

// WithPing sets after how long a silence a streamed answer gets a comment, so
// that nobody between here and the client takes it for dead while the prompt is
// computed; 15 seconds without it. The first comment sends the status 200: an
// error after it is an event of the stream. 0 means no comments.
func WithPing(interval time.Duration) Option { return func(a *API) { a.ping = interval } }

// WithWriteTimeout sets how long one write may take before the client counts as
// stuck and its request is ended; 30 seconds without it. 0 leaves the
// deadlines as the server set them.
func WithWriteTimeout(d time.Duration) Option { return func(a *API) { a.writeTimeout = d } }

// WithReadyTimeout sets how long /readyz waits for the models; 5 seconds
// without it.
func WithReadyTimeout(d time.Duration) Option { return func(a *API) { a.readyTimeout = d } }

// WithoutHealth leaves out /healthz and /readyz, for applications that have
// routes of that name. [API.Ready] is what they can call.
func WithoutHealth() Option { return func(a *API) { a.noHealth = true } }

// IgnoreUnknownFields accepts requests with fields that OpenAI's API doesn't
// have. Those that it has and that can't be honoured are refused all the same,
// and so are unknown fields inside messages.
func IgnoreUnknownFields() Option { return func(a *API) { a.ignoreUnknown = true } }

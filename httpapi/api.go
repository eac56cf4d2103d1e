package httpapi

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/dunlin-go/dunlin/runtime"
)

// defaultModel is the alias of the first model.
const defaultModel = "default"

// API serves generators in OpenAI's wire format. It is made by [New], may be
// mounted more than once and has no state that must be closed.
type API struct {
	models  []*model // in the order in which they were given
	byID    map[string]*model
	aliases map[string]string // to ids

	maxBody       int64
	ping          time.Duration
	writeTimeout  time.Duration
	readyTimeout  time.Duration
	noHealth      bool
	ignoreUnknown bool

	decide           func(*gin.Context) (Scheduling, error) // nil: all requests are alike
	earliest, latest int                                    // the priorities that requests may say

	started int64
	now     func() time.Time // replaced by tests
	newID   func() string
	frames  sync.Pool // of *frame
}

// model is one generator and what is known of it beforehand.
type model struct {
	id     string
	gen    runtime.Generator
	tokens runtime.Tokenizer // nil where the generator has none
	probe  prober
}

// New makes an API for gen and for what [WithModels] adds. It panics where a
// generator is nil or two have the same id.
func New(gen runtime.Generator, opts ...Option) *API {
	a := &API{
		byID:         map[string]*model{},
		aliases:      map[string]string{},
		maxBody:      defaultMaxBody,
		ping:         defaultPing,
		writeTimeout: defaultWriteTimeout,
		readyTimeout: defaultReadyTimeout,
		now:          time.Now,
		newID:        func() string { return fmt.Sprintf("%016x%016x", rand.Uint64(), rand.Uint64()) },
	}
	a.frames.New = func() any { return new(frame) }
	a.add(gen)
	for _, opt := range opts {
		opt(a)
	}
	a.started = a.now().Unix()
	return a
}

func (a *API) add(gen runtime.Generator) {
	if gen == nil {
		panic("httpapi: the generator is nil")
	}
	m := &model{id: gen.Info().ID, gen: gen, probe: newProber()}
	if m.id == "" {
		m.id = defaultModel
	}
	if a.byID[m.id] != nil {
		panic(fmt.Sprintf("httpapi: two models have the id %q", m.id))
	}
	m.tokens, _ = runtime.As[runtime.Tokenizer](gen)
	a.models = append(a.models, m)
	a.byID[m.id] = m
}

// Mount adds the routes to r, an engine or a group.
func (a *API) Mount(r gin.IRouter) {
	r.POST("/v1/chat/completions", a.completion(&chat))
	r.POST("/v1/completions", a.completion(&legacy))
	r.GET("/v1/models", a.list)
	r.GET("/v1/models/*id", a.show) // ids may have slashes
	if !a.noHealth {
		r.GET("/healthz", a.healthz)
		r.GET("/readyz", a.readyz)
	}
}

// NotFound answers a request for a route that doesn't exist in OpenAI's format,
// for an engine's NoRoute. Mount leaves that to the application.
func (a *API) NotFound(c *gin.Context) {
	a.fail(c, &apiError{
		status: http.StatusNotFound, kind: kindInvalid, code: "unknown_url",
		message: "Unknown request URL: " + c.Request.Method + " " + shorten(c.Request.URL.Path) + ".",
	})
}

// MethodNotAllowed is [API.NotFound] for an engine's NoMethod.
func (a *API) MethodNotAllowed(c *gin.Context) {
	a.fail(c, &apiError{
		status: http.StatusMethodNotAllowed, kind: kindInvalid, code: "method_not_allowed",
		message: "Not allowed here: " + c.Request.Method + " " + shorten(c.Request.URL.Path) + ".",
	})
}

// find is the model that a request names.
func (a *API) find(id string) (*model, *apiError) {
	if m := a.byID[id]; m != nil {
		return m, nil
	}
	if id == defaultModel || id == "" {
		return a.models[0], nil
	}
	if m := a.byID[a.aliases[id]]; m != nil {
		return m, nil
	}
	return nil, &apiError{
		status: http.StatusNotFound, kind: kindInvalid, code: "model_not_found", param: "model",
		message: "The model '" + shorten(id) + "' does not exist.",
	}
}

func (a *API) list(c *gin.Context) {
	b := []byte(`{"object":"list","data":[`)
	for i, m := range a.models {
		if i > 0 {
			b = append(b, ',')
		}
		b = a.appendModel(b, m)
	}
	sendJSON(c, http.StatusOK, append(b, "]}"...))
}

func (a *API) show(c *gin.Context) {
	id := strings.TrimPrefix(c.Param("id"), "/")
	if id == "" {
		a.list(c)
		return
	}
	m, e := a.find(id)
	if e != nil {
		a.fail(c, e)
		return
	}
	sendJSON(c, http.StatusOK, a.appendModel(nil, m))
}

func (a *API) appendModel(b []byte, m *model) []byte {
	b = appendString(append(b, `{"id":`...), m.id)
	b = appendInt(append(b, `,"object":"model","created":`...), a.started)
	return append(b, `,"owned_by":"dunlin"}`...)
}

// The types of answers.
const (
	mimeJSON = "application/json; charset=utf-8"
	mimeSSE  = "text/event-stream"
)

// sendJSON sends a whole answer. The type is set here, for gin keeps one that
// a middleware set before.
func sendJSON(c *gin.Context, status int, body []byte) {
	c.Header("Content-Type", mimeJSON)
	c.Header("Content-Length", strconv.Itoa(len(body)))
	c.Data(status, mimeJSON, body)
}

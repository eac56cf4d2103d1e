package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/dunlin-go/dunlin/httpapi"
	"github.com/dunlin-go/dunlin/models/hub"
	"github.com/dunlin-go/dunlin/runtime"
)

// Bounds of the server.
const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
)

// serveCmd serves models over HTTP.
type serveCmd struct {
	Addr     string        `default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Address to listen on (default: ${default}); port 0: any that is free."`
	Models   []string      `arg:"" name:"model" help:"Paths of GGUF files, names of the catalogue, or transformers:DIR; the first is also served as \"default\"."`
	Parallel int           `placeholder:"N" help:"Requests that a model computes at the same time (default: 32)."`
	Queue    int           `placeholder:"N" help:"Requests that may wait for a model (default: 1024)."`
	Grace    time.Duration `default:"10s" placeholder:"D" help:"How long running requests may go on when the server is told to stop (default: ${default})."`
	schedulingFlags
	residencyFlags
	engineFlags
}

// Run serves until it is interrupted.
func (c *serveCmd) Run(ctx context.Context, std *stdio) (err error) {
	if err := c.check(); err != nil {
		return err
	}
	gens, closeAll, err := c.loadAll(ctx)
	if err != nil {
		return err
	}
	defer closeInto(&err, closeAll)
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Addr)
	if err != nil {
		return err
	}
	var ids []string
	for _, g := range gens {
		ids = append(ids, g.Info().ID)
	}
	fmt.Fprintf(std.out, "serving %s on http://%s\n", strings.Join(ids, ", "), listener.Addr())
	return serve(ctx, listener, c.handler(gens, std.err), c.Grace, std.err)
}

// handler answers for the models.
func (c *serveCmd) handler(gens []runtime.Generator, logTo io.Writer) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.Use(gin.RecoveryWithWriter(logTo), logFaults(logTo))
	api := httpapi.New(gens[0], c.options(gens)...)
	api.Mount(engine)
	engine.HandleMethodNotAllowed = true
	engine.NoRoute(api.NotFound)
	engine.NoMethod(api.MethodNotAllowed)
	return engine
}

// logFaults prints what was wrong where clients are only given the request's id.
func logFaults(to io.Writer) gin.HandlerFunc {
	logger := newLogger(to)
	return func(c *gin.Context) {
		c.Next()
		if c.Writer.Status() == http.StatusTooManyRequests {
			return // under load there are many, and they say nothing new
		}
		for _, err := range c.Errors {
			logger.Print(strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	}
}

func newLogger(to io.Writer) *log.Logger { return log.New(to, "dunlin: ", log.LstdFlags) }

// options gives the API all models, each also under the other names that the
// catalogue has for it.
func (c *serveCmd) options(gens []runtime.Generator) []httpapi.Option {
	opts := append(c.ofAPI(), httpapi.WithModels(gens[1:]...))
	for i, name := range c.Models {
		if m, ok := hub.Find(name); ok && gens[i].Info().ID == m.Name {
			for _, alias := range m.Aliases {
				opts = append(opts, httpapi.WithAlias(alias, m.Name))
			}
		}
	}
	return opts
}

// loadAll loads the models in their order.
func (c *serveCmd) loadAll(ctx context.Context) (gens []runtime.Generator, all closers, err error) {
	defer func() {
		if err != nil {
			_ = all.Close() // the reason for giving up says more
		}
	}()
	opts, err := c.apply()
	if err != nil {
		return nil, nil, err
	}
	opts = append(opts, c.ofModel()...)
	opts = append(opts, places(c.Parallel, c.Queue)...)
	seen := map[string]string{}
	for _, model := range c.Models {
		m, err := c.load(ctx, model, opts...)
		if err != nil {
			return nil, all, err
		}
		all = append(all, m)
		id := m.Info().ID
		if other, dup := seen[id]; dup {
			return nil, all, fmt.Errorf("%s and %s are both called %s: rename one of the files", other, model, id)
		}
		seen[id] = model
		gens = append(gens, m)
	}
	return gens, all, nil
}

// serve runs the server until ctx ends. Then it takes no more connections,
// gives the requests that run the time of grace, ends those that are left and
// waits for them.
func serve(ctx context.Context, listener net.Listener, handler http.Handler, grace time.Duration, logTo io.Writer) error {
	requests, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	srv := &http.Server{
		Handler:           handler,
		BaseContext:       func(net.Listener) context.Context { return requests },
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          newLogger(logTo),
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	patience, done := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer done()
	err := srv.Shutdown(patience)
	if errors.Is(err, context.DeadlineExceeded) {
		cancel(errStopping)
		last, done := context.WithTimeout(context.WithoutCancel(ctx), readHeaderTimeout)
		defer done()
		if err = srv.Shutdown(last); err != nil {
			err = srv.Close() // a connection that doesn't read
		}
	}
	if stopped := <-failed; !errors.Is(stopped, http.ErrServerClosed) {
		err = errors.Join(err, stopped)
	}
	return err
}

var errStopping = errors.New("the server is stopping")

// closers are closed in the reverse order.
type closers []io.Closer

// Close closes all of them and reports every error.
func (c closers) Close() error {
	var errs []error
	for i := len(c) - 1; i >= 0; i-- {
		errs = append(errs, c[i].Close())
	}
	return errors.Join(errs...)
}

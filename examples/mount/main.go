// Command mount is an application with a Gin engine of its own, which answers
// OpenAI's API under /llm with a model file:
//
//	APP_KEY=secret go run ./examples/mount MODEL.gguf
//	curl localhost:8080/llm/v1/chat/completions -H 'Authorization: Bearer secret' \
//		-d '{"messages":[{"role":"user","content":"Hello!"}],"stream":true}' -H 'Content-Type: application/json'
package main

import (
	"context"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/dunlin-go/dunlin/httpapi"
	"github.com/dunlin-go/dunlin/runtime"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		slog.Error("mount", "err", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	key := os.Getenv("APP_KEY")
	if len(os.Args) != 2 || key == "" {
		return errors.New("usage: APP_KEY=... mount MODEL.gguf")
	}
	model, err := runtime.Load(ctx, os.Args[1])
	if err != nil {
		return err
	}
	defer model.Close() // after the server has ended
	ln, err := net.Listen("tcp", "localhost:8080")
	if err != nil {
		return err
	}
	slog.Info("listening", "addr", ln.Addr())
	return serve(ctx, ln, newEngine(model, key))
}

// newEngine is the application: its own routes and middleware, and the model
// behind them.
func newEngine(gen runtime.Generator, key string) *gin.Engine {
	engine := gin.New()
	engine.Use(gin.Recovery(), logErrors)
	engine.GET("/", func(c *gin.Context) { c.String(http.StatusOK, "the application's own page") })

	httpapi.New(gen).Mount(engine.Group("/llm", requireKey(key)))
	return engine
}

// requireKey is the application's authentication.
func requireKey(key string) gin.HandlerFunc {
	want := []byte("Bearer " + key)
	return func(c *gin.Context) {
		if subtle.ConstantTimeCompare([]byte(c.GetHeader("Authorization")), want) != 1 {
			c.AbortWithStatus(http.StatusUnauthorized)
		}
	}
}

// logErrors tells the log what clients aren't told.
func logErrors(c *gin.Context) {
	c.Next()
	for _, err := range c.Errors {
		slog.Error("request failed", "path", c.FullPath(), "status", c.Writer.Status(), "err", err.Err)
	}
}

// serve answers until ctx is done and gives the requests that run then some
// seconds to end.
func serve(ctx context.Context, ln net.Listener, h http.Handler) error {
	running, end := context.WithCancel(context.Background())
	defer end()
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		BaseContext:       func(net.Listener) context.Context { return running },
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(ln) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := srv.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		end() // ends the answers that are still being generated
		err = srv.Close()
	}
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

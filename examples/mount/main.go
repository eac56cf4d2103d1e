// Command mount is an application with a Gin engine of its own, which answers
// OpenAI's API under /llm with a model file. Its users have keys; each of them
// gets a fair share of the model:
//
//	APP_KEYS=ann:secret,bob:hidden go run ./examples/mount MODEL.gguf
//	curl localhost:8080/llm/v1/chat/completions -H 'Authorization: Bearer secret' \
//		-d '{"messages":[{"role":"user","content":"Hello!"}],"stream":true}' -H 'Content-Type: application/json'
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
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
	keys := parseKeys(os.Getenv("APP_KEYS"))
	if len(os.Args) != 2 || len(keys) == 0 {
		return errors.New("usage: APP_KEYS=USER:KEY,... mount MODEL.gguf")
	}
	model, err := runtime.Load(ctx, os.Args[1], runtime.WithPrivatePrefixes())
	if err != nil {
		return err
	}
	defer model.Close() // after the server has ended
	ln, err := net.Listen("tcp", "localhost:8080")
	if err != nil {
		return err
	}
	slog.Info("listening", "addr", ln.Addr())
	return serve(ctx, ln, newEngine(model, keys))
}

// parseKeys reads pairs of users and keys. What it gives are hashes of keys, so
// that the time of a look-up tells nothing about them.
func parseKeys(s string) map[[sha256.Size]byte]string {
	users := map[[sha256.Size]byte]string{}
	for pair := range strings.SplitSeq(s, ",") {
		if user, key, ok := strings.Cut(pair, ":"); ok && user != "" && key != "" {
			users[sha256.Sum256([]byte("Bearer "+key))] = user
		}
	}
	return users
}

// newEngine is the application: its own routes and middleware, and the model
// behind them.
func newEngine(gen runtime.Generator, keys map[[sha256.Size]byte]string) *gin.Engine {
	engine := gin.New()
	engine.Use(gin.Recovery(), logErrors)
	engine.GET("/", func(c *gin.Context) { c.String(http.StatusOK, "the application's own page") })

	httpapi.New(gen, httpapi.WithScheduling(byUser)).Mount(engine.Group("/llm", requireKey(keys)))
	return engine
}

// userKey is where the authentication leaves the user's name.
const userKey = "user"

// byUser makes each user a tenant: one who asks much doesn't keep the others
// waiting.
func byUser(c *gin.Context) (httpapi.Scheduling, error) {
	return httpapi.Scheduling{Tenant: c.GetString(userKey)}, nil
}

// requireKey is the application's authentication.
func requireKey(keys map[[sha256.Size]byte]string) gin.HandlerFunc {
	return func(c *gin.Context) {
		user, ok := keys[sha256.Sum256([]byte(c.GetHeader("Authorization")))]
		if !ok {
			c.AbortWithStatus(http.StatusUnauthorized)
			return
		}
		c.Set(userKey, user)
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

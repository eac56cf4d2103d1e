package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/dunlin-go/dunlin/runtime"
)

// Readier is the capability, found with [runtime.As], to tell whether a
// generator takes requests now. A generator without it is asked for a token.
type Readier interface {
	Ready(ctx context.Context) error
}

// probeLife is how long the result of a probe stands: however often /readyz is
// asked, a model is asked once in that time.
const probeLife = time.Second

// prober asks one model at a time and remembers the answer.
type prober struct {
	turn chan struct{} // holds one token: the right to ask
	at   time.Time
	err  error
}

func newProber() prober {
	p := prober{turn: make(chan struct{}, 1)}
	p.turn <- struct{}{}
	return p
}

// Ready reports the models that don't answer, nil if all do.
func (a *API) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, a.readyTimeout)
	defer cancel()
	errs := make([]error, len(a.models))
	var wg sync.WaitGroup
	for i, m := range a.models {
		wg.Go(func() {
			if err := m.ready(ctx); err != nil {
				errs[i] = fmt.Errorf("model %s: %w", m.id, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (m *model) ready(ctx context.Context) error {
	p := &m.probe
	select {
	case <-p.turn:
		defer func() { p.turn <- struct{}{} }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if !p.at.IsZero() && time.Since(p.at) < probeLife {
		return p.err
	}
	err := m.ask(ctx)
	if !errors.Is(ctx.Err(), context.Canceled) { // a prober that went away has found out nothing
		p.err, p.at = err, time.Now()
	}
	return err
}

// ask is the probe. Being busy is being alive.
func (m *model) ask(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	if r, ok := runtime.As[Readier](m.gen); ok {
		return r.Ready(ctx)
	}
	s, err := m.gen.Start(ctx, runtime.Request{Prompt: "a", MaxTokens: 1})
	if runtime.CodeOf(err) == runtime.CodeOverloaded && err != nil {
		return nil
	}
	if err != nil {
		return err
	}
	defer s.Close()
	for { // a place in the queue is enough
		if ev, err := s.Recv(); err != nil || ev.Kind != runtime.EventHeartbeat {
			return err
		}
	}
}

func (a *API) healthz(c *gin.Context) { sendJSON(c, http.StatusOK, []byte(`{"status":"ok"}`)) }

func (a *API) readyz(c *gin.Context) {
	err := a.Ready(c.Request.Context())
	if err == nil {
		sendJSON(c, http.StatusOK, []byte(`{"status":"ready"}`))
		return
	}
	_ = c.Error(err)
	c.Header("Retry-After", "1")
	sendJSON(c, http.StatusServiceUnavailable, []byte(`{"status":"not ready"}`))
}

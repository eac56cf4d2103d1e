package httpapi

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/dunlin-go/dunlin/runtime"
	"github.com/dunlin-go/dunlin/runtime/runtimetest"
)

// TestOpenAIClient holds the API to the official client.
func TestOpenAIClient(t *testing.T) {
	python := os.Getenv("DUNLIN_OPENAI_PYTHON")
	if python == "" {
		t.Skip("DUNLIN_OPENAI_PYTHON names no Python that has the package openai")
	}
	a := New(fake(t, runtimetest.WithID("tiny"), says("Hello, wörld 🦆!")),
		WithModels(
			fake(t, runtimetest.WithID("org/failing"), runtimetest.WithErrorAfter(3, errors.New("a secret"))),
			fake(t, runtimetest.WithID("busy"), runtimetest.WithError(&runtime.Error{Code: runtime.CodeOverloaded, Err: errors.New("queue full")})),
			fake(t, runtimetest.WithID("waiting"), runtimetest.WithGate(runtimetest.NewGate())),
		), WithPing(50*time.Millisecond))
	e := gin.New()
	a.Mount(e.Group("/llm"))
	s := serve(t, e)

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, python, "testdata/openai_client.py", s.URL+"/llm/v1").CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}

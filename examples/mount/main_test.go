package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/dunlin-go/dunlin/runtime"
	"github.com/dunlin-go/dunlin/runtime/runtimetest"
)

// recorder tells for whom requests are made.
type recorder struct {
	runtime.Generator
	tenants chan string
}

func (r recorder) Start(ctx context.Context, req runtime.Request) (*runtime.Stream, error) {
	r.tenants <- req.Tenant
	return r.Generator.Start(ctx, req)
}

func TestMount(t *testing.T) {
	gin.SetMode(gin.TestMode)
	gate := runtimetest.NewGate()
	gen := runtimetest.New(runtimetest.WithGate(gate), runtimetest.WithReply(func(string) string { return "Hi!" }))
	defer gen.Close()
	rec := recorder{Generator: gen, tenants: make(chan string, 1)}
	ln, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- serve(ctx, ln, newEngine(rec, parseKeys("ann:k,bob:"))) }()

	post := func(key string) *http.Response {
		t.Helper()
		body := `{"messages":[{"role":"user","content":"Hello!"}],"stream":true}`
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+ln.Addr().String()+"/llm/v1/chat/completions", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+key)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	for _, key := range []string{"wrong", ""} { // bob has no key
		resp := post(key)
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("the key %q: %d", key, resp.StatusCode)
		}
		resp.Body.Close()
	}

	gate.Step(1)
	resp := post("k")
	defer resp.Body.Close()
	if tenant := <-rec.tenants; tenant != "ann" {
		t.Errorf("the request is %q's", tenant)
	}
	r := bufio.NewReader(resp.Body)
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	stop() // in the middle of an answer, which is finished all the same
	gate.Open()
	rest, err := io.ReadAll(r)
	if err != nil || !strings.HasSuffix(string(rest), "data: [DONE]\n\n") {
		t.Errorf("got %q, %v", rest, err)
	}
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
}

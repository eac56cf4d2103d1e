package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/dunlin-go/dunlin/runtime"
	"github.com/dunlin-go/dunlin/runtime/runtimetest"
)

// recorder keeps what a generator was asked last.
type recorder struct {
	runtime.Generator
	last runtime.Request
}

func (r *recorder) Start(ctx context.Context, req runtime.Request) (*runtime.Stream, error) {
	r.last = req
	return r.Generator.Start(ctx, req)
}

func TestTenantHeader(t *testing.T) {
	f := runtimetest.New()
	defer f.Close()
	rec := &recorder{Generator: f}
	c := serveCmd{Models: []string{"m"}}
	if err := c.TenantHeader.UnmarshalText([]byte("x-tenant")); err != nil {
		t.Fatal(err)
	}
	c.AllowPriority = new(priorities)
	if err := c.AllowPriority.UnmarshalText([]byte("0:10")); err != nil {
		t.Fatal(err)
	}
	h := c.handler([]runtime.Generator{rec}, io.Discard)
	long := strings.Repeat("x", maxTenantBytes)
	for _, tc := range []struct {
		headers []string
		want    string
		param   string // of the refusal
	}{
		{nil, "", ""},
		{[]string{"ann"}, "ann", ""},
		{[]string{long}, long, ""},
		{[]string{long + "x"}, "", "X-Tenant"},
		{[]string{"ann", "bob"}, "", "X-Tenant"},
	} {
		rec.last = runtime.Request{}
		r := httptest.NewRequest(http.MethodPost, "/v1/completions", strings.NewReader(`{"prompt":"a","user":"eve","priority":7}`))
		for _, v := range tc.headers {
			r.Header.Add("X-TENANT", v)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		switch {
		case tc.param != "":
			if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), `"param":"`+tc.param+`"`) || rec.last.Prompt != "" {
				t.Errorf("%q: %d %s", tc.headers, w.Code, w.Body)
			}
		case w.Code != http.StatusOK || rec.last.Tenant != tc.want || rec.last.Priority != -7:
			t.Errorf("%q: %d %s, the tenant is %q, the priority %d", tc.headers, w.Code, w.Body, rec.last.Tenant, rec.last.Priority)
		}
	}
}

// TestTenantsShareOverHTTP: a tenant that asks once isn't behind all that another
// one has asked before. None of the flood would end within the test.
func TestTenantsShareOverHTTP(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := os.WriteFile(path, slowModel(), 0o644); err != nil {
		t.Fatal(err)
	}
	c := serveCmd{Models: []string{path}, Parallel: 1}
	c.TenantHeader = "X-Tenant"
	gens, all, err := c.loadAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	s := httptest.NewServer(c.handler(gens, io.Discard))
	defer s.Close()
	ask := func(ctx context.Context, tenant string, tokens int) error {
		body := fmt.Sprintf(`{"prompt":"hello","max_tokens":%d,"ignore_eos":true}`, tokens)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/v1/completions", strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("X-Tenant", tenant)
		resp, err := s.Client().Do(req)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}
	var flood sync.WaitGroup
	defer flood.Wait()
	var answered atomic.Int32
	start := func() context.CancelFunc {
		ctx, cancel := context.WithCancel(t.Context())
		flood.Go(func() {
			if ask(ctx, "flood", 60000) == nil {
				answered.Add(1)
			}
		})
		return cancel
	}
	stats := gens[0].(runtime.StatsReader)
	until := func(what string, ok func(st runtime.Stats) bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !ok(stats.Stats()); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: it never came to this: %+v", what, stats.Stats())
			}
		}
	}
	waiting := func(n int) {
		t.Helper()
		until(fmt.Sprintf("%d wait", n), func(st runtime.Stats) bool { return st.Running == 1 && st.Waiting == n })
	}
	endFirst := start() // has the only place until all others wait
	defer endFirst()
	waiting(0)
	for range 10 {
		defer start()()
	}
	waiting(10)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	quiet := make(chan error, 1)
	go func() { quiet <- ask(ctx, "quiet", 4) }()
	waiting(11)
	// The flood has had more than the quiet one when it has got another token
	// while that one waits.
	before := stats.Stats().CompletionTokens
	until("some tokens", func(st runtime.Stats) bool { return st.CompletionTokens > before+4 })
	endFirst()
	if err := <-quiet; err != nil || answered.Load() > 0 {
		t.Errorf("the quiet tenant was answered after %d of the flood's requests, %v", answered.Load(), err)
	}
}

// TestPrivatePrefixes: with the flag a prompt starts from what its own tenant has
// computed only, without it from anybody's; a client's salt keeps apart as well.
func TestPrivatePrefixes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := os.WriteFile(path, tinyModel(1), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, private := range []bool{false, true} {
		c := serveCmd{Models: []string{path}}
		c.TenantHeader, c.PrivatePrefixes = "X-Tenant", private
		gens, all, err := c.loadAll(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer all.Close()
		h := c.handler(gens, io.Discard)
		for _, tc := range []struct {
			tenant, salt string
			cached       bool
		}{
			{"ann", "", false},
			{"ann", "", true},
			{"bob", "", !private},
			{"bob", "s", false},
			{"bob", "s", true},
			{"ann", "s", !private},
		} {
			body := `{"prompt":"` + strings.Repeat("hello ", 20) + `","max_tokens":1`
			if tc.salt != "" {
				body += `,"cache_salt":"` + tc.salt + `"`
			}
			r := httptest.NewRequest(http.MethodPost, "/v1/completions", strings.NewReader(body+`}`))
			r.Header.Set("X-Tenant", tc.tenant)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			n := gjson.Get(w.Body.String(), "usage.prompt_tokens_details.cached_tokens")
			if w.Code != http.StatusOK || !n.Exists() || (n.Int() > 0) != tc.cached {
				t.Errorf("private %v, %s/%s: %d %s", private, tc.tenant, tc.salt, w.Code, w.Body)
			}
		}
	}
}

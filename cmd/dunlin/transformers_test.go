package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/dunlin-go/dunlin/internal/testmodel"
)

// command runs a command line in this process.
func command(args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = dunlin(args, &stdio{strings.NewReader(""), &o, &e})
	return code, o.String(), e.String()
}

// complaint demands that a command line fails with one line.
func complaint(t *testing.T, want string, args ...string) {
	t.Helper()
	code, out, errs := command(args...)
	if code != 1 || out != "" || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, want) {
		t.Errorf("dunlin %s: exit code %d, stdout %q, stderr %q", strings.Join(args, " "), code, out, errs)
	}
}

func TestTransformersWithoutBridge(t *testing.T) {
	t.Setenv("DUNLIN_BRIDGE", t.TempDir())
	t.Setenv("DUNLIN_CACHE", t.TempDir())
	model := "transformers:" + t.TempDir()
	complaint(t, "make bridge", "run", model, "hello")
	complaint(t, "make bridge", "serve", model)
	complaint(t, "neither a file", "run", "transformers:/nowhere/at/all", "hello")
	for option, flags := range map[string][]string{
		"WithActivations":  {"--activations", "f32"},
		"WithKVCacheBytes": {"--kv-cache", "1MiB"},
		"WithKVCacheType":  {"--kv-cache-type", "q8_0"},
	} {
		complaint(t, "only the native engine has "+option, append([]string{"run", model, "hello"}, flags...)...)
	}
	for option, flags := range map[string][]string{
		"WithKeepAlive":       {"--keep-alive", "5m"},
		"WithWarmUp":          {"--warm-up", "wait"},
		"WithTenantWeight":    {"--tenant-header", "X-Tenant", "--tenant-weight", "a=2"},
		"WithPrivatePrefixes": {"--tenant-header", "X-Tenant", "--private-prefixes"},
	} {
		complaint(t, "only the native engine has "+option, append([]string{"serve", model}, flags...)...)
	}
}

func TestTransformersRun(t *testing.T) {
	code, out, errs := command("run", "transformers:"+testmodel.Bridge(t, "tiny"), "hello", "--greedy", "-n", "8", "--json")
	if code != 0 || errs != "" {
		t.Fatalf("exit code %d, stderr %q", code, errs)
	}
	var got runResult
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Tokens) == 0 || got.Usage.CompletionTokens < 1 || got.Usage.CompletionTokens > 8 {
		t.Errorf("%+v", got)
	}
}

// TestTransformersServe has a native model beside one of Transformers.
func TestTransformersServe(t *testing.T) {
	native := filepath.Join(t.TempDir(), "native.gguf")
	c := serveCmd{Models: []string{native, "transformers:" + testmodel.Bridge(t, "tiny") + "/."}}
	if err := os.WriteFile(native, tinyModel(1), 0o644); err != nil {
		t.Fatal(err)
	}
	gens, all, err := c.loadAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(c.handler(gens, io.Discard))
	defer func() {
		server.Close()
		if err := all.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, id := range []string{"native", "tiny"} {
		body := `{"model": "` + id + `", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, "temperature": 0}`
		status, answer := post(t.Context(), t, server.URL+"/v1/chat/completions", body)
		if n := gjson.Get(answer, "usage.completion_tokens").Int(); status != http.StatusOK || n < 1 || n > 4 {
			t.Errorf("%s: status %d, %s", id, status, answer)
		}
	}
}

func post(ctx context.Context, t *testing.T, url, body string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

//go:build unix

package main

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestServeOpenAIClient talks to the command's server, real model included,
// with OpenAI's own client. What the API does in detail is tested in httpapi.
func TestServeOpenAIClient(t *testing.T) {
	python, model := os.Getenv("DUNLIN_OPENAI_PYTHON"), os.Getenv("DUNLIN_TEST_MODEL")
	if python == "" || model == "" {
		t.Skip("DUNLIN_OPENAI_PYTHON and DUNLIN_TEST_MODEL are not both set; `make test-clients` sets them")
	}
	server := process(t, "serve", "--addr", "127.0.0.1:0", model)
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	_, url, _ := strings.Cut(strings.TrimSpace(line), " on ")
	said, err := exec.CommandContext(t.Context(), python, "testdata/openai_client.py", url+"/v1").CombinedOutput()
	t.Logf("%s", said)
	if err != nil {
		t.Error(err)
	}
	if err := server.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := waitExit(t, server); code != 0 {
		t.Errorf("the server ended with exit code %d", code)
	}
}

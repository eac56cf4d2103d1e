//go:build unix

package main

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func writeTiny(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, tinyModel(1), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// waitExit waits for the process and returns its exit code, -1 for a signal.
func waitExit(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		_ = cmd.Process.Kill() // the test has failed anyway
		<-done
		t.Fatal("the process did not end")
	}
	return cmd.ProcessState.ExitCode()
}

func TestRunInterrupted(t *testing.T) {
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		// The input never ends, and neither does a prompt of its own.
		cmd := process(t, "run", writeTiny(t, "tiny.gguf"), "--raw")
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		defer stdin.Close()
		checkInterrupted(t, cmd, nil, sig)
	}
}

func TestRunInterruptedWhileAnswering(t *testing.T) {
	model := filepath.Join(t.TempDir(), "m.gguf")
	if err := os.WriteFile(model, slowModel(), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := process(t, "run", model, "--raw", "--greedy", "-n", "0", "hello")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	checkInterrupted(t, cmd, out, os.Interrupt)
}

// checkInterrupted starts the command, signals it once it has written to out
// (or has had time to begin) and demands a clean end.
func checkInterrupted(t *testing.T, cmd *exec.Cmd, out io.Reader, sig os.Signal) {
	t.Helper()
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if out != nil {
		if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
			t.Fatalf("no answer: %v, %s", err, &errs)
		}
		go func() { _, _ = io.Copy(io.Discard, out) }() // until the process ends
	} else {
		time.Sleep(300 * time.Millisecond) // until it waits for its input
	}
	if err := cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	if code := waitExit(t, cmd); code != exitInterrupted || errs.String() != "dunlin: interrupted\n" {
		t.Errorf("%v: exit code %d, stderr %q", sig, code, &errs)
	}
}

// A reader that goes away, such as head, ends the command without a word.
func TestBrokenPipe(t *testing.T) {
	model := filepath.Join(t.TempDir(), "m.gguf")
	if err := os.WriteFile(model, slowModel(), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := process(t, "run", model, "--raw", "--greedy", "-n", "0", "hello")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	out.Close()
	if code := waitExit(t, cmd); code == 0 || errs.Len() > 0 {
		t.Errorf("exit code %d, stderr %q", code, &errs)
	}
}

func TestServe(t *testing.T) {
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		cmd := process(t, "serve", "--addr", "127.0.0.1:0", "--grace", "100ms", writeTiny(t, "one.gguf"), writeTiny(t, "two.gguf"))
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		what, url, ok := strings.Cut(strings.TrimSpace(line), " on ")
		if err != nil || !ok || what != "serving one, two" {
			t.Fatalf("the server said %q (%v), %s", line, err, &errs)
		}
		for path, want := range map[string]string{"/readyz": "ready", "/v1/models": `"two"`} {
			if body := get(t, url+path); !strings.Contains(body, want) {
				t.Errorf("%s has no %s: %s", path, want, body)
			}
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if code := waitExit(t, cmd); code != 0 || errs.Len() > 0 {
			t.Errorf("%v: exit code %d, stderr %q", sig, code, &errs)
		}
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

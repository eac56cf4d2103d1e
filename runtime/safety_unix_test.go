//go:build unix

package runtime_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/models/pool"
	"github.com/dunlin-go/dunlin/runtime"
	"github.com/dunlin-go/dunlin/tensor"
)

// A file is changed under a model while sixteen callers generate. Whatever is
// done to it, they get what the whole file gives, bit for bit, or a beginning of
// it and a typed error; other models don't notice.

// damage is one thing that somebody does to a model's file. There is another
// version of the model, to put in its place.
type damage struct {
	name    string
	changes bool // the mapped file itself is changed: callers get CodeModelChanged
	do      func(path string, good, other []byte) error

	codes []runtime.Code // of a Load afterwards; nil: it loads what is there now
	other bool           // which is the other version
}

var damages = []damage{
	{"truncated to nothing", true, func(path string, _, _ []byte) error { return os.Truncate(path, 0) }, invalid, false},
	{"truncated to half", true, func(path string, good, _ []byte) error { return os.Truncate(path, int64(len(good)/2)) }, invalid, false},
	{"truncated by a byte", true, func(path string, good, _ []byte) error { return os.Truncate(path, int64(len(good)-1)) }, invalid, false},
	{"extended", true, func(path string, good, _ []byte) error { return os.Truncate(path, int64(len(good)+1<<20)) }, nil, false},
	{"touched", true, func(path string, _, _ []byte) error { return os.Chtimes(path, time.Time{}, time.Now()) }, nil, false},
	{"overwritten in place", true, func(path string, good, _ []byte) error { return overwrite(path, noise(len(good))) }, invalid, false},
	{"overwritten by a longer one", true, func(path string, good, _ []byte) error {
		return os.WriteFile(path, append(noise(1000), good...), 0o600)
	}, invalid, false},
	{"overwritten by a shorter one", true, func(path string, good, _ []byte) error { return os.WriteFile(path, good[:len(good)/3], 0o600) }, invalid, false},
	{"overwritten by text", true, func(path string, _, _ []byte) error { return os.WriteFile(path, []byte("gone"), 0o600) }, invalid, false},
	{"overwritten by the other version", true, func(path string, _, other []byte) error { return os.WriteFile(path, other, 0o600) }, nil, true},
	{"replaced by rename", false, func(path string, _, other []byte) error { return replace(path, other) }, nil, true},
	{"replaced by noise", false, func(path string, good, _ []byte) error { return replace(path, noise(len(good))) }, invalid, false},
	{"moved away", false, func(path string, _, _ []byte) error { return os.Rename(path, path+".old") }, missing, false},
	{"deleted", false, func(path string, _, _ []byte) error { return os.Remove(path) }, missing, false},
	{"directory removed", false, func(path string, _, _ []byte) error { return os.RemoveAll(filepath.Dir(path)) }, missing, false},
	{"without permissions", false, func(path string, _, _ []byte) error { return os.Chmod(path, 0) }, unreadable(), false},
}

var missing = []runtime.Code{runtime.CodeModelNotFound}

// unreadable is what loading a file without permissions gives: to root it has them.
func unreadable() []runtime.Code {
	if os.Geteuid() == 0 {
		return nil
	}
	return invalid
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

// replace puts another file in the place of one, which may be gone with its
// directory.
func replace(path string, b []byte) error {
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path+".new", b, 0o600), os.Rename(path+".new", path))
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
	past := time.Now().Add(-time.Hour)
	if err := errors.Join(replace(path, data), os.Chtimes(path, past, past)); err != nil {
		t.Fatal(err)
	}
}

// medium has a few megabytes of weights, so that a step touches many pages; the
// versions of it are equally large.
func medium(version uint64) []byte {
	return testmodel.Llama(testmodel.Config{Layers: 4, Embedding: 128, FeedForward: 512, Weights: tensor.F16, Seed: version})
}

var (
	mediumModel = sync.OnceValue(func() []byte { return medium(11) })
	mediumOther = sync.OnceValue(func() []byte { return medium(12) })
)

func TestFileChangesUnderCallers(t *testing.T) {
	var faults int
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) { faults += changeUnderCallers(t, t.TempDir(), mediumModel(), d, 12) })
	}
	t.Logf("%d callers met a fault inside a step", faults)
}

// TestFileChangesUnderCallersInMemory has the file in memory, on another file
// system than the rest.
func TestFileChangesUnderCallersInMemory(t *testing.T) {
	const memory = "/dev/shm"
	if info, err := os.Stat(memory); err != nil || !info.IsDir() {
		t.Skip("no file system in memory here:", err)
	}
	t.Setenv("TMPDIR", memory)
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) { changeUnderCallers(t, t.TempDir(), mediumModel(), d, 12) })
	}
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
			if n := changeUnderCallers(t, t.TempDir(), good, d, 4); n > 0 {
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
		if n := changeUnderCallers(t, t.TempDir(), mediumModel(), damages[0], 12); n > 0 {
			return
		}
	}
	t.Skipf("in %d tries no file was cut while a step read it: every cut was seen before the next step", tries)
}

// changeUnderCallers damages a file in dir while sixteen callers generate from it
// and returns how many of them ended with a memory fault.
func changeUnderCallers(t *testing.T, dir string, good []byte, d damage, tokens int) int {
	t.Helper()
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	path, bystander := filepath.Join(dir, "of", "model.gguf"), filepath.Join(dir, "bystander.gguf")
	// A model that is there all the time, which also shows the process's budget.
	before := openAt(t, bystander, mediumOther())
	budget := before.Stats().BudgetUsed
	wantOther := answersOf(t, before, tokens)
	stop := make(chan struct{})
	var served sync.WaitGroup
	served.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				check(t, "the model loaded before", before, wantOther, i)
			}
		}
	})

	m := openAt(t, path, good)
	want := answersOf(t, m, tokens)
	var faults atomic.Int64
	damaged := make(chan struct{})
	var callers sync.WaitGroup
	for i := range 16 {
		callers.Go(func() {
			if err := callUntil(t, m, want[i%len(want)], damaged); err != nil {
				if errors.Is(err, pool.ErrFault) {
					faults.Add(1)
				}
				if !d.changes {
					t.Errorf("a caller got %v", err)
				}
			} else if d.changes {
				t.Error("a caller never heard of the change")
			}
		})
	}
	began := m.Stats().Steps
	waitFor(t, "the callers to be served", func() bool { return m.Stats().Steps >= began+20 })
	if err := d.do(path, good, mediumOther()); err != nil {
		t.Fatal(err)
	}
	close(damaged)
	after := openAt(t, bystander+".after", mediumOther())
	for i := range wantOther {
		check(t, "the model loaded after", after, wantOther, i)
	}
	callers.Wait()

	ready := m.Ready(t.Context())
	if d.changes {
		_, start := m.Start(t.Context(), want[0].req)
		if runtime.CodeOf(ready) != runtime.CodeModelChanged || runtime.CodeOf(start) != runtime.CodeModelChanged {
			t.Errorf("afterwards Ready says %v and Start %v", ready, start)
		}
	} else if ready != nil {
		t.Errorf("afterwards Ready says %v", ready)
	}

	// Beside it, who loads the path gets what is there now.
	now := want
	if d.other {
		now = wantOther
	}
	again, err := runtime.Load(t.Context(), path, runtime.WithContextLength(128))
	switch {
	case d.codes != nil:
		checkError(t, "Load of what is there now", err, d.codes, nil)
	case err != nil:
		t.Errorf("Load of what is there now: %v", err)
	default:
		check(t, "what is there now", again, now, 0)
		shut(t, again)
	}
	shut(t, m)
	if left := held(filepath.Dir(path)); len(left) > 0 {
		t.Errorf("the file is still held: %q", left)
	}

	// Once it is put right, the path is the model again.
	right := openAt(t, path, good)
	check(t, "the file put right", right, want, 1)
	shut(t, right)
	check(t, "the model loaded after", after, wantOther, 0)
	shut(t, after)
	close(stop)
	served.Wait()
	waitFor(t, "the budget of the requests", func() bool { return before.Stats().BudgetUsed == budget })
	shut(t, before)
	return int(faults.Load())
}

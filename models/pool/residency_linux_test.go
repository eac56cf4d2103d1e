package pool

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dunlin-go/dunlin/internal/procmem"
)

const testFile = 1 << 20

// files makes handles of n files of a megabyte in a residency that has room for
// so many of them.
func files(t *testing.T, n, room int, opts ...Option) (*residency, []*Handle) {
	t.Helper()
	r := newResidency(int64(room)*testFile, func() (procmem.Resident, error) { return procmem.Resident{}, nil })
	return r, filesIn(t, r, n, opts...)
}

func filesIn(t *testing.T, r *residency, n int, opts ...Option) []*Handle {
	t.Helper()
	handles := make([]*Handle, n)
	for i := range handles {
		h, err := r.open([]string{write(t, testFile)}, opts)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = h.Close() }) // some tests have closed it
		handles[i] = h
	}
	return handles
}

// stateOf is a file's state.
func stateOf(h *Handle) state {
	h.in.mu.Lock()
	defer h.in.mu.Unlock()
	return h.maps[0].state
}

// now is the figures that need no look at the process's memory.
func now(r *residency) (s Stats, mappings int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Stats{Counts: r.counts, Counted: r.counted}, len(r.list)
}

// read uses a file and reads all of it.
func read(t *testing.T, h *Handle) {
	t.Helper()
	if _, err := h.Use(t.Context()); err != nil {
		t.Error(err)
		return
	}
	defer h.Done()
	if err := check(h); err != nil {
		t.Error(err)
	}
}

// check compares what write wrote.
func check(h *Handle) error {
	return Guard(func() error {
		for _, p := range h.Parts() {
			for i := 0; i < len(p); i += 509 {
				if p[i] != byte(i*7) {
					return errors.New("the bytes are others")
				}
			}
		}
		return nil
	})
}

// residentPages asks the system which of a handle's pages the process has.
func residentPages(t *testing.T, h *Handle) int64 {
	t.Helper()
	for _, m := range h.in.stats().Mappings {
		if m.Path == h.maps[0].path {
			return m.Resident
		}
	}
	t.Fatal("there is no such mapping")
	return 0
}

func TestUseDropsTheLeastRecentlyUsed(t *testing.T) {
	r, h := files(t, 4, 2)
	for _, i := range []int{0, 1, 0, 2} {
		read(t, h[i])
	}
	for i, want := range []bool{true, false, true, false} {
		if got := stateOf(h[i]) == warm; got != want {
			t.Errorf("file %d is warm: %t, want %t", i, got, want)
		}
		if got := residentPages(t, h[i]); got > 0 != want {
			t.Errorf("file %d has %d resident bytes", i, got)
		}
	}
	if s, _ := now(r); s.Counted != 2*testFile || s.Dropped != 1 {
		t.Errorf("%d bytes are counted, %d files were dropped", s.Counted, s.Dropped)
	}
}

func TestUseWaitsForRoom(t *testing.T) {
	r, h := files(t, 3, 2)
	for _, i := range []int{0, 1} {
		if _, err := h[i].Use(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	refused := make(chan error)
	go func() { _, err := h[2].Use(ctx); refused <- err }()
	waitFor(t, r, 1)
	entered := make(chan error)
	go func() { _, err := h[2].Use(t.Context()); entered <- err }()
	waitFor(t, r, 2)
	cancel()
	if err := <-refused; !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled wait: %v", err)
	}
	h[1].Done()
	if err := <-entered; err != nil {
		t.Error(err)
	}
	if stateOf(h[0]) != warm || stateOf(h[1]) == warm {
		t.Error("room was made by the wrong file")
	}
	h[0].Done()
	h[2].Done()
	if s, _ := now(r); s.Waited != 2 {
		t.Errorf("%d calls waited, want 2", s.Waited)
	}
}

// waitFor waits until n calls are in the queue.
func waitFor(t *testing.T, r *residency, n int) {
	t.Helper()
	for {
		r.mu.Lock()
		waiting := len(r.waiting)
		r.mu.Unlock()
		if waiting == n {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// A file that can never fit is used alone.
func TestUseOfMoreThanThereIs(t *testing.T) {
	r, h := files(t, 2, 0)
	for range 2 {
		read(t, h[0])
		read(t, h[1])
	}
	if s, _ := now(r); s.Counted != testFile {
		t.Errorf("%d bytes are counted, one file has %d", s.Counted, testFile)
	}
}

// Nor does it lose its pages whenever the recycler looks between two uses.
func TestWhatIsTooLargeKeepsItsPages(t *testing.T) {
	r, h := files(t, 1, 0)
	read(t, h[0])
	r.recycle(time.Now())
	if stateOf(h[0]) != warm {
		t.Error("dropped between two uses")
	}
	r.recycle(time.Now().Add(parkAfter))
	if stateOf(h[0]) == warm {
		t.Error("kept while nobody uses it")
	}
}

func TestIdleFilesAreUnmapped(t *testing.T) {
	r, h := files(t, 2, 2, KeepAlive(time.Minute))
	forever, err := r.open([]string{h[1].maps[0].path}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer forever.Close()
	read(t, h[0])
	read(t, h[1])
	first := &h[0].Bytes()[0]
	r.recycle(time.Now().Add(59 * time.Second))
	if stateOf(h[0]) != warm {
		t.Fatal("unmapped too early")
	}
	r.recycle(time.Now().Add(61 * time.Second))
	if stateOf(h[0]) != parked || stateOf(h[1]) != warm {
		t.Fatalf("states after a minute: %d, %d", stateOf(h[0]), stateOf(h[1]))
	}
	if err := Guard(func() error { touched(h[0].Bytes()[0]); return nil }); !errors.Is(err, ErrFault) {
		t.Errorf("reading what isn't mapped: %v", err)
	}
	read(t, h[0])
	if first != &h[0].Bytes()[0] {
		t.Error("it came back elsewhere")
	}
	if s, _ := now(r); s.Parked != 1 || s.Restored != 1 {
		t.Errorf("%+v", s)
	}
}

// A deleted file comes back too: the mapping has it open.
func TestParkedFileComesBackAfterDeletion(t *testing.T) {
	r, h := files(t, 1, 1, KeepAlive(time.Second))
	read(t, h[0])
	r.recycle(time.Now().Add(time.Hour))
	if stateOf(h[0]) != parked {
		t.Fatal("it is mapped")
	}
	if err := os.Remove(h[0].maps[0].path); err != nil {
		t.Fatal(err)
	}
	read(t, h[0])
}

func TestDroppedFilesAreUnmapped(t *testing.T) {
	r, h := files(t, 2, 1)
	read(t, h[0])
	read(t, h[1])
	r.recycle(time.Now().Add(parkAfter + time.Second))
	if stateOf(h[0]) != parked || stateOf(h[1]) != warm {
		t.Errorf("states %d, %d", stateOf(h[0]), stateOf(h[1]))
	}
}

func TestPinnedFilesStay(t *testing.T) {
	r, h := files(t, 3, 2)
	pinned, err := r.open([]string{h[0].maps[0].path}, []Option{Pinned(), KeepAlive(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range h {
		read(t, h[i])
	}
	r.recycle(time.Now().Add(time.Hour))
	if stateOf(h[0]) != warm {
		t.Error("the pinned file went")
	}
	if err := pinned.Close(); err != nil {
		t.Fatal(err)
	}
	read(t, h[1])
	if stateOf(h[0]) == warm {
		t.Error("what was pinned stayed for ever")
	}
}

// What the process has besides lowers what is left for files, and a lower limit
// works at once.
func TestLimitCountsTheProcess(t *testing.T) {
	var own atomic.Pointer[procmem.Resident]
	own.Store(&procmem.Resident{})
	r := newResidency(4*testFile, func() (procmem.Resident, error) { return *own.Load(), nil })
	r.stop = make(chan struct{}) // as if its goroutine ran, which would measure the same again
	h := filesIn(t, r, 3)
	for i := range h {
		read(t, h[i])
	}
	own.Store(&procmem.Resident{Anon: testFile, File: 4 * testFile}) // a megabyte isn't of the three files
	r.recycle(time.Now())
	if s, _ := now(r); s.Counted != 2*testFile {
		t.Errorf("%d bytes are counted beside 2 MiB of the process's own, of a limit of 4", s.Counted)
	}
	own.Store(&procmem.Resident{Anon: testFile, File: 3 * testFile})
	if was := r.setLimit(3 * testFile); was != 4*testFile || r.setLimit(-1) != 3*testFile {
		t.Errorf("the limit was %d", was)
	}
	if s, _ := now(r); s.Counted != testFile {
		t.Errorf("%d bytes are counted after the limit was lowered", s.Counted)
	}
}

// Reading goroutines, a recycler that takes whatever it can and handles that come
// and go: no reader meets a page that isn't there.
func TestNothingIsTakenFromAReader(t *testing.T) {
	const rounds = 300
	r, h := files(t, 6, 3, KeepAlive(time.Nanosecond))
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(g)))
			for range rounds {
				read(t, h[rng.IntN(len(h))])
				if rng.IntN(10) == 0 {
					other, err := r.open([]string{h[rng.IntN(len(h))].maps[0].path}, nil)
					if err != nil {
						t.Error(err)
						return
					}
					if _, err := other.Use(t.Context()); err != nil {
						t.Error(err)
						return
					}
					if err := errors.Join(other.Close(), check(other)); err != nil { // closed while it is used
						t.Error(err)
					}
					other.Done()
				}
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	var taker sync.WaitGroup
	taker.Go(func() {
		for ctx.Err() == nil {
			r.recycle(time.Now().Add(time.Hour))
		}
	})
	wg.Wait()
	cancel()
	taker.Wait()
	if s, _ := now(r); s.Parked == 0 || s.Restored == 0 || s.Dropped == 0 {
		t.Errorf("nothing was taken: %+v", s)
	}
	for _, h := range h {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
	// The recycler may be dropping the pages of one, which goes a moment later.
	for range 5000 {
		if _, n := now(r); n == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if s, n := now(r); n != 0 || s.Counted != 0 {
		t.Errorf("%d mappings and %d bytes are left", n, s.Counted)
	}
}

// The last Close doesn't unmap what is in use.
func TestCloseUnderAReader(t *testing.T) {
	r, h := files(t, 1, 1)
	if _, err := h[0].Use(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h[0].Close(); err != nil {
		t.Fatal(err)
	}
	if err := check(h[0]); err != nil {
		t.Error(err)
	}
	h[0].Done()
	if _, n := now(r); n != 0 {
		t.Error("it is still mapped")
	}
	if _, err := h[0].Use(t.Context()); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a use after Close: %v", err)
	}
	if err := h[0].Warm(t.Context(), []Span{{0, 0, testFile}}, nil); err != nil {
		t.Errorf("a warm-up after Close: %v", err) // it has nobody to make room for
	}
}

// Somebody who waits for room when the handle goes isn't left waiting.
func TestCloseUnderAWait(t *testing.T) {
	r, h := files(t, 2, 1)
	if _, err := h[0].Use(t.Context()); err != nil {
		t.Fatal(err)
	}
	entered := make(chan error)
	go func() { _, err := h[1].Use(t.Context()); entered <- err }()
	waitFor(t, r, 1)
	if err := h[1].Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-entered; !errors.Is(err, os.ErrClosed) {
		t.Errorf("a wait for what was closed: %v", err)
	}
	h[0].Done()
	read(t, h[0])
}

// Reading a little takes nothing from others, and not its own addresses either.
func TestReadMakesNobodyLeave(t *testing.T) {
	r, h := files(t, 2, 1)
	if _, err := h[0].Use(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer h[0].Done()
	for range 2 {
		err := h[1].Read(func() error {
			r.recycle(time.Now().Add(time.Hour))
			if stateOf(h[1]) == parked {
				t.Error("unmapped under a reader")
			}
			return check(h[1])
		})
		if err != nil {
			t.Error(err)
		}
		r.recycle(time.Now().Add(time.Hour))
		if stateOf(h[0]) != warm || stateOf(h[1]) != parked {
			t.Errorf("states %d, %d", stateOf(h[0]), stateOf(h[1]))
		}
	}
	if err := h[1].Read(func() error { return os.ErrInvalid }); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("its error: %v", err)
	}
	if err := errors.Join(h[1].Close(), h[1].Close()); err != nil {
		t.Error(err)
	}
	if err := h[1].Read(func() error { return nil }); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestParts(t *testing.T) {
	r, h := files(t, 3, 2)
	var paths []string
	for _, h := range h[:2] {
		paths = append(paths, h.maps[0].path)
	}
	both, err := r.open(append(paths, paths[0]), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, n := now(r); n != 3 || both.Size() != 3*testFile || len(both.Parts()) != 3 {
		t.Errorf("%d mappings, %d bytes", n, both.Size())
	}
	read(t, h[2])
	read(t, both)
	if s, _ := now(r); s.Counted != 2*testFile || stateOf(h[2]) == warm {
		t.Errorf("%d bytes are counted", s.Counted)
	}
	if err := os.Truncate(paths[1], 5); err != nil {
		t.Fatal(err)
	}
	if err := both.Check(); !errors.Is(err, ErrChanged) {
		t.Errorf("the second part was cut: %v", err)
	}
	if err := both.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.open([]string{paths[0], paths[0] + "x"}, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a part that is missing: %v", err)
	}
	if n := len(h[0].maps[0].handles); n != 1 {
		t.Errorf("%d handles are left", n)
	}
}

// A warm-up brings pages in, where nobody has to leave for them.
func TestWarmMakesNobodyLeave(t *testing.T) {
	_, h := files(t, 2, 1)
	all := []Span{{0, 0, testFile}}
	for _, h := range h {
		if err := h.Warm(t.Context(), all, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := residentPages(t, h[0]); n != testFile {
		t.Errorf("%d bytes of the first file are resident", n)
	}
	if n := residentPages(t, h[1]); n != 0 {
		t.Errorf("%d bytes of the second file are resident", n)
	}
}

package pool

import (
	"errors"
	"os"
	"testing"
	"time"
)

// A pinned handle's bytes are there without a use, also when the file was unmapped.
func TestPinnedHandleToAnUnmappedFile(t *testing.T) {
	r, h := files(t, 1, 1, KeepAlive(time.Second))
	read(t, h[0])
	r.recycle(time.Now().Add(time.Hour))
	if stateOf(h[0]) != parked {
		t.Fatal("it is mapped")
	}
	pinned, err := r.open([]string{h[0].maps[0].path}, []Option{Pinned()})
	if err != nil {
		t.Fatal(err)
	}
	defer pinned.Close()
	if err := check(pinned); err != nil {
		t.Error(err)
	}
	r.recycle(time.Now().Add(time.Hour))
	if err := check(pinned); err != nil {
		t.Error(err)
	}
}

// All parts of a model that is too large for the limit keep their pages between two uses.
func TestPartsThatAreTooLargeKeepTheirPages(t *testing.T) {
	r, h := files(t, 3, 0)
	both, err := r.open([]string{h[0].maps[0].path, h[1].maps[0].path}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer both.Close()
	read(t, h[2])
	read(t, both)
	r.recycle(time.Now())
	for i, want := range []state{warm, warm, cold} {
		if got := stateOf(h[i]); got != want {
			t.Errorf("file %d has state %d, want %d", i, got, want)
		}
	}
}

// A file that can't be mapped again costs others nothing, and who opens it anew has it.
func TestFileThatCannotComeBack(t *testing.T) {
	r, h := files(t, 2, 1, KeepAlive(time.Second))
	lost := h[0].maps[0]
	read(t, h[0])
	r.recycle(time.Now().Add(time.Hour))
	if err := lost.file.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := h[0].Use(t.Context()); err == nil {
		t.Fatal("it came back without a file")
	}
	read(t, h[1])
	if _, err := h[0].Use(t.Context()); err == nil {
		t.Error("it came back without a file")
	}
	if stateOf(h[1]) != warm {
		t.Error("another file's pages went for it")
	}
	if h[0].TryUse() {
		t.Error("what isn't there can be used")
	}
	again, err := r.open([]string{lost.path}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	read(t, again)
}

// Who uses a file again and again lets others in between.
func TestUseAgainWaitsBehindOthers(t *testing.T) {
	r, h := files(t, 2, 1)
	if _, err := h[0].Use(t.Context()); err != nil {
		t.Fatal(err)
	}
	entered := make(chan error)
	go func() {
		_, err := h[1].Use(t.Context())
		entered <- err
	}()
	waitFor(t, r, 1)
	h[0].Done()
	if h[0].TryUse() { // whether the other has noticed yet or not
		t.Error("it went first")
	}
	if err := <-entered; err != nil {
		t.Error(err)
	}
	h[1].Done()
	if fresh, err := h[0].Use(t.Context()); !fresh || err != nil {
		t.Errorf("its pages have gone: %t, %v", fresh, err)
	}
	h[0].Done()
	if fresh, err := h[0].Use(t.Context()); fresh || err != nil {
		t.Errorf("its pages are there: %t, %v", fresh, err)
	}
	h[0].Done()
}

// Closing a handle ends its waits, wherever in the queue they are.
func TestCloseEndsWaitsInTheQueue(t *testing.T) {
	r, h := files(t, 3, 1)
	if _, err := h[0].Use(t.Context()); err != nil {
		t.Fatal(err)
	}
	waits := func(h *Handle, n int) chan error {
		ended := make(chan error)
		go func() {
			_, err := h.Use(t.Context())
			ended <- err
		}()
		waitFor(t, r, n)
		return ended
	}
	first, second := waits(h[1], 1), waits(h[2], 2)
	other, err := r.open([]string{h[2].maps[0].path}, nil) // so that the mapping stays
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := h[2].Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-second; !errors.Is(err, os.ErrClosed) {
		t.Errorf("the second: %v", err)
	}
	h[0].Done()
	if err := <-first; err != nil {
		t.Errorf("the first: %v", err)
	}
	h[1].Done()
}

// The same part twice takes the room of one.
func TestOnePartTwice(t *testing.T) {
	r, h := files(t, 2, 2)
	path := h[0].maps[0].path
	twice, err := r.open([]string{path, path}, nil)
	if err != nil {
		t.Fatal(err)
	}
	read(t, h[1])
	read(t, twice)
	if stateOf(h[1]) != warm {
		t.Error("another file's pages went for it")
	}
	if err := twice.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.open(nil, nil); err == nil {
		t.Error("no file was opened")
	}
}

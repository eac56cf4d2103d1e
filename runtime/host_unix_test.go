//go:build unix

package runtime_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dunlin-go/dunlin/runtime"
)

// TestHostStaysResponsive asks an HTTP handler of the same process for answers
// while all threads generate. The bound is some time slices of Go's scheduler:
// a handler that waited for whole answers, or for a step's whole length, would
// be far beyond it.
func TestHostStaysResponsive(t *testing.T) {
	m := realModel(t, runtime.WithContextLength(1024))
	idle := p99(latencies(t, time.Second))
	stop := make(chan struct{})
	done := make(chan error, 2)
	for range 2 { // one that decodes and one that is prefilled, again and again
		go func() {
			for {
				select {
				case <-stop:
					done <- nil
					return
				default:
				}
				if _, err := runtime.Generate(t.Context(), m, runtime.Request{Tokens: make([]int32, 300), MaxTokens: 60, IgnoreEOS: true}); err != nil {
					done <- err
					return
				}
			}
		}()
	}
	var windows []time.Duration
	for range 3 {
		windows = append(windows, p99(latencies(t, 2*time.Second)))
	}
	close(stop)
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	slices.Sort(windows)
	t.Logf("p99 of a handler: %v alone, %v beside generation (%v)", idle, windows[1], windows)
	if most := 50 * time.Millisecond; windows[1] > most {
		t.Errorf("p99 of a handler beside generation is %v, more than %v", windows[1], most)
	}
}

// latencies sends requests to a handler for the time, one every millisecond.
func latencies(t *testing.T, total time.Duration) []time.Duration {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	defer srv.Close()
	var all []time.Duration
	for end := time.Now().Add(total); time.Now().Before(end); time.Sleep(time.Millisecond) {
		begin := time.Now()
		res, err := srv.Client().Get(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		all = append(all, time.Since(begin))
	}
	return all
}

func p99(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)*99/100]
}

// TestIdleCostsNothing measures the process's CPU time from 10 ms after an
// answer on.
func TestIdleCostsNothing(t *testing.T) {
	m := realModel(t, runtime.WithContextLength(256))
	var least time.Duration
	for try := range 5 { // whatever else runs in the process is noise
		if _, err := runtime.Generate(t.Context(), m, runtime.Request{Prompt: "Once", MaxTokens: 8, IgnoreEOS: true}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
		before := cpuTime(t)
		time.Sleep(300 * time.Millisecond)
		used := cpuTime(t) - before
		if try == 0 || used < least {
			least = used
		}
	}
	t.Logf("%v of CPU time in 300 ms", least)
	if least > 3*time.Millisecond {
		t.Errorf("%v of CPU time in 300 ms without a request", least)
	}
}

func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(unix.TimevalToNsec(u.Utime) + unix.TimevalToNsec(u.Stime))
}

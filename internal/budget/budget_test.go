package budget

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

func TestReserve(t *testing.T) {
	b := New(100)
	if err := b.Reserve(KVCache, 60); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int64{41, math.MaxInt64, -1} {
		err := b.Reserve(Request, n)
		var e *ExceededError
		if !errors.As(err, &e) || !errors.Is(err, ErrExceeded) || e.Left != 40 || e.Purpose != Request {
			t.Errorf("Reserve(%d) = %v", n, err)
		}
	}
	if b.Used() != 60 || b.UsedFor(KVCache) != 60 || b.UsedFor(Request) != 0 {
		t.Errorf("used %d, %d, %d", b.Used(), b.UsedFor(KVCache), b.UsedFor(Request))
	}
	if err := b.Reserve(Request, 40); err != nil {
		t.Errorf("the last bytes: %v", err)
	}
}

func TestLease(t *testing.T) {
	b := New(1000)
	l := b.Lease()
	if err := l.ReserveItems(Scratch, 10, 50); err != nil {
		t.Fatal(err)
	}
	for _, n := range []uint64{501, math.MaxUint64, 1 << 63} {
		if err := l.ReserveItems(Scratch, n, 1); !errors.Is(err, ErrExceeded) {
			t.Errorf("%d items: %v", n, err)
		}
		if err := l.ReserveItems(Scratch, 1<<33, n); !errors.Is(err, ErrExceeded) {
			t.Errorf("items of %d: %v", n, err)
		}
	}
	if l.Held() != 500 {
		t.Errorf("held %d", l.Held())
	}
	l.Close()
	l.Close()
	if b.Used() != 0 {
		t.Errorf("%d bytes left after Close", b.Used())
	}
}

func TestConcurrentReservationsNeverExceed(t *testing.T) {
	b := New(1000)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				l := b.Lease()
				for l.Reserve(Metadata, 7) == nil {
					if used := b.Used(); used > 1000 {
						t.Errorf("%d bytes of 1000", used)
					}
				}
				l.Close()
			}
		})
	}
	wg.Wait()
	if b.Used() != 0 {
		t.Errorf("%d bytes left", b.Used())
	}
}

// TestChild: what a child gives counts above it too, and a refusal says whose limit
// was hit.
func TestChild(t *testing.T) {
	process := New(1000)
	own, shared := process.Child(100), process.Child(Unlimited)
	for _, c := range []struct {
		from *Budget
		n    int64
		want ExceededError // of no Limit: none
	}{
		{own, 101, ExceededError{Scratch, 101, 100, 100, true}},
		{own, 60, ExceededError{}},
		{own, 41, ExceededError{Scratch, 41, 40, 100, true}},
		{shared, 941, ExceededError{Scratch, 941, 940, 1000, false}},
		{shared, -1, ExceededError{Scratch, math.MaxInt64, 940, 1000, false}},
		{shared, 910, ExceededError{}},
		{own, 31, ExceededError{Scratch, 31, 30, 1000, false}},
		{own, 41, ExceededError{Scratch, 41, 30, 1000, false}}, // the tighter one is named
		{own, 30, ExceededError{}},
		{shared, 1, ExceededError{Scratch, 1, 0, 1000, false}},
	} {
		err := c.from.Reserve(Scratch, c.n)
		var got *ExceededError
		if errors.As(err, &got) != (c.want.Limit != 0) || got != nil && *got != c.want {
			t.Errorf("%d bytes: %v, want %v", c.n, err, &c.want)
		}
	}
	if own.Used() != 90 || shared.Used() != 910 || process.Used() != 1000 || process.UsedFor(Scratch) != 1000 || own.Left() != 0 {
		t.Errorf("%+v, %+v, %+v", own.Usage(), shared.Usage(), process.Usage())
	}
	own.Release(Scratch, 90)
	shared.Release(Scratch, 910)
	if process.Usage() != (Usage{Limit: 1000}) {
		t.Errorf("%+v is left", process.Usage())
	}
	if own.Left() != 100 || shared.Left() != 1000 {
		t.Errorf("%d and %d are left", own.Left(), shared.Left())
	}
}

// TestCover: a lease that covers something takes only what is missing.
func TestCover(t *testing.T) {
	b := New(100)
	l := b.Lease()
	for _, c := range []struct{ n, want int64 }{{40, 40}, {30, 40}, {0, 40}, {-1, 40}, {60, 60}, {100, 100}} {
		if err := l.Cover(HTTP, c.n); err != nil || l.Held() != c.want {
			t.Errorf("%d bytes: %v, %d held, want %d", c.n, err, l.Held(), c.want)
		}
	}
	var e *ExceededError
	if err := l.Cover(HTTP, 101); !errors.As(err, &e) || e.Asked != 1 || e.Left != 0 || l.Held() != 100 {
		t.Errorf("more than there is: %v, %d held", err, l.Held())
	}
	b.SetLimit(50)
	if err := l.Cover(HTTP, 100); err != nil {
		t.Errorf("what is held already: %v", err)
	}
	l.Close()
	if b.Used() != 0 {
		t.Errorf("%d bytes left", b.Used())
	}
}

// TestSetLimit: a lower limit takes nothing away and refuses more.
func TestSetLimit(t *testing.T) {
	process := New(1000)
	lease := process.Child(Unlimited).Lease()
	if err := lease.Reserve(KVCache, 600); err != nil {
		t.Fatal(err)
	}
	if got := process.SetLimit(500); got != 1000 {
		t.Errorf("the limit was %d", got)
	}
	if got := process.SetLimit(-1); got != 500 {
		t.Errorf("the limit was %d", got)
	}
	var e *ExceededError
	if err := lease.Reserve(Request, 1); !errors.As(err, &e) || *e != (ExceededError{Purpose: Request, Asked: 1, Left: 0, Limit: 500}) {
		t.Errorf("one byte more: %v", err)
	}
	if err := lease.Reserve(Request, 0); err != nil {
		t.Errorf("nothing more: %v", err)
	}
	if lease.Held() != 600 || process.Used() != 600 {
		t.Errorf("%d held, %d used", lease.Held(), process.Used())
	}
	process.SetLimit(601)
	if err := lease.Reserve(Request, 1); err != nil {
		t.Errorf("after it was raised: %v", err)
	}
	process.SetLimit(0)
	lease.Close()
	if process.Usage() != (Usage{}) {
		t.Errorf("%+v is left", process.Usage())
	}
}

// TestReleaseOfMore: giving back what wasn't reserved, for that purpose, is the
// caller's fault and changes nothing.
func TestReleaseOfMore(t *testing.T) {
	b := New(100)
	if err := b.Reserve(Request, 10); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		p Purpose
		n int64
	}{{Request, 11}, {Scratch, 1}, {Request, -1}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%d bytes of %v were given back", c.n, c.p)
				}
			}()
			b.Release(c.p, c.n)
		}()
	}
	if b.Used() != 10 || b.UsedFor(Request) != 10 {
		t.Errorf("%+v", b.Usage())
	}
}

// TestModelsAndLimitsAtOnce: models take and give back while the limits move. No
// reservation exceeds the limit that held when it was made, and all is given back
// once, however often leases are closed.
func TestModelsAndLimitsAtOnce(t *testing.T) {
	const low, high, own = 500, 1000, 200
	process := New(high)
	var models, limits sync.WaitGroup
	stop := make(chan struct{})
	limits.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				process.SetLimit(low)
				process.SetLimit(high)
			}
		}
	})
	for i := range 8 {
		limit := int64(own)
		if i%2 == 0 {
			limit = Unlimited
		}
		model := process.Child(limit)
		for p := range Purpose(2) {
			models.Go(func() {
				for range 500 {
					l := model.Lease()
					for l.Reserve(p, 7) == nil {
						if u := model.Usage(); u.Used > u.Limit || u.Used != u.By[0]+u.By[1] {
							t.Errorf("the model has %+v", u)
						}
						if u := process.Usage(); u.Used > high || u.Used != u.By[0]+u.By[1] {
							t.Errorf("the process has %+v", u)
						}
					}
					var closing sync.WaitGroup
					closing.Go(l.Close)
					l.Close()
					closing.Wait()
				}
			})
		}
	}
	models.Wait()
	close(stop)
	limits.Wait()
	if process.Used() != 0 {
		t.Errorf("%+v is left", process.Usage())
	}
}

func TestCgroupLimit(t *testing.T) {
	root := t.TempDir()
	write := func(path, text string) string {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("a/memory.max", "5000\n")
	write("a/b/memory.max", "max\n")
	write("memory/c/memory.limit_in_bytes", "700\n")
	for text, want := range map[string]int64{
		"0::/a/b\n":                      5000,
		"0::/\n":                         math.MaxInt64,
		"3:cpu:/c\n2:memory:/c\n":        700,
		"0::/a\n2:memory:/c\nnonsense\n": 700,
		"":                               math.MaxInt64,
	} {
		if got := cgroupLimit(root, write("self", text)); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

// TestAvailable: the process's first limit is half of GOMEMLIMIT, where that is the
// smallest. The environment is read when a process starts, so this is one.
func TestAvailable(t *testing.T) {
	const out = "DUNLIN_TEST_AVAILABLE"
	if os.Getenv(out) != "" {
		fmt.Printf("%d %d\n", Available(), Process().Limit())
		os.Exit(0)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	available := func(limit string) (all int64) {
		c := exec.Command(self, "-test.run=^TestAvailable$")
		c.Env = append(os.Environ(), out+"=1", "GOMEMLIMIT="+limit)
		text, err := c.CombinedOutput()
		var half int64
		if _, scan := fmt.Sscan(string(text), &all, &half); err != nil || scan != nil || all <= 0 || half != all/2 {
			t.Fatalf("GOMEMLIMIT=%s: %v, %q", limit, err, text)
		}
		return all
	}
	off := available("off")
	if got := available(""); got != off {
		t.Errorf("%d bytes without GOMEMLIMIT, %d with off", got, off)
	}
	if got := available("64MiB"); got != 64<<20 {
		t.Errorf("%d bytes of 64MiB", got)
	}
	if got := available("8000000000000000000"); got != off {
		t.Errorf("%d bytes where GOMEMLIMIT is more than the machine has, want %d", got, off)
	}
}

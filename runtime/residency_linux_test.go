package runtime_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/dunlin-go/dunlin/internal/procmem"
	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/models/pool"
	"github.com/dunlin-go/dunlin/runtime"
	"github.com/dunlin-go/dunlin/tensor"
)

// limitResident sets the process's limit until the test ends.
func limitResident(t *testing.T, bytes int64) {
	t.Helper()
	before := runtime.ReadWeights().Limit
	if err := runtime.SetResidentLimit(bytes); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := runtime.SetResidentLimit(before); err != nil {
			t.Error(err)
		}
	})
}

func TestResidentLimitAboveZero(t *testing.T) {
	before := runtime.ReadWeights().Limit
	for _, bytes := range []int64{0, -1} {
		if err := runtime.SetResidentLimit(bytes); runtime.CodeOf(err) != runtime.CodeInvalidRequest {
			t.Errorf("%d: %v", bytes, err)
		}
	}
	if after := runtime.ReadWeights().Limit; after != before || before < 1<<20 {
		t.Errorf("the limit is %d, it was %d", after, before)
	}
}

// weightsOf is what the pool says of the files below a directory.
func weightsOf(dir string) (list []string) {
	for _, m := range runtime.ReadWeights().Mappings {
		if strings.HasPrefix(m.Path, dir) {
			list = append(list, fmt.Sprintf("%s: %d handles", filepath.Base(m.Path), m.Handles))
		}
	}
	return list
}

// A hundred models of one file, by three names, have one mapping.
func TestHundredModelsOfOneFile(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	const n = 100
	dir := t.TempDir()
	path := filepath.Join(dir, "model.gguf")
	writeModel(t, path, testmodel.Llama(testmodel.Config{Seed: 21}))
	names := []string{path, path + ".hard", path + ".soft"}
	if err := os.Link(path, names[1]); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, names[2]); err != nil {
		t.Fatal(err)
	}
	models := make([]*runtime.Model, n)
	var wg sync.WaitGroup
	for i := range models {
		wg.Go(func() {
			m, err := runtime.Load(t.Context(), names[i%len(names)], runtime.WithContextLength(64), runtime.WithMaxSequences(1))
			if err != nil {
				t.Error(err)
			}
			models[i] = m
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	if got := weightsOf(dir); len(got) != 1 || !strings.HasSuffix(got[0], ": 100 handles") {
		t.Errorf("the pool has %q", got)
	}
	mapped := 0
	for _, h := range held(dir) {
		if strings.Contains(h, " r--s ") {
			mapped++
		}
	}
	if mapped != 1 {
		t.Errorf("the process has %d mappings of the file:\n%s", mapped, strings.Join(held(dir), "\n"))
	}
	want := answersOf(t, models[0], 3)
	for i, m := range models {
		check(t, "a model of the file", m, want, i)
		shut(t, m)
	}
	if left := held(dir); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// An idle model's file is unmapped. All that needs no weights goes on without, and
// the next request has them back.
func TestIdleModelUnloads(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := t.TempDir()
	path := filepath.Join(dir, "model.gguf")
	writeModel(t, path, mediumModel())
	m, err := runtime.Load(t.Context(), path, runtime.WithContextLength(128), runtime.WithKeepAlive(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer shut(t, m)
	want := answersOf(t, m, 8)
	for range 3 {
		waitFor(t, "the file to be unmapped", func() bool { return m.Stats().WeightsMapped == 0 })
		if maps := held(dir); len(maps) != 1 {
			t.Errorf("only the open file should be left of %q", maps)
		}
		if ids, err := m.Tokenize(t.Context(), "hello in the", runtime.TokenizeOptions{}); err != nil || len(ids) == 0 {
			t.Errorf("tokens %v, %v", ids, err)
		}
		if text, err := m.ApplyTemplate(t.Context(), want[3].req.Messages, true); err != nil || !strings.Contains(text, "hello") {
			t.Errorf("template %q, %v", text, err)
		}
		if err := m.Ready(t.Context()); err != nil {
			t.Error(err)
		}
		for i := range want {
			check(t, "the model that came back", m, want, i)
		}
	}
	s := m.Stats()
	if s.WeightsBytes != m.Info().FileBytes || time.Since(s.WeightsUsed) > time.Minute {
		t.Errorf("%d bytes of weights, used at %v", s.WeightsBytes, s.WeightsUsed)
	}
}

// Callers who pause for about as long as the model is kept meet it mapped, unmapped
// and in between.
func TestModelComesAndGoes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model.gguf")
	writeModel(t, path, mediumModel())
	m, err := runtime.Load(t.Context(), path, runtime.WithContextLength(128), runtime.WithKeepAlive(time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer shut(t, m)
	want := answersOf(t, m, 4)
	before := runtime.ReadWeights().Counts
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(2, uint64(g)))
			for range 40 {
				check(t, "the model", m, want, rng.IntN(len(want)))
				time.Sleep(time.Duration(rng.IntN(8)) * time.Millisecond)
			}
		})
	}
	wg.Wait()
	if after := runtime.ReadWeights().Counts; after.Parked == before.Parked || after.Restored == before.Restored {
		t.Errorf("it stayed mapped: %+v", after)
	}
}

// A request whose model waits for room in memory can be cancelled, and the model closed.
func TestWaitForRoomEnds(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := t.TempDir()
	inTheWay := filepath.Join(dir, "other")
	writeModel(t, inTheWay, mediumOther())
	m := openAt(t, filepath.Join(dir, "model.gguf"), mediumModel())
	want := answersOf(t, m, 4)
	other, err := pool.Open(inTheWay)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.Use(t.Context()); err != nil {
		t.Fatal(err)
	}
	limitResident(t, 1) // takes the model's weights
	waitFor(t, "the model's pages to go", func() bool {
		limitResident(t, 1)
		return m.Stats().WeightsResident == 0
	})

	wait := func() *runtime.Stream {
		before := runtime.ReadWeights().Waited
		s, err := m.Start(t.Context(), want[0].req)
		if err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the model to wait", func() bool { return runtime.ReadWeights().Waited > before })
		return s
	}
	if err := wait().Close(); err != nil {
		t.Error(err)
	}
	waitFor(t, "the request to leave", func() bool { return m.Stats().Running == 0 })
	other.Done()
	check(t, "the model when there is room", m, want, 1)

	if _, err := other.Use(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := wait()
	shut(t, m)
	for _, err := range s.All() {
		if runtime.CodeOf(err) != runtime.CodeClosed {
			t.Errorf("the request ended with %v", err)
		}
	}
	other.Done()
}

// crowd is more models than the resident limit has room for, and callers who use them
// at random.
type crowd struct {
	models, callers int
	config          testmodel.Config
	room            int           // how many models the limit leaves room for, or
	limit           int64         // the limit itself
	requests        int           // by each caller, or
	duration        time.Duration // how long they go on
}

// TestManyModelsUnderALimit has more models than fit.
func TestManyModelsUnderALimit(t *testing.T) {
	c := crowd{models: 12, callers: 8, room: 3, requests: 60}
	c.config = testmodel.Config{Layers: 4, Embedding: 256, FeedForward: 1024, Weights: tensor.F16}
	if raceDetector {
		c.models, c.requests = 5, 20
	}
	c.run(t)
}

// TestManyModelsWithoutRoom has none that fits: they are let in one by one.
func TestManyModelsWithoutRoom(t *testing.T) {
	c := crowd{models: 4, callers: 4, limit: 1, requests: 20}
	c.config = testmodel.Config{Layers: 4, Embedding: 128, FeedForward: 512, Weights: tensor.F16}
	c.run(t)
}

// TestManyModelsForAMinute is a service's size: 20 files of 250 MB and a gigabyte for
// all of the process.
func TestManyModelsForAMinute(t *testing.T) {
	if os.Getenv("DUNLIN_TEST_POOL") == "" {
		t.Skip("takes 5 GB of disk; `make test-pool` sets DUNLIN_TEST_POOL")
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(os.TempDir(), &disk); err != nil || disk.Bavail*uint64(disk.Bsize) < 8<<30 {
		t.Skipf("%s has %d bytes left, %v", os.TempDir(), disk.Bavail*uint64(disk.Bsize), err)
	}
	c := crowd{models: 20, callers: 16, limit: 1 << 30, duration: time.Minute}
	c.config = testmodel.Config{Layers: 8, Embedding: 1024, Heads: 16, KVHeads: 8, FeedForward: 4096, Weights: tensor.F16}
	if raceDetector { // which takes gigabytes itself
		c.models, c.limit, c.room, c.duration = 6, 0, 3, 30*time.Second
	}
	c.run(t)
}

func (c *crowd) run(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := t.TempDir()
	size := c.write(t, dir)
	debug.FreeOSMemory() // what made the files isn't to count
	models, want := make([]*runtime.Model, c.models), make([][]answer, c.models)
	for i := range models {
		m, err := runtime.Load(t.Context(), c.path(dir, i), runtime.WithContextLength(64), runtime.WithMaxSequences(4))
		if err != nil {
			t.Fatal(err)
		}
		defer shut(t, m)
		models[i] = m
		if i < 2 { // the files are the same, the answers too
			want[i] = answersOf(t, m, 4)
		} else {
			want[i] = want[i%2]
		}
	}
	limit := c.limit
	if limit == 0 {
		limitResident(t, runtime.ReadWeights().Limit) // which measures
		limit = runtime.ReadWeights().Other + int64(c.room)*size
	}
	limitResident(t, limit)
	before := runtime.ReadWeights()

	peak, stop := watchFiles(t)
	var answers atomic.Int64
	var wg sync.WaitGroup
	end := time.Now().Add(c.duration)
	for g := range c.callers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(3, uint64(g)))
			for n := 0; n < c.requests || c.duration > 0 && time.Now().Before(end); n++ {
				i := rng.IntN(len(models))
				check(t, "a model among many", models[i], want[i], rng.IntN(4))
				answers.Add(1)
			}
		})
	}
	wg.Wait()
	stop()
	counts := runtime.ReadWeights().Counts
	t.Logf("%d answers; a limit of %.1f MB, of which RssFile was at most %.1f MB, and all %.1f MB; the files have %.1f MB; %d times a file's pages were dropped",
		answers.Load(), mega(limit), mega(peak.file), mega(peak.all), mega(int64(c.models)*size), counts.Dropped-before.Dropped)
	if counts.Dropped == before.Dropped {
		t.Error("all were in memory at the same time")
	}
	if most := limit + limit/10; c.limit != 1 && peak.file > most {
		t.Errorf("RssFile was %d bytes, at most %d should be", peak.file, most)
	}
}

// write makes the models' files, which are the same but for their inodes, and returns
// the size of one.
func (c *crowd) write(t *testing.T, dir string) int64 {
	data := testmodel.Llama(c.config)
	for i := range c.models {
		writeModel(t, c.path(dir, i), data)
	}
	return int64(len(data))
}

func (c *crowd) path(dir string, i int) string { return filepath.Join(dir, fmt.Sprint(i, ".gguf")) }

// peaks are the highest figures of the process's resident set.
type peaks struct{ file, all int64 }

// watchFiles takes them until stop is called.
func watchFiles(t *testing.T) (peak *peaks, stop func()) {
	peak = new(peaks)
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			r, err := procmem.Self()
			if err != nil {
				t.Error(err)
				return
			}
			peak.file = max(peak.file, r.File)
			peak.all = max(peak.all, r.File+r.Anon+r.Shmem)
			select {
			case <-end:
				return
			case <-tick.C:
			}
		}
	}()
	return peak, func() { close(end); <-done }
}

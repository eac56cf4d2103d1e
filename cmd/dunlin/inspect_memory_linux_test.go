package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/dunlin-go/dunlin/internal/procmem"
)

// serving starts a process that has the models mapped.
func serving(t *testing.T, models ...string) *exec.Cmd {
	t.Helper()
	cmd := process(t, append([]string{"serve", "--addr", "127.0.0.1:0", "--grace", "100ms"}, models...)...)
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
		_ = cmd.Process.Signal(os.Interrupt)
		waitExit(t, cmd)
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.HasPrefix(line, "serving ") {
		t.Fatalf("the server said %q (%v), %s", line, err, &errs)
	}
	return cmd
}

func TestInspectMemory(t *testing.T) {
	dir := t.TempDir()
	both, one := filepath.Join(dir, "of both.gguf"), filepath.Join(dir, "one.gguf")
	for i, path := range []string{both, one} {
		if err := os.WriteFile(path, tinyModel(uint64(i+1)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	a, b := serving(t, both), serving(t, both, one)
	ended := exec.CommandContext(t.Context(), "true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	pid := func(c *exec.Cmd) string { return strconv.Itoa(c.Process.Pid) }
	inspect := func(code int, args ...string) (stdout, stderr string) {
		t.Helper()
		var out, errs bytes.Buffer
		if got := dunlin(append([]string{"inspect", "--memory"}, args...), &stdio{strings.NewReader(""), &out, &errs}); got != code {
			t.Fatalf("exit code %d, want %d; stderr: %s", got, code, &errs)
		}
		return out.String(), errs.String()
	}

	// Processes that have ended don't keep the others from being shown, and one
	// that is named twice counts once.
	out, errs := inspect(1, "--json", pid(a), pid(ended), pid(b), pid(a))
	if want := "dunlin: process " + pid(ended) + " isn't there"; !strings.HasPrefix(errs, want) || strings.Count(errs, "\n") != 1 {
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
	}

	out, errs = inspect(0, pid(a), pid(b))
	for _, want := range []string{
		`(?m)^pid +command +rss +pss `, `(?m)^` + pid(a) + ` +\S+ .*B$`, `(?m)^all +[\d.]+ MB`,
		`(?m)^model +mapped +processes`, `(?m)^` + regexp.QuoteMeta(both) + ` +[\d.]+ kB +2 `, `(?m)^` + regexp.QuoteMeta(one) + ` +[\d.]+ kB +1 `,
	} {
		if errs != "" || !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("nothing is %q:\n%s%s", want, out, errs)
		}
	}
	if out, errs = inspect(1, pid(ended)); out != "" || !strings.Contains(errs, pid(ended)) {
		t.Errorf("stdout %q, stderr %q", out, errs)
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

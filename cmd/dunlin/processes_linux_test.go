package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/dunlin-go/dunlin/internal/procmem"
)

// TestProcessesShareAModel has 8 servers of one file answer a request of 512
// tokens each, at the same time, and adds up what they take: the file once, and
// of their own at most 60 MB each, none of it weights.
func TestProcessesShareAModel(t *testing.T) {
	const (
		servers = 8
		prompt  = 384
		answer  = 128
		maxOwn  = 60e6
	)
	model := os.Getenv("DUNLIN_TEST_MODEL")
	if model == "" || testing.Short() {
		t.Skip("needs DUNLIN_TEST_MODEL, and time")
	}
	st, err := os.Stat(model)
	if err != nil {
		t.Fatal(err)
	}
	inPages := st.Size() + int64(os.Getpagesize())
	var cmds []*exec.Cmd
	var requests sync.WaitGroup
	for i := range servers {
		cmd, url := serving(t, model)
		cmds = append(cmds, cmd)
		requests.Go(func() {
			if err := answerTokens(t, url, prompt, answer, i); err != nil {
				t.Error(err)
			}
		})
	}
	if requests.Wait(); t.Failed() {
		return
	}
	// From here on their memory stays as it is.
	for _, cmd := range cmds {
		if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}

	// Others may map the file, or this process more of the program, meanwhile.
	var uses []processUse
	var shown gjson.Result
	for range 10 {
		uses = usesOf(t, cmds, st)
		shown = inspectedMemory(t, cmds)
		if slices.Equal(uses, usesOf(t, cmds, st)) {
			break
		}
	}
	var all, weights procmem.Usage
	for i, u := range uses {
		all.Add(u.all)
		weights.Add(u.weights)
		t.Logf("%d: Pss %.1f MB, of it weights %.1f MB; anonymous %.1f MB",
			i, float64(u.all.Pss)/1e6, float64(u.weights.Pss)/1e6, float64(u.all.Anonymous)/1e6)
		if own := u.all.Pss - u.weights.Pss; own > maxOwn || own <= 0 {
			t.Errorf("server %d has %d bytes of its own, at most %.0f should be", i, own, maxOwn)
		}
		if w := u.weights; w.Private()+w.Anonymous != 0 {
			t.Errorf("server %d has weights of its own: %+v", i, w)
		}
		if u.weights.Rss < st.Size()*9/10 {
			t.Errorf("server %d has mapped only %d of %d bytes: who has the others?", i, u.weights.Rss, st.Size())
		}
	}
	t.Logf("all: Pss %.1f MB, of it weights %.1f MB", float64(all.Pss)/1e6, float64(weights.Pss)/1e6)
	if most := inPages + servers*maxOwn; all.Pss > most || all.Pss <= weights.Pss {
		t.Errorf("together they take %d bytes, at most %d should be", all.Pss, most)
	}
	if weights.Pss > inPages || weights.Pss == 0 {
		t.Errorf("the file of %d bytes takes %d", st.Size(), weights.Pss)
	}

	m := shown.Get("models.0")
	for _, f := range []struct {
		name      string
		got, want int64
	}{
		{"processes", shown.Get("processes.#").Int(), servers},
		{"pss", shown.Get("total.pss_bytes").Int(), all.Pss},
		{"anonymous", shown.Get("total.anonymous_bytes").Int(), all.Anonymous},
		{"models: pss", shown.Get("total.models_pss_bytes").Int(), weights.Pss},
		{"models", shown.Get("models.#").Int(), 1},
		{"model: pss", m.Get("pss_bytes").Int(), weights.Pss},
		{"model: private", m.Get("private_bytes").Int(), 0},
		{"model: anonymous", m.Get("anonymous_bytes").Int(), 0},
		{"model: processes", m.Get("processes").Int(), servers},
	} {
		if f.got != f.want {
			t.Errorf("dunlin inspect --memory has %s %d, want %d", f.name, f.got, f.want)
		}
	}
}

// processUse is what a process has in memory, and what of it is of the model.
type processUse struct{ all, weights procmem.Usage }

func usesOf(t *testing.T, cmds []*exec.Cmd, model os.FileInfo) []processUse {
	t.Helper()
	inode := model.Sys().(*syscall.Stat_t).Ino
	uses := make([]processUse, len(cmds))
	for i, cmd := range cmds {
		all, err := procmem.Rollup(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		mappings, err := procmem.Mappings(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		uses[i].all = all
		for _, m := range mappings {
			if m.Inode == inode && !m.Exec {
				uses[i].weights.Add(m.Usage)
			}
		}
	}
	return uses
}

// inspectedMemory is what dunlin inspect --memory --json says.
func inspectedMemory(t *testing.T, cmds []*exec.Cmd) gjson.Result {
	t.Helper()
	args := []string{"--json"}
	for _, cmd := range cmds {
		args = append(args, pidOf(cmd))
	}
	out, _ := inspectMemory(t, 0, args...)
	return gjson.Parse(out)
}

// answerTokens has a server compute a prompt, another for each seed, and an
// answer of so many tokens.
func answerTokens(t *testing.T, url string, prompt, answer, seed int) error {
	ids := make([]int, prompt)
	for i := range ids {
		ids[i] = 1000 + (seed*7919+i*31)%20000
	}
	body, err := json.Marshal(map[string]any{"model": "default", "prompt": ids, "max_tokens": answer, "ignore_eos": true})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/completions", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if n := gjson.GetBytes(got, "usage.total_tokens").Int(); n != int64(prompt+answer) {
		return fmt.Errorf("%d tokens, want %d: %s", n, prompt+answer, got)
	}
	return nil
}

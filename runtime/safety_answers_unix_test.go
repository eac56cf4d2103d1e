//go:build unix

package runtime_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dunlin-go/dunlin/runtime"
)

// answer is a request and what a model gives to it: the same bits each time.
type answer struct {
	req  runtime.Request
	text string

	tokens   []int32
	logprobs []float32
}

// answersOf asks a model for some answers of so many tokens.
func answersOf(t testing.TB, m *runtime.Model, tokens int) []answer {
	t.Helper()
	seed := uint64(5)
	all := []answer{
		{req: runtime.Request{Prompt: "hello in the"}},
		{req: runtime.Request{Prompt: "a longer text, and others that begin like it"}},
		{req: runtime.Request{Prompt: "a longer text that goes another way", Temperature: 1, Seed: &seed}},
		{req: runtime.Request{Messages: []runtime.Message{{Role: "user", Content: "hello"}}}},
	}
	for i := range all {
		a := &all[i]
		a.req.MaxTokens, a.req.IgnoreEOS, a.req.Logprobs = tokens, true, true
		res, err := runtime.Generate(t.Context(), m, a.req)
		if err != nil {
			t.Fatal(err)
		}
		a.text, a.tokens, a.logprobs = res.Text, res.Tokens, res.Logprobs
	}
	return all
}

// differs says how a result differs from the answer, or is no beginning of it if it
// is only a part, or "".
func (a *answer) differs(res *runtime.Result, part bool) string {
	tokens, logprobs, text := a.tokens, a.logprobs, a.text
	if n := len(res.Tokens); part && n <= len(tokens) && len(res.Text) <= len(text) {
		tokens, logprobs, text = tokens[:n], logprobs[:n], text[:len(res.Text)]
	}
	if slices.Equal(res.Tokens, tokens) && slices.Equal(res.Logprobs, logprobs) && res.Text == text {
		return ""
	}
	return fmt.Sprintf("the answer is %q %d %v, want %q %d %v", res.Text, res.Tokens, res.Logprobs, text, tokens, logprobs)
}

// check asks a model for one of the answers.
func check(t testing.TB, what string, m *runtime.Model, want []answer, i int) {
	t.Helper()
	a := &want[i%len(want)]
	res, err := runtime.Generate(t.Context(), m, a.req)
	if err != nil {
		t.Errorf("%s: %v", what, err)
	} else if d := a.differs(res, false); d != "" {
		t.Errorf("%s: %s", what, d)
	}
}

// callUntil asks a model for an answer again and again, until it has had two more
// after the event or an error, which must be that the file was changed.
func callUntil(t *testing.T, m *runtime.Model, want answer, event <-chan struct{}) error {
	for after := 0; after < 2; {
		select {
		case <-event:
			after++
		default:
		}
		res, err := runtime.Generate(t.Context(), m, want.req)
		if res != nil {
			if d := want.differs(res, err != nil); d != "" {
				t.Error(d)
			}
		}
		if err != nil {
			checkError(t, "Generate", err, []runtime.Code{runtime.CodeModelChanged}, nil)
			return err
		}
	}
	return nil
}

// openAt writes a file and loads it.
func openAt(t testing.TB, path string, data []byte) *runtime.Model {
	t.Helper()
	writeModel(t, path, data)
	m, err := runtime.Load(t.Context(), path, runtime.WithContextLength(128))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// shut closes a model, where a test looks at what is left of it.
func shut(t testing.TB, m *runtime.Model) {
	t.Helper()
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// held lists the mappings and open files that the process has below a directory,
// deleted ones too, where the system tells.
func held(dir string) (all []string) {
	maps, _ := os.ReadFile("/proc/self/maps") // none elsewhere than on Linux
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, dir+"/") {
			all = append(all, strings.TrimSpace(line))
		}
	}
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.Contains(to, dir+"/") {
			all = append(all, fd+" "+to)
		}
	}
	return all
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/tidwall/gjson"

	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/models/gguf"
	"github.com/dunlin-go/dunlin/tensor"
)

// asCommand makes the test binary be dunlin, for tests that signal a process.
const asCommand = "DUNLIN_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	testscript.Main(m, map[string]func(){"dunlin": main})
}

// process is dunlin as a process of its own.
func process(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), asCommand+"=1")
	return cmd
}

func tinyModel(seed uint64) []byte {
	return testmodel.Llama(testmodel.Config{Weights: tensor.Q4_1, HeadType: tensor.Q8_0, Seed: seed})
}

// TestScripts runs the command lines under testdata/script. They know, besides
// testscript's own commands,
//
//	tiny FILE          write a model that knows nothing
//	tiny -vocab FILE   write a file that holds only its vocabulary
//	tiny -base FILE    write one without a chat template
//	tiny -parts FILE   write the model in three files
//	json PATH REGEXP   demand that stdout is one JSON value in which the gjson
//	                   path has a value that the whole regexp matches
//	complains REGEXP   demand that stdout is empty and stderr one matching line
//
// and the condition [model]: $MODEL is the real model.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("DUNLIN_CACHE", e.WorkDir+"/cache")
			e.Setenv("MODEL", os.Getenv("DUNLIN_TEST_MODEL"))
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond == "model" {
				return os.Getenv("DUNLIN_TEST_MODEL") != "", nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"tiny": func(ts *testscript.TestScript, _ bool, args []string) {
				data := tinyModel(1)
				switch args[0] {
				case "-parts":
					parts := testmodel.Parts(data, 3)
					for i, part := range parts {
						ts.Check(os.WriteFile(ts.MkAbs(gguf.PartPath(args[1], i+1, len(parts))), part, 0o644))
					}
					return
				case "-base":
					data = testmodel.Llama(testmodel.Config{Template: "-"})
				case "-vocab":
					data = testmodel.Llama(testmodel.Config{Tensor: func(t *testmodel.Tensor) { t.Omit = true }})
				}
				ts.Check(os.WriteFile(ts.MkAbs(args[len(args)-1]), data, 0o644))
			},
			"json": func(ts *testscript.TestScript, neg bool, args []string) {
				out := ts.ReadFile("stdout")
				dec := json.NewDecoder(strings.NewReader(out))
				var v any
				if err := dec.Decode(&v); err != nil || dec.More() || !strings.HasSuffix(out, "\n") {
					ts.Fatalf("stdout is not one JSON value and a newline: %v", err)
				}
				got := gjson.Get(out, args[0])
				if match := got.Exists() && regexp.MustCompile("^(?:"+args[1]+")$").MatchString(got.String()); match == neg {
					ts.Fatalf("%s is %s, which %q matches: %v", args[0], got.Raw, args[1], match)
				}
			},
			"complains": func(ts *testscript.TestScript, _ bool, args []string) {
				if out := ts.ReadFile("stdout"); out != "" {
					ts.Fatalf("stdout has %q", out)
				}
				got := ts.ReadFile("stderr")
				if strings.Count(got, "\n") != 1 || !strings.HasPrefix(got, "dunlin: ") || !regexp.MustCompile(args[0]).MatchString(got) {
					ts.Fatalf("stderr is %q: not one line of dunlin's that %q matches", got, args[0])
				}
			},
		},
	})
}

func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DUNLIN_CACHE", dir)
	for _, tt := range []struct {
		args string
		want int
	}{
		{"version", 0},
		{"", 1},
		{"fly", 1},
		{"run", 1},
		{"run smollm2 hello", 1},
		{"run smollm2 hello --temp=warm", 1},
		{"inspect " + dir, 1},
	} {
		var out, errs bytes.Buffer
		code := dunlin(strings.Fields(tt.args), &stdio{strings.NewReader(""), &out, &errs})
		if code != tt.want || (code == 0) != (errs.Len() == 0) || (code == 0) != (out.Len() > 0) {
			t.Errorf("dunlin %s: exit code %d, stdout %q, stderr %q", tt.args, code, &out, &errs)
		}
	}
}

func TestInputIsBounded(t *testing.T) {
	std := &stdio{in: zeros{}}
	if _, err := std.readAll(t.Context()); err == nil || !strings.Contains(err.Error(), "more than 67108864 bytes") {
		t.Errorf("got %v", err)
	}
}

func TestInputIsInterrupted(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (&stdio{in: r}).readAll(ctx); err == nil {
		t.Error("a read that waits for ever was not given up")
	}
}

// zeros is an input without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

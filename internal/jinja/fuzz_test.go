package jinja

import (
	"errors"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"
	"time"
)

// fuzzSlack is what may be allocated beside what is counted: an error, and the
// levels of calls.
const fuzzSlack = 32 << 10

var fuzzLimits = Limits{SourceBytes: 1 << 14, Nesting: 60, Depth: 100, Steps: 20_000, MemoryBytes: 1 << 20, OutputBytes: 1 << 16}

func addSeeds(f *testing.F) {
	f.Helper()
	var goldens []golden
	readJSON(f, "golden_snippets.json", &goldens)
	for _, g := range goldens {
		f.Add(g.Template)
	}
	for _, h := range hostileTemplates() {
		if len(h.src) < 1<<10 { // the long ones repeat themselves
			f.Add(h.src)
		}
	}
	files, err := filepath.Glob("testdata/templates/*.jinja")
	if err != nil || len(files) == 0 {
		f.Fatalf("no templates: %v", err)
	}
	for _, name := range files {
		src, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(src))
	}
}

// FuzzParse: any text is a template or an error of a kind, for no more memory
// than package runtime prices it at.
func FuzzParse(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, src string) {
		var err error
		took := allocated(func() { _, err = Parse(src, fuzzLimits) })
		if priced := 256 * int64(len(src)); took > priced+fuzzSlack {
			t.Errorf("parsing %d bytes allocated %d", len(src), took)
		}
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Kind != ErrSyntax && e.Kind != ErrUnsupported && e.Kind != ErrBudget {
				t.Errorf("error without a kind: %v", err)
			}
		}
	})
}

// FuzzRender: a rendering ends within its limits, allocates what it has counted,
// and gives the same again.
func FuzzRender(f *testing.F) {
	addSeeds(f)
	data, err := os.ReadFile("testdata/variables.json")
	if err != nil {
		f.Fatal(err)
	}
	vars := variables(f, data)
	f.Fuzz(func(t *testing.T, src string) {
		checkCounted(t, src, vars)
		out, err := render(src, fuzzLimits, vars)
		again, err2 := render(src, fuzzLimits, vars)
		if out != again || (err == nil) != (err2 == nil) {
			t.Errorf("two renderings differ: %q, %v and %q, %v", out, err, again, err2)
		}
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Errorf("error without a kind: %v", err)
		}
		if int64(len(out)) > fuzzLimits.OutputBytes {
			t.Errorf("%d bytes of output", len(out))
		}
	})
}

// checkCounted renders and compares what was allocated with what was counted:
// texts with what they leave behind as they grow, a quarter at a time, and as they
// are quoted, which the
// garbage collector has, and for each step what it takes to make it.
func checkCounted(t *testing.T, src string, vars map[string]Value) {
	t.Helper()
	tmpl, err := Parse(src, fuzzLimits)
	if err != nil {
		return
	}
	e := &interp{
		meter: meter{ctx: t.Context(), limits: tmpl.limits}, out: new(strings.Builder), now: func() time.Time { return testNow }, vars: vars, scope: &scope{},
	}
	took := allocated(func() { _, err = e.block(tmpl.body) })
	if took > 8*(e.memory+e.output)+32*e.steps+fuzzSlack {
		t.Errorf("%d bytes were allocated: %d of values and %d of output were counted, and %d steps (%v)", took, e.memory, e.output, e.steps, err)
	}
}

// allocated is how many bytes f takes from the heap, freed or not.
func allocated(f func()) int64 {
	var before, after goruntime.MemStats
	goruntime.ReadMemStats(&before)
	f()
	goruntime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

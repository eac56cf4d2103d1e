package jinja

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// golden is an outcome that testdata/expected.py recorded from Jinja2.
type golden struct {
	Template string
	Out      *string
	Error    string // "parse", "undefined", "security", "raised" or "value"
	Message  string
}

func readJSON(t testing.TB, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// variables decodes the members of a JSON object.
func variables(t testing.TB, data []byte) map[string]Value {
	t.Helper()
	v, err := FromJSON(data)
	if err != nil {
		t.Fatal(err)
	}
	vars := map[string]Value{}
	for k, v := range v.(*Dict).All() {
		vars[string(k.(String))] = v
	}
	return vars
}

var testNow = time.Date(2024, 7, 26, 9, 5, 3, 42000, time.UTC)

func render(src string, limits Limits, vars map[string]Value) (string, error) {
	t, err := Parse(src, limits)
	if err != nil {
		return "", err
	}
	return t.WithClock(func() time.Time { return testNow }).Render(context.Background(), vars)
}

// compare says how an outcome differs from the recorded one, or "".
func (g golden) compare(out string, err error) string {
	var e *Error
	switch {
	case g.Out != nil && err != nil:
		return fmt.Sprintf("got error %v\nwant %q", err, *g.Out)
	case g.Out != nil && out != *g.Out:
		return fmt.Sprintf("got  %q\nwant %q", out, *g.Out)
	case g.Out != nil:
		return ""
	case err == nil:
		return fmt.Sprintf("got %q, want a %s error", out, g.Error)
	case !errors.As(err, &e):
		return fmt.Sprintf("error %v has no *Error", err)
	}
	ok := true
	switch g.Error {
	case "parse":
		ok = e.Kind == ErrSyntax || e.Kind == ErrUnsupported
	case "undefined":
		ok = e.Kind == ErrUndefined
	case "security":
		ok = e.Kind == ErrUnsupported
	case "raised":
		ok = e.Kind == ErrRaised && e.Detail == g.Message
	case "value":
		ok = e.Kind == ErrValue || e.Kind == ErrUnsupported || e.Resource == RangeItems
	}
	if !ok {
		return fmt.Sprintf("got error %v, want a %s error %q", err, g.Error, g.Message)
	}
	return ""
}

// refusedSnippets are what Jinja2 renders and this package refuses by name.
var refusedSnippets = map[string]string{
	`{% for x in list recursive %}{{ x }}{% endfor %}`: "recursive for loop",
}

func TestSnippets(t *testing.T) {
	var goldens []golden
	readJSON(t, "golden_snippets.json", &goldens)
	data, err := os.ReadFile("testdata/variables.json")
	if err != nil {
		t.Fatal(err)
	}
	vars := variables(t, data)
	for _, g := range goldens {
		out, err := render(g.Template, Limits{}, vars)
		if name, ok := refusedSnippets[g.Template]; ok {
			var e *Error
			if !errors.As(err, &e) || e.Kind != ErrUnsupported || e.Detail != name {
				t.Errorf("%s\ngot %q, %v, want it refused as %s", g.Template, out, err, name)
			}
			continue
		}
		if diff := g.compare(out, err); diff != "" {
			t.Errorf("%s\n%s", g.Template, diff)
		}
	}
}

func TestTemplates(t *testing.T) {
	var goldens map[string]map[string]golden
	readJSON(t, "golden_templates.json", &goldens)
	compareTemplates(t, filepath.Join("testdata", "templates"), goldens)
}

// TestOtherTemplates compares the renderings of any directory of templates with
// what testdata/expected.py wrote for it.
func TestOtherTemplates(t *testing.T) {
	dir, file := os.Getenv("JINJA_TEMPLATES"), os.Getenv("JINJA_GOLDEN")
	if dir == "" || file == "" {
		t.Skip("JINJA_TEMPLATES and JINJA_GOLDEN name no templates and their renderings")
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var goldens map[string]map[string]golden
	if err := json.Unmarshal(data, &goldens); err != nil {
		t.Fatal(err)
	}
	compareTemplates(t, dir, goldens)
}

func compareTemplates(t *testing.T, dir string, goldens map[string]map[string]golden) {
	var conversations map[string]json.RawMessage
	readJSON(t, "conversations.json", &conversations)
	for name, cases := range goldens {
		t.Run(name, func(t *testing.T) {
			src, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			for conversation, g := range cases {
				vars := variables(t, conversations[conversation])
				vars["bos_token"], vars["eos_token"] = String("<s>"), String("</s>")
				out, err := render(string(src), Limits{}, vars)
				if diff := g.compare(out, err); diff != "" {
					t.Errorf("%s:\n%s", conversation, diff)
				}
			}
		})
	}
}

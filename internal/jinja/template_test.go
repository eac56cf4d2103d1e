package jinja

import (
	"context"
	"errors"
	"sync"
	"testing"
)

func TestFromJSON(t *testing.T) {
	v, err := FromJSON([]byte(`{"z": 1, "a": 1.0, "z": [null, true, "x"]}`))
	if err != nil {
		t.Fatal(err)
	}
	out, err := render("{{ v }}{{ v|tojson }}", Limits{}, map[string]Value{"v": v})
	if want := `{'z': [None, True, 'x'], 'a': 1.0}{"z": [null, true, "x"], "a": 1.0}`; out != want || err != nil {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
	for _, bad := range []string{"", "{", "[1,]", `{"a"}`, "1 2", "9223372036854775808", "nul", string(make([]byte, 3))} {
		if v, err := FromJSON([]byte(bad)); err == nil {
			t.Errorf("%q gave %v, want an error", bad, v)
		}
	}
	deep := make([]byte, 100_000)
	for i := range deep {
		deep[i] = '['
	}
	if _, err := FromJSON(deep); !errors.Is(err, ErrBudget) {
		t.Errorf("deep JSON: %v, want %v", err, ErrBudget)
	}
}

func TestValuesFromGo(t *testing.T) {
	d := NewDict()
	d.Set("role", String("user"))
	d.Set("n", Int(2))
	d.Set("role", String("tool"))
	out, err := render("{{ m[0].role }}{{ m[0]|tojson }}{{ m|length }}", Limits{}, map[string]Value{"m": NewList(d, None, Float(2), Bool(true))})
	if want := `tool{"role": "tool", "n": 2}4`; out != want || err != nil {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
}

func TestErrors(t *testing.T) {
	tests := []struct {
		src    string
		kind   error
		line   int
		detail string
	}{
		{"a\n{% frob %}", ErrUnsupported, 2, `tag "frob"`},
		{"a\n\n{{ x|frob }}", ErrUnsupported, 3, `filter "frob"`},
		{"{{ x is frob }}", ErrUnsupported, 1, `test "frob"`},
		{"{{ [1]|map('frob') }}", ErrUnsupported, 1, `filter "frob"`},
		{"\n{{ 'x'.encode() }}", ErrUnsupported, 2, "method str.encode"},
		{"{{ [].append(1) }}", ErrUnsupported, 1, "method list.append"},
		{"{{ ''.__class__.mro }}", ErrUnsupported, 1, "method str.__class__"},
		{"{{ cycler(1) }}", ErrUnsupported, 1, `global "cycler"`},
		{"{{ strftime_now('%Q') }}", ErrUnsupported, 1, `strftime directive "%Q"`},
		{"\n\n{{ raise_exception('no\n way') }}", ErrRaised, 3, "no\n way"},
		{"{% if x %}\n{{ y.z }}{% endif %}", ErrUndefined, 2, "'y' is undefined"},
		{"{{ x.y.z }}", ErrUndefined, 1, "'int object' has no attribute 'y'"},
		{"{{ 9223372036854775807 + 1 }}", ErrValue, 1, "integer outside 64 bits"},
		{"{{ -9223372036854775807 - 2 }}", ErrValue, 1, "integer outside 64 bits"},
		{"{{ 9223372036854775807 * 2 }}", ErrValue, 1, "integer outside 64 bits"},
		{"{{ 10 ** 19 }}", ErrValue, 1, "integer outside 64 bits"},
		{"{{ '99999999999999999999'|int }}", ErrValue, 1, "integer outside 64 bits"},
		{"{{ 99999999999999999999 }}", ErrUnsupported, 1, "integer outside 64 bits"},
		{"x\n{{ 1 +", ErrSyntax, 2, "unexpected end of template"},
		{"\xff", ErrSyntax, 1, "the template is not UTF-8"},
	}
	for _, tt := range tests {
		out, err := render(tt.src, Limits{}, map[string]Value{"x": Int(1)})
		var e *Error
		if !errors.As(err, &e) || e.Kind != tt.kind || e.Line != tt.line || e.Detail != tt.detail {
			t.Errorf("%q: got %q, %#v, want %v, line %d, %q", tt.src, out, err, tt.kind, tt.line, tt.detail)
		}
	}
}

func TestConcurrentRenders(t *testing.T) {
	tmpl, err := Parse(`{% set ns = namespace(n=0) %}{% for x in l %}{% set ns.n = ns.n + x %}{% endfor %}{{ ns.n }}{{ l|tojson }}`, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	vars := map[string]Value{"l": NewList(Int(1), Int(2))}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if out, err := tmpl.Render(context.Background(), vars); out != "3[1, 2]" || err != nil {
					t.Errorf("got %q, %v", out, err)
				}
			}
		})
	}
	wg.Wait()
}

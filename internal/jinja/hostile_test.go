package jinja

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// hostileLimits are a fifth of the default ones, to be quick.
var hostileLimits = Limits{Steps: 2_000_000, MemoryBytes: 50 << 20, OutputBytes: 12 << 20}

// hostile is a template that would take all memory, all time or the whole stack,
// and the limit that it meets.
type hostile struct {
	name, src string
	want      Resource
}

func hostileTemplates() []hostile {
	deep := func(open, end string) string {
		return strings.Repeat(open, 100_000) + "1" + strings.Repeat(end, 100_000)
	}
	return []hostile{
		{"recursive macro", `{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}`, Depth},
		{"mutual macros", `{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}`, Depth},
		{"branching macro", `{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}`, Depth},
		{"default that calls", `{% macro f(x=f()) %}{% endmacro %}{{ f() }}`, Depth},
		{"call block recursion", `{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{% endmacro %}{{ f() }}`, Depth},
		{"parentheses", "{{ " + deep("(", ")") + " }}", Nesting},
		{"brackets", "{{ " + deep("[", "]") + " }}", Nesting},
		{"braces", "{{ " + deep("{1:", "}") + " }}", Nesting},
		{"nots", "{{ " + deep("not ", "") + " }}", Nesting},
		{"signs", "{{ " + deep("-", "") + " }}", Nesting},
		{"indexes", "{{ x" + deep("[", "]") + " }}", Nesting},
		{"attributes", "{{ x" + deep(".x", "") + " }}", Nesting},
		{"filters", "{{ x" + deep("|e", "") + " }}", Nesting},
		{"inline ifs", "{{ 1" + strings.Repeat(" if 1 else 1", 50_000) + " }}", Nesting},
		{"inline ifs without else", "{{ 1" + strings.Repeat(" if 1", 50_000) + " }}", Nesting},
		{"targets", "{% set " + deep("(", ")") + " = 1 %}", Nesting},
		{"if blocks", strings.Repeat("{% if 1 %}", 50_000), Nesting},
		{"for blocks", strings.Repeat("{% for x in y %}", 50_000), Nesting},
		{"long source", strings.Repeat("x", 2<<20), SourceBytes},
		{"doubling", `{% set ns = namespace(s="x") %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}`, MemoryBytes},
		{"doubling with +", `{% set ns = namespace(s="x") %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}`, MemoryBytes},
		{"doubling by join", `{% set ns = namespace(s="xx") %}{% for i in range(100) %}{% set ns.s = [ns.s, ns.s]|join %}{% endfor %}`, MemoryBytes},
		{"doubling by replace", `{% set ns = namespace(s="xx") %}{% for i in range(100) %}{% set ns.s = ns.s.replace("x", "xx") %}{% endfor %}`, Steps},
		{"doubling a list", `{% set ns = namespace(s=[1]) %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}`, MemoryBytes},
		{"doubling in a block", `{% set ns = namespace(s="x") %}{% for i in range(100) %}{% set ns.s %}{{ ns.s }}{{ ns.s }}{% endset %}{% endfor %}`, MemoryBytes},
		{"doubling text of lists", `{% set ns = namespace(l=[1]) %}{% for i in range(100) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}`, Steps},
		{"doubling JSON", `{% set ns = namespace(l=[1]) %}{% for i in range(100) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l|tojson }}`, Steps},
		{"comparing doubled lists", `{% set a = namespace(l=[1]) %}{% set b = namespace(l=[1]) %}{% for i in range(100) %}{% set a.l = [a.l, a.l] %}{% set b.l = [b.l, b.l] %}{% endfor %}{{ a.l == b.l }}`, Steps},
		{"text times a billion", `{{ "a" * 10**9 }}`, MemoryBytes},
		{"text times overflow", `{{ "ab" * 9223372036854775807 }}`, MemoryBytes},
		{"list times a billion", `{{ [1] * 10**9 }}`, MemoryBytes},
		{"empty list times a lot", `{{ ("x" * 100) * 10**17 }}`, MemoryBytes},
		{"range", `{{ range(10**18)|list }}`, RangeItems},
		{"range backwards", `{{ range(9223372036854775807, -9223372036854775807, -1)|list }}`, RangeItems},
		{"center", `{{ "a"|center(10**12) }}`, MemoryBytes},
		{"zfill", `{{ "1".zfill(10**12) }}`, MemoryBytes},
		{"indent", `{{ "a\nb"|indent(10**12) }}`, MemoryBytes},
		{"json indent", `{{ [1]|tojson(indent=10**12) }}`, MemoryBytes},
		{"format width", `{{ "%2000000000d" % 1 }}`, MemoryBytes},
		{"format precision", `{{ "%.2000000000d" % 1 }}`, MemoryBytes},
		{"batch fill", `{{ [1]|batch(10**12, 0)|list }}`, MemoryBytes},
		{"slice", `{{ [1]|slice(10**12)|list }}`, Steps},
		{"nested loops", `{% for a in range(1000) %}{% for b in range(1000) %}{% for c in range(1000) %}{% endfor %}{% endfor %}{% endfor %}`, ""},
		{"large output", `{% for a in range(100000) %}` + strings.Repeat("x", 1000) + `{% endfor %}`, OutputBytes},
		{"growing namespace", `{% set ns = namespace(d={}) %}{% for a in range(100000) %}{% for b in range(100) %}{% set ns.d = {a: ns.d} %}{% endfor %}{% endfor %}`, ""},
		{"namespace in itself", `{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}`, Depth},
		{"namespace in its list", `{% set ns = namespace() %}{% set ns.me = [ns] %}{{ ns.me }}`, Depth},
		{"nested lists", `{% set ns = namespace(l=[]) %}{% for i in range(5000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l|tojson }}`, Depth},
		{"nested tuple as a key", `{% set ns = namespace(l=()) %}{% for i in range(5000) %}{% set ns.l = (ns.l,) %}{% endfor %}{{ {ns.l: 1} }}`, Depth},
		{"chained generators", `{% set ns = namespace(l=[1]) %}{% for i in range(5000) %}{% set ns.l = ns.l|map("string") %}{% endfor %}{{ ns.l|list }}`, Depth},
		{"white space", strings.Repeat(" ", 500_000) + "{%- if 1 -%}" + strings.Repeat(" ", 500_000) + `{% for i in range(100000) %}{{ "` + strings.Repeat(" ", 1000) + `".strip().split() }}{% for j in range(100) %}{{ j }}{% endfor %}{% endfor %}`, ""},
		{"scanning", `{% set s = "x" * 10**7 %}{% for i in range(100000) %}{{ "y" in s }}{% endfor %}`, Steps},
		{"indexing", `{% set s = "é" * 10**6 %}{% for i in range(100000) %}{{ s[-1] }}{% endfor %}`, Steps},
		{"stripping", `{% set s = "x" * 10**6 %}{% for i in range(100000) %}{{ s.strip(s) }}{% endfor %}`, ""},
		{"sorting", `{% set l = range(100000)|list * 10 %}{% for i in range(100) %}{% set m = l|sort(reverse=true) %}{% endfor %}`, ""},
	}
}

// TestHostile wants each to end soon with the limit it met.
func TestHostile(t *testing.T) {
	for _, tt := range hostileTemplates() {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now()
			out, err := render(tt.src, hostileLimits, nil)
			took := time.Since(start)
			var e *Error
			switch {
			case tt.name == "white space" && errors.As(err, &e) && e.Kind == ErrSyntax: // the if has no end
			case !errors.As(err, &e) || e.Kind != ErrBudget:
				t.Errorf("got %.40q, %v, want %v", out, err, ErrBudget)
			case tt.want != "" && e.Resource != tt.want:
				t.Errorf("got %v, want the limit of %s", err, tt.want)
			}
			if took > 10*time.Second { // about 1 s alone on a machine
				t.Errorf("took %v", took)
			}
		})
	}
}

// TestManyLevels checks that what is flat to a reader is no deep nesting.
func TestManyLevels(t *testing.T) {
	for _, src := range []string{
		"{{ 1" + strings.Repeat(" + 1", 20_000) + " }}",
		"{{ 1" + strings.Repeat(" ~ 1", 20_000) + " }}",
		"{{ 0" + strings.Repeat(" or 0", 20_000) + " }}",
		"{{ 1" + strings.Repeat(" < 2 > 1", 20_000) + " }}",
		"{% if 0 %}" + strings.Repeat("{% elif 0 %}", 20_000) + "{% endif %}",
		"{{ [" + strings.Repeat("1, ", 20_000) + "] }}",
	} {
		if _, err := render(src, Limits{}, nil); err != nil {
			t.Errorf("%.30s...: %v", src, err)
		}
	}
}

func TestCancel(t *testing.T) {
	tmpl, err := Parse(`{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}`, Limits{Steps: 1 << 60, MemoryBytes: 1 << 60})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	start := time.Now()
	out, err := tmpl.Render(ctx, nil)
	if out != "" || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %q, %v, want a deadline exceeded", out, err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	cancelled, cancelNow := context.WithCancel(context.Background())
	cancelNow()
	if _, err := tmpl.Render(cancelled, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before the start: %v", err)
	}
}

package hub

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("DUNLIN_CACHE", filepath.Join(dir, "cache"))
	if err := os.Mkdir("default", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a.gguf", "smollm2-135m-instruct-q4_1"} {
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		in   string
		path string
		err  error
		text string
	}{
		{"a.gguf", "a.gguf", nil, ""},
		{"./a.gguf", "./a.gguf", nil, ""},
		{"smollm2-135m-instruct-q4_1", "smollm2-135m-instruct-q4_1", nil, ""}, // a file of that name goes first
		{"smollm2", "", ErrNotPulled, "dunlin pull smollm2-135m-instruct-q4_1"},
		{"SmolLM2", "", ErrNotPulled, "dunlin pull smollm2-135m-instruct-q4_1"},
		{"default", "", ErrNotPulled, "dunlin pull"}, // a folder doesn't
		{".", "", ErrNotFound, "directory"},
		{"b.gguf", "", ErrNotFound, "b.gguf"},
		{"no/such", "", ErrNotFound, "no/such"},
		{"llama", "", ErrNotFound, "the catalogue (which has smollm2-135m-instruct-q4_1 or smollm2 or default, gemma3-270m-q4_k_m or gemma3-270m)"},
		{"", "", ErrNotFound, `""`},
		{strings.Repeat("x", 5000), "", nil, "name too long"},
	}
	for _, tt := range tests {
		path, err := Resolve(tt.in)
		if path != tt.path || (tt.err != nil && !errors.Is(err, tt.err)) || (err == nil) != (tt.text == "") {
			t.Errorf("Resolve(%.20q) = %q, %v", tt.in, path, err)
		}
		if err != nil && !strings.Contains(err.Error(), tt.text) {
			t.Errorf("Resolve(%.20q): %q says nothing of %q", tt.in, err, tt.text)
		}
	}
}

func TestID(t *testing.T) {
	t.Chdir(t.TempDir())
	for in, want := range map[string]string{
		"smollm2":                        "smollm2-135m-instruct-q4_1",
		"DEFAULT":                        "smollm2-135m-instruct-q4_1",
		"dir/SmolLM2-135M.Q4_1.gguf":     "SmolLM2-135M.Q4_1",
		"x.GGUF":                         "x",
		"x.bin":                          "x.bin",
		".gguf":                          ".gguf",
		"dir/x-00002-of-00003.gguf":      "x",
		"-00002-of-00003.gguf":           ".gguf",
		"dir/smollm2-135m-instruct-q4_1": "smollm2-135m-instruct-q4_1",
	} {
		if got := ID(in); got != want {
			t.Errorf("ID(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestDir(t *testing.T) {
	t.Setenv("DUNLIN_CACHE", "")
	base, err := os.UserCacheDir()
	if err != nil {
		t.Skip("this system has no cache directory: ", err)
	}
	if got, err := Dir(); err != nil || got != filepath.Join(base, "dunlin", "models") {
		t.Errorf("Dir() = %q, %v", got, err)
	}
}

func TestCatalogue(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range Catalogue() {
		for _, n := range append(m.Aliases, m.Name) {
			if n != strings.ToLower(n) || filepath.Base(n) != n || seen[n] {
				t.Errorf("%q is no good name: upper case, a path, or taken", n)
			}
			seen[n] = true
		}
		sums := []string{m.SHA256}
		for _, w := range m.Wheels {
			sums = append(sums, w.SHA256)
			if w.Bytes <= 0 || w.Package == "" || w.Version == "" || w.Member == "" {
				t.Errorf("%s: a field of a wheel is missing", m.Name)
			}
		}
		for _, s := range sums {
			if b, err := hex.DecodeString(s); err != nil || len(b) != 32 || seen[s] {
				t.Errorf("%s: %q is no SHA-256, or another's", m.Name, s)
			}
			seen[s] = true
		}
		if m.Bytes <= 0 || len(m.Wheels) == 0 || m.License == "" {
			t.Errorf("%s: a field is missing", m.Name)
		}
	}
	if _, ok := Find(DefaultName); !ok {
		t.Errorf("the default model %q is not in the catalogue", DefaultName)
	}
	Catalogue()[0].Aliases[0] = "changed"
	Catalogue()[0].Wheels[0].Package = "changed"
	if _, ok := Find("changed"); ok || Catalogue()[0].Wheels[0].Package == "changed" {
		t.Error("the catalogue can be changed from outside")
	}
}

package gguf

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestPartPaths(t *testing.T) {
	dir := filepath.Join("some where", "a-00001-of-00002.gguf") // a directory may be called so
	three := func(path string) []string {
		return []string{path + "-00001-of-00003.gguf", path + "-00002-of-00003.gguf", path + "-00003-of-00003.gguf"}
	}
	for _, test := range []struct {
		path  string
		want  []string // nil: path alone
		whole string   // "": path
	}{
		{"m-00001-of-00003.gguf", three("m"), "m.gguf"},
		{"m-00002-of-00003.gguf", three("m"), "m.gguf"}, // any part stands for all
		{"m-00003-of-00003.gguf", three("m"), "m.gguf"},
		{filepath.Join(dir, "m-Q4.1-00003-of-00003.gguf"), three(filepath.Join(dir, "m-Q4.1")), filepath.Join(dir, "m-Q4.1.gguf")},
		{"-00001-of-00003.gguf", three(""), ".gguf"},
		{"a-00001-of-00002-00001-of-00003.gguf", three("a-00001-of-00002"), "a-00001-of-00002.gguf"},
		{"m-00001-of-00001.gguf", []string{"m-00001-of-00001.gguf"}, "m.gguf"},

		{"m.gguf", nil, ""},
		{"", nil, ""},
		{".gguf", nil, ""},
		{dir + "x", nil, ""},
		{"m-1-of-2.gguf", nil, ""},
		{"m-0001-of-0002.gguf", nil, ""},
		{"m-000001-of-000002.gguf", nil, ""},
		{"m-00001-of-2.gguf", nil, ""},
		{"m-+0001-of-00002.gguf", nil, ""},
		{"m-0x001-of-00002.gguf", nil, ""},
		{"m00001-of-00002.gguf", nil, ""},
		{"m-00001of-00002.gguf", nil, ""},
		{"m-00001-of-00002", nil, ""},
		{"m-00001-of-00002.bin", nil, ""},
		{"m-00001-of-00002.gguf.part", nil, ""},
		{"m-00001-of-" + strings.Repeat("9", 30) + ".gguf", nil, ""},
	} {
		want, whole := test.want, test.whole
		if want == nil {
			want, whole = []string{test.path}, test.path
		}
		got, err := PartPaths(test.path)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("PartPaths(%q) = %q, %v, want %q", test.path, got, err, want)
		}
		if got := TrimPart(test.path); got != whole {
			t.Errorf("TrimPart(%q) = %q, want %q", test.path, got, whole)
		}
	}
	paths, err := PartPaths("m-00007-of-01024.gguf")
	if err != nil || len(paths) != MaxParts || paths[MaxParts-1] != "m-01024-of-01024.gguf" {
		t.Errorf("%d paths, %v", len(paths), err)
	}
}

func TestPartPathsRefused(t *testing.T) {
	for path, test := range map[string]struct {
		want error
		says string
	}{
		filepath.Join("dir", "m-00003-of-00002.gguf"):      {ErrFormat, `gguf: "m-00003-of-00002.gguf": malformed file: by its name part 3 of 2`},
		"m-00000-of-00002.gguf":                            {ErrFormat, "part 0 of 2"},
		"m-00000-of-00000.gguf":                            {ErrFormat, "part 0 of 0"},
		"m-00001-of-00000.gguf":                            {ErrFormat, "part 1 of 0"},
		"m-00001-of-01025.gguf":                            {ErrLimit, "1025 parts, at most 1024"},
		"m-99999-of-99999.gguf":                            {ErrLimit, "99999 parts"},
		"m-00001-of-2147483648.gguf":                       {ErrLimit, "2147483648 parts"},
		"m-00001-of-18446744073709551615.gguf":             {ErrLimit, ""},
		"m-18446744073709551615-of-00002.gguf":             {ErrFormat, ""},
		"line\nbreak-00003-of-00002.gguf":                  {ErrFormat, `"line\nbreak`},
		strings.Repeat("x", 1000) + "-00003-of-00002.gguf": {ErrFormat, `x"...`},
	} {
		paths, err := PartPaths(path)
		if !errors.Is(err, test.want) || paths != nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("PartPaths(%q) = %q, %v, want %v that says %q", path, paths, err, test.want, test.says)
		}
	}
}

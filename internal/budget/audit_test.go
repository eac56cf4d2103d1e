package budget

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// allocates finds what makes memory of a size that may be anybody's.
var allocates = regexp.MustCompile(`\b(make|append)\(|\bio\.ReadAll\(|\bos\.ReadFile\(|\b(strings\.Builder|bytes\.Buffer)\b|` +
	`\bslices\.(Clone|Collect|Grow|Sorted)\w*\(|\bmaps\.Clone\(|\bstrings\.(Clone|Repeat|Join|Replace|ReplaceAll|Split|Fields)\(|\[\](byte|rune)\(|\bjson\.(Marshal|Unmarshal|NewDecoder)\w*\(`)

// TestEveryAllocationIsListed: docs/memory.md has a section for each package that a
// file's or a request's bytes reach, and names in it each file that allocates, and
// no others.
func TestEveryAllocationIsListed(t *testing.T) {
	root := filepath.Join("..", "..")
	doc, err := os.ReadFile(filepath.Join(root, "docs", "memory.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, audit, _ := strings.Cut(string(doc), "\n## The audit\n")
	sections := strings.Split(audit, "\n### ")[1:]
	if len(sections) < 16 {
		t.Errorf("there are %d sections", len(sections))
	}
	name := regexp.MustCompile("`([a-z0-9_]+\\.go)`")
	for _, s := range sections {
		dir, text, _ := strings.Cut(s, "\n")
		listed := map[string]bool{}
		for _, m := range name.FindAllStringSubmatch(text, -1) {
			listed[m[1]] = true
		}
		files, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(dir), "*.go"))
		if err != nil || len(files) == 0 {
			t.Errorf("%s: no such package (%v)", dir, err)
		}
		for _, path := range files {
			base := filepath.Base(path)
			if strings.HasSuffix(base, "_test.go") {
				continue
			}
			code, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if at := allocates.FindIndex(withoutComments(code)); at != nil && !listed[base] {
				t.Errorf("%s/%s allocates, and docs/memory.md doesn't say how that is bounded", dir, base)
			}
			delete(listed, base)
		}
		for base := range listed {
			t.Errorf("docs/memory.md names %s in %s, which isn't there", base, dir)
		}
	}
}

// withoutComments leaves out the lines that are comments.
func withoutComments(code []byte) []byte {
	return regexp.MustCompile(`(?m)^\s*//.*$`).ReplaceAll(code, nil)
}

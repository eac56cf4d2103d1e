//go:build !purego

package kernel

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestFeatures compares what the assembly says it requires with what a set is only
// chosen for. What every amd64 of Go's first level has isn't asked for.
func TestFeatures(t *testing.T) {
	requires := regexp.MustCompile(`(?m)^// Requires: (.*)$`)
	baseline := []string{"SSE", "SSE2", "MMX", "MMX+", "CMOV"}
	implied := []string{"AVX"} // by AVX2
	need2, need512 := needs()
	for file, need := range map[string][]feature{"avx2_amd64.s": need2, "avx512_amd64.s": need512} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := requires.FindAllStringSubmatch(string(text), -1)
		if len(found) == 0 {
			t.Fatalf("%s says nothing of what it requires", file)
		}
		for _, m := range found {
			for _, name := range strings.Split(m[1], ", ") {
				if slices.Contains(baseline, name) || slices.Contains(implied, name) {
					continue
				}
				name = strings.NewReplacer("AVX512VNNI", "AVX512_VNNI", "FMA3", "FMA").Replace(name)
				if !slices.ContainsFunc(need, func(f feature) bool { return f.name == name }) {
					t.Errorf("%s requires %s, which nobody asks for", file, name)
				}
			}
		}
	}
}

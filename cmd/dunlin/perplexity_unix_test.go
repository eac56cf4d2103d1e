//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPerplexityInterrupted signals the command within a window that takes much
// longer than the test waits.
func TestPerplexityInterrupted(t *testing.T) {
	dir := t.TempDir()
	model, text := filepath.Join(dir, "m.gguf"), filepath.Join(dir, "text")
	if err := os.WriteFile(model, slowModel(), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(text, []byte(strings.Repeat("dunlin ", 1<<14)), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := process(t, "perplexity", model, text, "--ctx", "32768", "--activations", "f32")
	checkInterrupted(t, cmd, nil, os.Interrupt)
}

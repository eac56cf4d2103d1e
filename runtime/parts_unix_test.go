//go:build unix

package runtime_test

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/models/gguf"
	"github.com/dunlin-go/dunlin/runtime"
)

// A model in several files is one model, whichever part is named: the same answers,
// one name, and each file's mapping is shared and watched.
func TestModelInParts(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	const count = 3
	dir := t.TempDir()
	whole := openAt(t, filepath.Join(dir, "whole.gguf"), mediumModel())
	want := answersOf(t, whole, 6)
	shut(t, whole)
	parts := make([]string, count)
	for i, data := range testmodel.Parts(mediumModel(), count) {
		parts[i] = gguf.PartPath(filepath.Join(dir, "of", "model.gguf"), i+1, count)
		writeModel(t, parts[i], data)
	}

	var models []*runtime.Model
	for _, path := range parts {
		m, err := runtime.Load(t.Context(), path, runtime.WithContextLength(128))
		if err != nil {
			t.Fatal(err)
		}
		if id := m.Info().ID; id != "model" {
			t.Errorf("it is called %q", id)
		}
		size := int64(0)
		for _, path := range parts {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			size += info.Size()
		}
		if s := m.Stats(); m.Info().FileBytes != size || s.WeightsBytes != size {
			t.Errorf("%d and %d bytes, want %d", m.Info().FileBytes, s.WeightsBytes, size)
		}
		for i := range want {
			check(t, "a model in parts", m, want, i)
		}
		models = append(models, m)
	}
	for _, m := range runtime.ReadWeights().Mappings {
		if filepath.Dir(m.Path) == filepath.Dir(parts[0]) && m.Handles != len(models) {
			t.Errorf("%s has %d handles", m.Path, m.Handles)
		}
	}

	// A damaged part is everybody's; one that is missing is told by its name.
	if err := os.Truncate(parts[1], 4096); err != nil {
		t.Fatal(err)
	}
	for _, m := range models {
		if _, err := runtime.Generate(t.Context(), m, want[0].req); runtime.CodeOf(err) != runtime.CodeModelChanged {
			t.Errorf("a cut part: %v", err)
		}
		shut(t, m)
	}
	if err := os.Remove(parts[1]); err != nil {
		t.Fatal(err)
	}
	if _, err := runtime.Load(t.Context(), parts[0]); runtime.CodeOf(err) != runtime.CodeModelNotFound || !contains(err, filepath.Base(parts[1])) {
		t.Errorf("a missing part: %v", err)
	}
	if _, err := runtime.Load(t.Context(), gguf.PartPath(filepath.Join(dir, "model.gguf"), 3, 2)); runtime.CodeOf(err) != runtime.CodeInvalidModel {
		t.Errorf("part 3 of 2: %v", err)
	}
	if left := held(dir); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

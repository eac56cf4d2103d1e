package runtime_test

import (
	"strings"
	"testing"

	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/runtime"
)

// TestBrokenTemplateKeepsNoMemory: a template that can't be used takes as much of the
// budget as one that isn't there.
func TestBrokenTemplateKeepsNoMemory(t *testing.T) {
	used := func(template string) int64 {
		m := tiny(t, testmodel.Config{Template: template}, runtime.WithKVCacheBytes(1<<16), runtime.WithMemoryLimit(1<<30))
		_, err := m.ApplyTemplate(t.Context(), []runtime.Message{{Role: "user"}}, true)
		if works := !strings.HasPrefix(template, "{% for") && template != "-"; (err == nil) != works {
			t.Errorf("template %.10q: %v", template, err)
		}
		return m.Stats().BudgetUsed
	}
	none := used("-")
	if n := used("{% for " + strings.Repeat("x", 100<<10)); n != none {
		t.Errorf("%d bytes, %d without a template", n, none)
	}
	if n := used(strings.Repeat("x", 100<<10)); n <= none {
		t.Errorf("one that works: %d bytes, %d without a template", n, none)
	}
}

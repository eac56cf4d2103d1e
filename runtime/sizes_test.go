package runtime

import (
	"errors"
	goruntime "runtime"
	"strings"
	"testing"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/internal/jinja"
	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/models/gguf"
	"github.com/dunlin-go/dunlin/tokenizer"
)

// TestLongTextsArentCopied: of texts that are too long to be of use, no more is copied
// than says so.
func TestLongTextsArentCopied(t *testing.T) {
	const size = 32 << 20
	long := strings.Repeat("x", size)
	const name, template = "tokenizer.ggml.model", "tokenizer.chat_template"
	f, err := gguf.Parse(testmodel.Llama(testmodel.Config{Keys: map[string]any{name: long, template: long}}), budget.New(1<<30).Lease())
	if err != nil {
		t.Fatal(err)
	}
	allocated := func(do func()) uint64 {
		var before, after goruntime.MemStats
		goruntime.ReadMemStats(&before)
		do()
		goruntime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	b := budget.New(1 << 30)
	n := allocated(func() {
		if got := newChatTemplate(f, nil, b, b.Lease()); !errors.Is(got.err, jinja.ErrBudget) {
			t.Errorf("a template of %d bytes: %v", size, got.err)
		}
	})
	if n > size/2 {
		t.Errorf("a template that is refused: %d bytes were allocated", n)
	}
	n = allocated(func() {
		if _, err := tokenizer.New(metadataSource{f}, b.Lease()); !errors.Is(err, tokenizer.ErrUnsupported) {
			t.Errorf("an algorithm with a name of %d bytes: %v", size, err)
		}
	})
	if n > size/2 {
		t.Errorf("an algorithm that is refused: %d bytes were allocated", n)
	}
}

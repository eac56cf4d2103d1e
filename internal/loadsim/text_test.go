package loadsim

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/dunlin-go/dunlin/runtime"
)

func TestWords(t *testing.T) {
	if len(words) != 256 {
		t.Errorf("%d words", len(words))
	}
	sorted := slices.Sorted(slices.Values(words))
	if n := len(slices.Compact(sorted)); n != len(words) {
		t.Errorf("%d words are different", n)
	}
	for _, w := range words {
		if len(w)+1 > maxWordBytes {
			t.Errorf("%q is longer than is reserved", w)
		}
	}
}

// TestText: equal blocks give equal beginnings, and nothing else does.
func TestText(t *testing.T) {
	tr := &Trace{BlockTokens: 16, Entries: []Entry{
		{Input: 40, Blocks: []int64{1, 2, 3}},
		{Input: 60, Blocks: []int64{1, 2, 3, 4}},
		{Input: 40, Blocks: []int64{1, 2}},
		{Input: 40, Blocks: []int64{1, 2}},
		{Input: 40, Blocks: []int64{5, 2}},
	}}
	var texts []string
	for i, e := range tr.Entries {
		text := tr.text(i, 7)
		if n := len(strings.Fields(text)); n != e.Input || strings.TrimSpace(text) != text {
			t.Errorf("text %d has %d words, want %d: %q", i, n, e.Input, text)
		}
		if text != tr.text(i, 7) {
			t.Errorf("text %d differs from itself", i)
		}
		if text == tr.text(i, 8) {
			t.Errorf("text %d doesn't depend on the seed", i)
		}
		texts = append(texts, text)
	}
	if !strings.HasPrefix(texts[1], texts[0]) {
		t.Error("a block that is cut doesn't begin like the whole one")
	}
	same := func(a, b int) (n int) {
		x, y := strings.Fields(texts[a]), strings.Fields(texts[b])
		for n < len(x) && n < len(y) && x[n] == y[n] {
			n++
		}
		return n
	}
	// A word more may be the same by chance, of 256.
	if n := same(0, 2); n < 32 || n > 34 {
		t.Errorf("%d words are equal where two blocks are", n)
	}
	if n := same(2, 3); n < 32 || n > 34 {
		t.Errorf("%d words are equal, the rest is each request's own", n)
	}
	if n := same(0, 4); n > 2 {
		t.Errorf("%d words are equal where no first block is", n)
	}
}

// TestWordsAreTokens holds the length of prompts to real vocabularies.
func TestWordsAreTokens(t *testing.T) {
	found := false
	for _, env := range []string{"DUNLIN_TEST_MODEL", "DUNLIN_TEST_GEMMA"} {
		path := os.Getenv(env)
		if path == "" {
			continue
		}
		found = true
		tok, err := runtime.OpenTokenizer(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range words {
			ids, err := tok.Tokenize(t.Context(), "x "+w, runtime.TokenizeOptions{})
			if err != nil || len(ids) != 2 {
				t.Errorf("%s: %q is %d tokens, %v", env, w, len(ids)-1, err)
			}
		}
	}
	if !found {
		t.Skip("neither DUNLIN_TEST_MODEL nor DUNLIN_TEST_GEMMA is set")
	}
}

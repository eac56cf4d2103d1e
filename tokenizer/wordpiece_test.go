package tokenizer

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// TestBertUnicode holds what is known of each character against Hugging Face's.
func TestBertUnicode(t *testing.T) {
	var file struct {
		Removed, Space, Ideograph, Punctuation, Blank [][2]rune
		Strip, Lower                                  map[string]string
	}
	if err := json.Unmarshal(readGzip(t, "testdata/bert-unicode.json.gz"), &file); err != nil {
		t.Fatal(err)
	}
	in := func(ranges [][2]rune, r rune) bool {
		i, _ := slices.BinarySearchFunc(ranges, r, func(e [2]rune, r rune) int { return int(e[1] - r) })
		return i < len(ranges) && ranges[i][0] <= r
	}
	failed := 0
	for r := rune(0); r <= utf8.MaxRune && failed < 20; r++ {
		if testing.Short() && r >= 0x3000 && r%16 != 0 {
			continue
		}
		char := string(r)
		if !utf8.ValidRune(r) {
			continue
		}
		want := bertText
		switch {
		case in(file.Removed, r):
			want = bertRemoved
		case in(file.Space, r):
			want = bertSpace
		case in(file.Ideograph, r):
			want = bertIdeograph
		}
		if have := bertRune(r); have != want {
			failed++
			t.Errorf("%U: class %d, want %d", r, have, want)
		}
		if want == bertRemoved || want == bertSpace {
			continue
		}
		if have := bertPunctuation(r); have != in(file.Punctuation, r) {
			failed++
			t.Errorf("%U: punctuation %v", r, have)
		}
		if have := bertBlank(r); have != in(file.Blank, r) {
			failed++
			t.Errorf("%U: blank %v", r, have)
		}
		for _, tt := range []struct {
			p    wordPieces
			maps map[string]string
		}{{wordPieces{strip: true}, file.Strip}, {wordPieces{lower: true}, file.Lower}} {
			want, ok := tt.maps[char]
			switch {
			case tt.p.strip && r >= 0xac00 && r <= 0xd7a3: // left out of the file
				want = norm.NFD.String(char)
			case !ok:
				want = char
			}
			w := work{ctx: t.Context()}
			word := word{w: &w, p: &tt.p}
			if bertPunctuation(r) || slices.ContainsFunc([]rune(want), bertPunctuation) || slices.ContainsFunc([]rune(want), bertBlank) {
				continue // ends the word
			}
			if err := tt.p.letter(&word, char, r); err != nil || string(w.spelling) != want {
				failed++
				t.Errorf("%U, strip %v: %q, want %q, %v", r, tt.p.strip, w.spelling, want, err)
			}
		}
	}
}

// words is a WordPiece vocabulary.
func words(tokens ...string) *Vocab {
	v := marks("bert", append([]string{"[UNK]"}, tokens...)...)
	v.AddSpacePrefix, v.Scores = nil, nil
	v.Unknown = 1
	return v.with("<unk>", Control).with("[UNK]", Control)
}

func TestWordPiece(t *testing.T) {
	on, off := true, false
	tokens := []string{"▁un", "▁unaff", "aff", "able", "a", "able▁", "▁a", "▁!", "▁好", "▁é", "▁e", "▁É", "▁" + strings.Repeat("a", 100), "[", "▁▁"}
	for _, tt := range []struct {
		text         string
		lower, strip *bool
		want         string
	}{
		{"unaffable", nil, nil, "▁unaff able"},
		{"  UN!un ", nil, nil, "▁un ▁! ▁un"},
		{"unx", nil, nil, "[UNK]"},
		{"x", nil, nil, "[UNK]"},
		{"a好好a", nil, nil, "▁a ▁好 ▁好 ▁a"},
		{"É é e\u0301", nil, nil, "▁e ▁e ▁e"},
		{"É é e\u0301", &on, &off, "▁é ▁é [UNK]"},
		{"É é", &off, nil, "▁É ▁é"},
		{"É é", &off, &on, "[UNK] ▁e"},
		{"a\u00a0\u200ba\x00\xffa", nil, nil, "▁a ▁a a"},
		{"a▁a", nil, nil, "[UNK]"}, // a mark in the text is no space
		{"▁", nil, nil, "▁▁"},
		{strings.Repeat("a", 100), nil, nil, "▁" + strings.Repeat("a", 100)},
		{strings.Repeat("a", 101), nil, nil, "[UNK]"},
		{"[UNK]", nil, nil, "[UNK] [UNK] [UNK]"}, // as text three words
		{"", nil, nil, ""},
	} {
		v := words(tokens...)
		v.Lowercase, v.StripAccents = tt.lower, tt.strip
		tok := newTokenizer(t, v)
		if got := strings.Join(encodeTexts(t, tok, tt.text, EncodeOptions{}), " "); got != tt.want {
			t.Errorf("%q: want %s, have %s", tt.text, tt.want, got)
		}
	}
	v := words("▁a")
	v.Unknown = None
	if got := encodeTexts(t, newTokenizer(t, v), "b a b", EncodeOptions{}); !slices.Equal(got, []string{"▁a"}) {
		t.Errorf("without an unknown token: %q", got)
	}
}

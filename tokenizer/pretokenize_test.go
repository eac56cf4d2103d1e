package tokenizer

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// pieceLengths notes the lengths of the pieces that it is given.
type pieceLengths []int

func (p *pieceLengths) piece(_ *work, text string) error {
	*p = append(*p, len(text))
	return nil
}

// TestPieces compares with how Hugging Face's tokenizers cut random texts by the
// patterns of each rule.
func TestPieces(t *testing.T) {
	for _, dir := range vocabDirs() {
		files, err := filepath.Glob(filepath.Join(dir, "*.pieces.json"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var file struct {
				Texts   []string
				Lengths map[string][][]int
			}
			if err := json.Unmarshal(data, &file); err != nil {
				t.Fatal(err)
			}
			for name, lengths := range file.Lengths {
				t.Run(name, func(t *testing.T) { testPieces(t, name, file.Texts, lengths) })
			}
		}
	}
}

func testPieces(t *testing.T, name string, texts []string, lengths [][]int) {
	pre, err := preTokenizerFor(name)
	if err != nil {
		t.Fatal(err)
	}
	failed := 0
	for i, text := range texts {
		var got pieceLengths
		if err := cut(&work{ctx: t.Context()}, text, pre.stages, &got); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, lengths[i]) {
			if failed++; failed > 5 {
				t.Fatal("and more")
			}
			t.Errorf("%q: want %d, have %d", text, lengths[i], got)
		}
	}
	t.Logf("%d texts", len(texts))
}

// TestRules: each rule of the table compiles, and no name has two.
func TestRules(t *testing.T) {
	var all []namedRule
	if err := json.Unmarshal(rules, &all); err != nil {
		t.Fatal(err)
	}
	names := 0
	for _, r := range all {
		if _, err := r.compile(); err != nil {
			t.Errorf("%s: %v", r.Names[0], err)
		}
		names += len(r.Names)
	}
	if names != len(preTokenizers()) {
		t.Errorf("%d names, %d of them different", names, len(preTokenizers()))
	}
}

// TestPatternRefused: what the dialect doesn't have is refused by name.
func TestPatternRefused(t *testing.T) {
	for _, pattern := range []string{
		"", "a*", "a|", "(a", "a)", "[a", "[a[b]]", "a+?", "(?<=a)b", "(?<!a)b", "(?<x>a)", `\p{Klingon}`, `\x41`, `\1`, "a{2000}", "a{3,1}", "*a", "(a*)*", "(a|b?)+x", `[\s-z]`,
		"(?>a)", "a**", `\`, "[^a&&[b]]", "[a&&[b]c]", "\xff", strings.Repeat("(", 40) + "a" + strings.Repeat(")", 40),
		strings.Repeat("a|", 64) + "a", "(?:(?:ab){500}){500}", strings.Repeat("a", maxPatternBytes+1),
	} {
		if _, err := compilePattern(pattern); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%.60q: %v", pattern, err)
		}
	}
}

// TestPatternMatch: pieces of the dialect that no rule has.
func TestPatternMatch(t *testing.T) {
	for _, tt := range []struct {
		pattern, text string
		start, end    int
	}{
		{"b+", "aabbb", 2, 5},
		{"(?:ab)+c", "ababxababc", 5, 10},
		{"(?:ab){2,3}", "abababab", 0, 6},
		{"(?:ab){2}b", "abababb", 2, 7},
		{"a{2,}", "baaa", 1, 4},
		{"b|a$", "bab", 0, 1},
		{"b$", "bab", 2, 3},
		{`\w+\b`, "-ab_1 ", 1, 5},
		{`a\b.`, "aba-", 2, 4},
		{"[^a]b", "ab\u00e9b", 2, 5},
		{`\P{L}\S\D\W`, "a1x!!", 1, 5},
		{"(?i:\u00e9K)", "\u00c9k", 0, 3},
		{"(?i:k)", "\u212a", 0, 3},
		{"a(?=b)", "acab", 2, 3},
		{"a(?!b)", "abac", 2, 3},
		{"(?:a|ab)(?:c|bcd)", "abcd", 0, 4},
		{"a++a", "aaaa", 4, 4},
		{"[]a]+", "x]a", 1, 3},
		{`[a\-z-]+`, "b-z", 1, 3},
		{`\p{Greek}+`, "a\u03b1\u03b2", 1, 5},
		{`[\p{L}&&[^\p{Han}]]+`, "\u4e00ab", 3, 5},
		{"x", "\xff\xfex", 2, 3},
		{`[^x]`, "\xff", 0, 1},
	} {
		p, err := compilePattern(tt.pattern)
		if err != nil {
			t.Error(err)
			continue
		}
		w := &work{ctx: t.Context()}
		if start, end := p.find(w, tt.text); start != tt.start || end != tt.end || len(w.retries) > 0 {
			t.Errorf("%q in %q: want %d to %d, have %d to %d", tt.pattern, tt.text, tt.start, tt.end, start, end)
		}
	}
}

// TestCutGrowth: each rule cuts a long text of one kind in steps that grow like
// its length, also where a match fails at the end of a long run.
func TestCutGrowth(t *testing.T) {
	const n = 1 << 15
	var all []namedRule
	if err := json.Unmarshal(rules, &all); err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		name := r.Names[0]
		pre, err := preTokenizerFor(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, unit := range []string{"a", "A", "aA", " ", "\n", " \n", "7", "\U0001f600", "\u4e00", "e\u0301", "'", "!", "a ", "7a", "\xff", "\u0e33"} {
			text := strings.Repeat(unit, n/len(unit)) + "x"
			w := &work{ctx: t.Context()}
			var got pieceLengths
			if err := cut(w, text, pre.stages, &got); err != nil {
				t.Fatal(err)
			}
			if w.total > 20*len(text) {
				t.Errorf("%s: %d steps for %d bytes of %q", name, w.total, len(text), unit)
			}
		}
	}
}

// TestPatternBudget: what a pattern notes while it looks for a match is priced,
// and looking is cancelled with the context.
func TestPatternBudget(t *testing.T) {
	p, err := compilePattern("(?:ab|a)+c")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("ab", 1<<18)
	b := budget.New(1 << 20)
	w := &work{ctx: t.Context(), budget: b}
	p.find(w, text)
	if err := w.spend(1); !errors.Is(err, budget.ErrExceeded) {
		t.Errorf("%v after %d choices", err, cap(w.retries))
	}
	w.release()
	if b.Used() != 0 {
		t.Errorf("%d bytes are still charged", b.Used())
	}
	w = &work{ctx: &countdown{t.Context(), 3}}
	p.find(w, text)
	if err := w.spend(1); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// FuzzPattern: any pattern is compiled or refused, and finds what it finds in
// any text within it.
func FuzzPattern(f *testing.F) {
	var all []namedRule
	if err := json.Unmarshal(rules, &all); err != nil {
		f.Fatal(err)
	}
	for _, r := range all {
		for _, pattern := range r.Split {
			f.Add(pattern, "It's 1234 \r\n\u00e9\u4f60\xff")
		}
	}
	f.Add("(?:a|ab)+(?=c{2,3})|[^x&&[a-z]]++$", "ababcc")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		p, err := compilePattern(pattern)
		if err != nil {
			if !errors.Is(err, ErrUnsupported) {
				t.Fatal(err)
			}
			return
		}
		w := &work{ctx: &countdown{t.Context(), 10}}
		start, end := p.find(w, text)
		if start < 0 || end < start || end > len(text) || w.spend(1) == nil && start == end && start < len(text) {
			t.Fatalf("%q finds %d to %d in %d bytes", pattern, start, end, len(text))
		}
	})
}

// TestPatternFold: ignoring case costs no more than the characters that have it.
func TestPatternFold(t *testing.T) {
	start := time.Now()
	if _, err := compilePattern(`(?i:[` + strings.Repeat("\x01-\U0010ffff", 500) + `])`); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 5*time.Second { // 13 s with a look at each character
		t.Errorf("%v for 500 ranges", took)
	}
	last := casePairs()[len(casePairs())-1][0]
	for r := last + 1; r <= unicode.MaxRune; r++ {
		if unicode.SimpleFold(r) != r {
			t.Fatalf("%U isn't among the characters with a case", r)
		}
	}
}

// TestPatternEnds: a match sees that the context is done where nothing fails,
// and one that tries too many ways is given up.
func TestPatternEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p, err := compilePattern(`(?:[a-z][0-9])+`)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("a0", 1<<16)
	if _, end := p.find(&work{ctx: ctx}, text); end > len(text)/4 {
		t.Errorf("%d bytes are matched after the context's end", end)
	}
	if p, err = compilePattern(`(?:a|aa)+(?=b)|(?=(?:a|aa)+b).`); err != nil {
		t.Fatal(err)
	}
	w := &work{ctx: t.Context()}
	p.find(w, strings.Repeat("a", 45))
	if err := w.spend(0); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
	// One way for each place of a long run isn't too many.
	if p, err = compilePattern(`\s*[\r\n]+|\s+(?!\S)`); err != nil {
		t.Fatal(err)
	}
	w = &work{ctx: t.Context()}
	if _, end := p.find(w, strings.Repeat(" ", maxTries+1)); end != maxTries+1 || w.spend(0) != nil {
		t.Error(end, w.spend(0))
	}
}

// lookCounter is a context that counts how often it was looked at.
type lookCounter struct {
	context.Context
	looks int
}

func (c *lookCounter) Err() error {
	c.looks++
	return nil
}

// TestLooks: steps over a long text look at the context as often as they should.
func TestLooks(t *testing.T) {
	const n = 1 << 20
	for name, c := range map[string]struct {
		passes int
		run    func(w *work)
	}{
		"threes":   {1, func(w *work) { _ = cutThrees(w, strings.Repeat("1", n)+"x", nil, new(pieceLengths)) }},
		"composed": {2, func(w *work) { _, _ = composed(w, "e\u0301"+strings.Repeat("a", n)) }},
		"apart":    {1, func(w *work) { _, _ = composed(w, "e\u0301\u0897"+strings.Repeat("a\u0897", n/3)) }},
	} {
		ctx := &lookCounter{Context: t.Context()}
		c.run(&work{ctx: ctx})
		if least := c.passes*n/pollSteps - 8; ctx.looks < least {
			t.Errorf("%s: the context is looked at %d times in %d steps, must be %d", name, ctx.looks, c.passes*n, least)
		}
	}
}

// TestPatternAnchors: $ is the end of a line, and what looks at the text before a
// match is refused. The pieces are those of Hugging Face's tokenizers 0.23.
func TestPatternAnchors(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		lengths       []int
	}{
		{`a$`, "aa\na", []int{1, 1, 1, 1}},
		{`a$`, "a\r\na", []int{3, 1}},
		{`\n$|x`, "a\nx", []int{2, 1}},
		{`a\z|x`, "a\na", []int{2, 1}},
		{`a\b|.`, "ab a-", []int{1, 1, 1, 1, 1}},
	} {
		p, err := compilePattern(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		var got pieceLengths
		if err := cut(&work{ctx: t.Context()}, c.text, []stage{{pattern: p}}, &got); err != nil || !slices.Equal(got, c.lengths) {
			t.Errorf("%s cuts %q into %v, must be %v: %v", c.pattern, c.text, got, c.lengths, err)
		}
	}
	// Of xfoo, \bfoo|. takes four letters there, and (?i:[\p{Lu}]) takes small ones.
	for _, pattern := range []string{
		`^a`, `\Aa`, `\bfoo|.`, `b|a?\bfoo`, `(?:(?=\b)a)`, `(?!\ba)b`, `(?i:[\p{Lu}])`, `(?i:[^\p{M}])`,
	} {
		if _, err := compilePattern(pattern); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", pattern, err)
		}
	}
}

// TestPatternTooLong: a pattern that is too long isn't read first.
func TestPatternTooLong(t *testing.T) {
	pattern := strings.Repeat("a", 1<<20)
	var before, after goruntime.MemStats
	goruntime.ReadMemStats(&before)
	_, err := compilePattern(pattern)
	goruntime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; !errors.Is(err, ErrUnsupported) || took > 1<<20 {
		t.Errorf("%d bytes allocated: %v", took, err)
	}
}

// TestPatternCompiles: no pattern takes long to compile.
func TestPatternCompiles(t *testing.T) {
	sets := ""
	for c := 'A'; c <= 'Z'; c++ {
		sets += string(c) + "*" + string(c+'a'-'A') + "*"
	}
	for name, pattern := range map[string]string{
		"runs":   sets + strings.Repeat("0*", 8000) + "1",
		"run":    "x{0,3}(?:" + strings.Repeat("0*", 8) + "1){900}",
		"splits": strings.Repeat("(?:ab)?", 2000) + "c",
		"nested": strings.Repeat("(?:", 30) + "ab" + strings.Repeat("){1000}", 30),
		"sets":   strings.Repeat(`\p{L}\p{Han}`, 1000),
		"different": func() (s string) {
			for r := rune(0x4e00); r < 0x4e00+5000; r++ {
				s += string(r)
			}
			return s
		}(),
		"ranges":       "[" + strings.Repeat(`\p{P8}`, 2600) + "]",
		"folded":       "(?i:[" + strings.Repeat("B-\U0010ffff", 2600) + "])",
		"alternatives": strings.Repeat("(?:a|b|c|d)", 1000),
		"looks":        strings.Repeat("(?=", 30) + strings.Repeat("a*b*", 3000) + "c" + strings.Repeat(")", 30) + "a",
	} {
		start := time.Now()
		_, err := compilePattern(pattern)
		if took := time.Since(start); took > 2*time.Second && !raceEnabled { // 4 s, where each run looked at all that follows
			t.Errorf("%s: %v, %d bytes (%v)", name, took, len(pattern), err)
		} else {
			t.Logf("%s: %v (%v)", name, took, err != nil)
		}
	}
}

// TestPatternSets: scripts are those of Unicode 16.0, and \w has superscript
// digits where it isn't in a class, as in Oniguruma 6.9.
func TestPatternSets(t *testing.T) {
	for _, c := range []struct {
		pattern string
		r       rune
		has     bool
	}{
		{`\p{Latin}`, 0xa7cb, true},
		{`[\p{Arabic}]`, 0x897, true},
		{`\p{Common}`, 0x1fae9, true},
		{`\P{Myanmar}`, 0x116d0, false},
		{`\p{Han}`, 0x2ebf0, true},
		{`\w`, 0xb2, true},
		{`\W`, 0xbe, false},
		{`[\w]`, 0xb2, false},
		{`[^\w]`, 0xbe, true},
		{`[\w]`, 0x24b6, true},
	} {
		p, err := compilePattern(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if _, end := p.find(&work{ctx: t.Context()}, string(c.r)+"\n"); (end == len(string(c.r))) != c.has {
			t.Errorf("%s has %U: %v, must be %v", c.pattern, c.r, !c.has, c.has)
		}
	}
}

package jinja

import (
	"strings"
	"unicode"
)

// Upper and lower case as Python has them: a character may become several. No
// text grows to more than three times its bytes.

func upper(s string) string {
	if isASCII(s) {
		return strings.ToUpper(s)
	}
	var b strings.Builder
	for _, r := range s {
		writeUpper(&b, r)
	}
	return b.String()
}

func writeUpper(b *strings.Builder, r rune) {
	if special, ok := upperSpecial[r]; ok {
		b.WriteString(special)
		return
	}
	b.WriteRune(unicode.ToUpper(r))
}

func writeTitle(b *strings.Builder, r rune) {
	if special, ok := titleSpecial[r]; ok {
		b.WriteString(special)
		return
	}
	b.WriteRune(unicode.ToTitle(r))
}

func lower(s string) string {
	if isASCII(s) {
		return strings.ToLower(s)
	}
	var b strings.Builder
	for i, r := range s {
		writeLower(&b, s, i, r)
	}
	return b.String()
}

const (
	sigma      = 'Σ'
	finalSigma = 'ς'
	dottedI    = 'İ'
)

// writeLower writes the lower case of the character at s[i:]; a sigma at the end
// of a word has its own.
func writeLower(b *strings.Builder, s string, i int, r rune) {
	switch {
	case r == dottedI:
		b.WriteString("i̇")
	case r == sigma && endsWord(s, i):
		b.WriteRune(finalSigma)
	default:
		b.WriteRune(unicode.ToLower(r))
	}
}

// endsWord says whether a letter comes before the sigma at s[i:] and none
// behind it, marks aside.
func endsWord(s string, i int) bool {
	before := strings.TrimRightFunc(s[:i], isCaseIgnorable)
	after := strings.TrimLeftFunc(s[i+len(string(sigma)):], isCaseIgnorable)
	return before != "" && isCasedRune([]rune(lastRune(before))[0]) &&
		(after == "" || !isCasedRune([]rune(firstRune(after))[0]))
}

func firstRune(s string) string {
	for i := range s {
		if i > 0 {
			return s[:i]
		}
	}
	return s
}

func lastRune(s string) string {
	i := len(s) - 1
	for i > 0 && s[i]&0xc0 == 0x80 {
		i--
	}
	return s[i:]
}

func isCasedRune(r rune) bool {
	return unicode.IsUpper(r) || unicode.IsLower(r) || unicode.IsTitle(r)
}

func isCaseIgnorable(r rune) bool {
	return unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf, unicode.Lm, unicode.Sk) || strings.ContainsRune("'.:·’‘", r)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func capitalize(s string) string {
	var b strings.Builder
	for i, r := range s {
		if i == 0 {
			writeTitle(&b, r)
		} else {
			writeLower(&b, s, i, r)
		}
	}
	return b.String()
}

// titleMethod is str.title: a word is a run of letters that have cases.
func titleMethod(s string) string {
	var b strings.Builder
	inWord := false
	for i, r := range s {
		if inWord {
			writeLower(&b, s, i, r)
		} else {
			writeTitle(&b, r)
		}
		inWord = isCasedRune(r)
	}
	return b.String()
}

// titleFilter is Jinja's title: words are what white space, hyphens and opening
// brackets separate.
func titleFilter(s string) string {
	var b strings.Builder
	start := true
	for i, r := range s {
		separator := isSpace(r) || strings.ContainsRune("-({[<", r)
		switch {
		case start && !separator:
			writeUpper(&b, r)
		default:
			writeLower(&b, s, i, r)
		}
		start = separator
	}
	return b.String()
}

func swapCase(s string) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case unicode.IsUpper(r):
			writeLower(&b, s, i, r)
		case unicode.IsLower(r):
			writeUpper(&b, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

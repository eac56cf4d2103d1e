package tokenizer

import (
	"errors"
	"math"

	"golang.org/x/text/transform"
	"golang.org/x/text/unicode/norm"
)

// composed is text in Unicode's normalisation form C, which some byte-level
// vocabularies were trained on. Most texts are in it and come back as they are.
//
// Runs of more than 30 marks on one character get a joiner (U+034F) put in, as
// the package does throughout; Hugging Face's tokenizers don't.
func composed(w *work, text string) (string, error) {
	n := 0
	for n < len(text) {
		end := min(len(text), n+pollSteps)
		m, err := norm.NFC.SpanString(text[n:end], end == len(text))
		n += m
		if spent := w.spend(m); spent != nil {
			return "", spent
		}
		if errors.Is(err, transform.ErrEndOfSpan) || err != nil && m == 0 {
			break
		}
	}
	if n == len(text) {
		return text, nil
	}
	// Three bytes can come of one, and are copied once.
	if need := 6 * int64(len(text)); need > freePiece*pieceBytes {
		if err := w.reserve(need); err != nil {
			return "", err
		}
	}
	out := append(make([]byte, 0, len(text)+len(text)/8), text[:n]...)
	var it norm.Iter
	for rest := text[n:]; len(rest) > 0; {
		part, err := composable(w, rest)
		if err != nil {
			return "", err
		}
		for it.InitString(norm.NFC, rest[:part]); !it.Done(); {
			segment := it.Next()
			out = append(out, segment...)
			if err := w.spend(len(segment)); err != nil {
				return "", err
			}
		}
		rest = rest[part:]
		if len(rest) > 0 {
			_, m := runeAt(rest)
			out, rest = append(out, rest[:m]...), rest[m:]
		}
	}
	if len(out) > math.MaxInt32 {
		return "", ErrTooLong
	}
	return string(out), nil
}

// composable is the length of text up to its first uncomposed character.
func composable(w *work, text string) (n int, err error) {
	spent, last := 0, rune(0)
	for n < len(text) {
		r, m := runeAt(text[n:])
		if uncomposed(last, r, text[n:]) {
			break
		}
		last = r
		if n += m; n-spent >= pollSteps {
			if err := w.spend(n - spent); err != nil {
				return n, err
			}
			spent = n
		}
	}
	return n, w.spend(n - spent + 1)
}

// uncomposed reports whether the character r, which text begins with and which
// follows last, is left as it is, with what is before and after it apart. Package
// norm takes characters beyond U+FFFF for those with the same lower 16 bits when
// it composes, so of those only marks that may change places are given to it, the
// few that do compose, and those that come apart.
func uncomposed(last, r rune, text string) bool {
	switch {
	case lateMarks.has(r):
		return true
	case r < 0x10000, composing.has(r), r >= 0x1d100 && r < 0x1d200, r >= 0x2f800 && r < 0x2fb00:
		return false
	case composedWith.has(r):
		return !composing.has(last)
	}
	return norm.NFC.PropertiesString(text).CCC() == 0
}

// composing are the letters beyond U+FFFF that compose, composedWith the signs that
// they compose with but for those that count as marks.
var (
	composing = union{ranges: []runeRange{
		{0x11099, 0x11099},
		{0x1109b, 0x1109b},
		{0x110a5, 0x110a5},
		{0x11131, 0x11132},
		{0x11347, 0x11347},
		{0x114b9, 0x114b9},
		{0x115b8, 0x115b9},
	}}
	composedWith = union{ranges: []runeRange{
		{0x11127, 0x11127},
		{0x1133e, 0x1133e},
		{0x11357, 0x11357},
		{0x114b0, 0x114b0},
		{0x114ba, 0x114ba},
		{0x114bd, 0x114bd},
		{0x115af, 0x115af},
	}}
)

// lateMarks are the marks that Hugging Face's tokenizers leave where they are:
// they know the combining classes of an older Unicode.
var lateMarks = union{ranges: []runeRange{
	{0x7fd, 0x7fd},
	{0x897, 0x89f},
	{0x8ca, 0x8d3},
	{0x9fe, 0x9fe},
	{0xc3c, 0xc3c},
	{0xd3b, 0xd3c},
	{0xeba, 0xeba},
	{0x1715, 0x1715},
	{0x1abf, 0x1ace},
	{0x1df6, 0x1dfa},
	{0xa82c, 0xa82c},
	{0x10d24, 0x10d27},
	{0x10d69, 0x10d6d},
	{0x10eab, 0x10eac},
	{0x10efd, 0x10eff},
	{0x10f46, 0x10f50},
	{0x10f82, 0x10f85},
	{0x11070, 0x11070},
	{0x1133b, 0x1133b},
	{0x113ce, 0x113d0},
	{0x1145e, 0x1145e},
	{0x11839, 0x1183a},
	{0x1193d, 0x1193e},
	{0x11943, 0x11943},
	{0x119e0, 0x119e0},
	{0x11a34, 0x11a34},
	{0x11a47, 0x11a47},
	{0x11a99, 0x11a99},
	{0x11d42, 0x11d42},
	{0x11d44, 0x11d45},
	{0x11d97, 0x11d97},
	{0x11f41, 0x11f42},
	{0x1612f, 0x1612f},
	{0x16ff0, 0x16ff1},
	{0x1e08f, 0x1e08f},
	{0x1e130, 0x1e136},
	{0x1e2ae, 0x1e2ae},
	{0x1e2ec, 0x1e2ef},
	{0x1e4ec, 0x1e4ef},
	{0x1e5ee, 0x1e5ef},
}}

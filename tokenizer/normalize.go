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
	spent := 0
	for n < len(text) {
		r, m := runeAt(text[n:])
		if uncomposed(r) {
			break
		}
		if n += m; n-spent >= pollSteps {
			if err := w.spend(n - spent); err != nil {
				return n, err
			}
			spent = n
		}
	}
	return n, w.spend(n - spent + 1)
}

// uncomposed reports whether the character is left as it is, with what is before
// and after it apart. Package norm takes characters beyond U+FFFF for those with
// the same lower 16 bits when it composes. Few of them compose at all: some of
// the blocks excepted here.
func uncomposed(r rune) bool {
	if r < 0x10000 || r >= 0x11000 && r < 0x12000 || r >= 0x1d100 && r < 0x1d200 || r >= 0x2f800 && r < 0x2fb00 {
		return lateMarks.has(r)
	}
	return markClasses>>categoryOf(r)&1 == 0 || lateMarks.has(r)
}

var markClasses = categoriesNamed("M")

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

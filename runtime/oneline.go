package runtime

import (
	"strings"
	"unicode"
)

// oneLineError shows an error in one line of moderate length: several that were
// joined, or one whose text is a template's or another stranger's.
type oneLineError struct{ err error }

const maxErrorBytes = 400

func (e oneLineError) Error() string {
	text := strings.ReplaceAll(e.err.Error(), "\n", "; ")
	if len(text) > maxErrorBytes {
		text = strings.ToValidUTF8(text[:maxErrorBytes], "") + "..."
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

func (e oneLineError) Unwrap() error { return e.err }

package runtime

import (
	"strings"
	"unicode"
)

// oneLine shows an error in one line of moderate length: several that were
// joined, or one whose text is a template's or another stranger's.
type oneLine struct{ err error }

const maxErrorBytes = 400

func (e oneLine) Error() string {
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

func (e oneLine) Unwrap() error { return e.err }

package tokenizer

import (
	"errors"
	"strconv"
)

// What New and FromVocab report; match with errors.Is. A refused reservation
// matches budget.ErrExceeded instead.
var (
	// ErrUnsupported means an algorithm, a rule or an option of a vocabulary
	// that this package doesn't implement.
	ErrUnsupported = errors.New("unsupported")
	// ErrVocabulary means that a vocabulary is incomplete or contradicts itself.
	ErrVocabulary = errors.New("malformed vocabulary")
)

// ErrTooLong is what Encode reports for a text of more tokens than
// [EncodeOptions.Limit].
var ErrTooLong = errors.New("text has more tokens than the limit")

// maxQuoted is how many bytes of a file's text an error shows.
const maxQuoted = 64

// quote makes text from a file fit for one line of an error.
func quote(s string) string {
	if len(s) > maxQuoted {
		return strconv.Quote(s[:maxQuoted]) + "..."
	}
	return strconv.Quote(s)
}

package gguf

import (
	"errors"
	"fmt"
	"math"
	"strconv"
)

// What Parse, ParseParts, PartPaths, File.Data and Writer report; match with errors.Is. A
// refused reservation matches budget.ErrExceeded instead.
var (
	// ErrMagic means that the bytes are not a GGUF file at all.
	ErrMagic = errors.New("not a GGUF file")
	// ErrVersion means that the file has a version other than 2 and 3.
	ErrVersion = errors.New("unsupported version")
	// ErrBigEndian means that the file was written for a big-endian machine.
	ErrBigEndian = errors.New("big-endian file")
	// ErrTruncated means that the file claims something that lies beyond its end.
	ErrTruncated = errors.New("truncated file")
	// ErrFormat means that the file contradicts the format or itself.
	ErrFormat = errors.New("malformed file")
	// ErrMissing means that a model has more parts than were given.
	ErrMissing = errors.New("missing part")
	// ErrLimit means that the file exceeds a limit that this package sets.
	ErrLimit = errors.New("limit exceeded")
	// ErrUnsupported means a value type or a tensor type that isn't known here.
	ErrUnsupported = errors.New("unsupported")
)

// maxQuoted is how many bytes of a name an error shows.
const maxQuoted = 64

// quote makes a name from a file fit for one line of an error.
func quote[T string | []byte](name T) string {
	if len(name) > maxQuoted {
		return strconv.Quote(string(name[:maxQuoted])) + "..."
	}
	return strconv.Quote(string(name))
}

// truncated reports that count items of size bytes at byte pos of a file of
// have bytes don't fit. The sum saturates: it is only shown.
func truncated(pos, count, size, have uint64) error {
	need := uint64(math.MaxUint64)
	if size == 0 || count <= (math.MaxUint64-pos)/size {
		need = pos + count*size
	}
	return fmt.Errorf("%w: at least %d bytes are needed, %d are present", ErrTruncated, need, have)
}

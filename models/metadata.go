package models

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/dunlin-go/dunlin/models/gguf"
)

// metadata reads an architecture's keys. The first thing that is wrong stays in
// err, so that a configuration reads as a list.
type metadata struct {
	file *gguf.File
	arch string
	err  error
	keys []string // what was asked for, without the architecture's prefix
}

func (m *metadata) fail(format string, args ...any) {
	if m.err == nil {
		m.err = fmt.Errorf(format, args...)
	}
}

func (m *metadata) key(name string) string {
	m.keys = append(m.keys, name)
	return m.arch + "." + name
}

// array refuses an array: GGUF has them for numbers that differ between layers.
func (m *metadata) array(key string) bool {
	typ, ok := m.file.Type(key)
	if !ok || typ != gguf.Array {
		return false
	}
	m.fail("%w: %s is an array", ErrUnsupported, key)
	return true
}

// maxSize bounds every size in a configuration, so that products of two can't
// overflow an int.
const maxSize = 1 << 24

// size is a number from 1 to maxSize.
func (m *metadata) size(name string) int {
	key := m.key(name)
	n, ok := m.file.Uint(key)
	switch {
	case m.array(key):
		return 1
	case !ok:
		m.fail("%w: %s is missing or not a number", ErrInvalid, key)
		return 1
	case n < 1 || n > maxSize:
		m.fail("%w: %s is %d, it must lie in [1, %d]", ErrInvalid, key, n, maxSize)
		return 1
	}
	return int(n)
}

// sizeOr is size, or a default where the file doesn't have the key.
func (m *metadata) sizeOr(name string, otherwise int) int {
	if _, ok := m.file.Type(m.arch + "." + name); !ok {
		m.keys = append(m.keys, name)
		return otherwise
	}
	return m.size(name)
}

// float is a number above zero, neither 0 nor infinite as a float32 either.
func (m *metadata) float(name string) float64 {
	key := m.key(name)
	v, ok := m.file.Float(key)
	if m.array(key) {
		return v
	}
	if !ok {
		m.fail("%w: %s is missing or not a number", ErrInvalid, key)
	} else if f := float64(float32(v)); !(f > 0) || math.IsInf(f, 0) {
		m.fail("%w: %s is %g, it must be finite and above zero", ErrInvalid, key, v)
	}
	return v
}

// floatOr is float, or a default where the file doesn't have the key.
func (m *metadata) floatOr(name string, otherwise float64) float64 {
	if _, ok := m.file.Type(m.arch + "." + name); !ok {
		m.keys = append(m.keys, name)
		return otherwise
	}
	return m.float(name)
}

// textOr is a text, or a default where the file doesn't have the key.
func (m *metadata) textOr(name, otherwise string) string {
	key := m.key(name)
	if _, ok := m.file.Type(key); !ok {
		return otherwise
	}
	v, ok := m.file.String(key)
	if !ok {
		m.fail("%w: %s is not a text", ErrInvalid, key)
	}
	return v
}

// onlyValue refuses a key that has another value than the one that means
// nothing special.
func (m *metadata) onlyValue(name string, plain any) {
	key := m.key(name)
	v, ok := m.file.Any(key)
	if !m.array(key) && ok && fmt.Sprint(v) != fmt.Sprint(plain) {
		m.fail("%w: %s is %.64q", ErrUnsupported, key, fmt.Sprint(v))
	}
}

// ignored notes keys that say nothing which changes the computation.
func (m *metadata) ignored(names ...string) { m.keys = append(m.keys, names...) }

// finish returns the first error, or an error for a key of the architecture
// that nothing asked for: it may change what the model means.
func (m *metadata) finish() error {
	for key := range m.file.Keys() {
		name, ours := strings.CutPrefix(key, m.arch+".")
		if ours && !slices.Contains(m.keys, name) {
			m.fail("%w: the key %.64q", ErrUnsupported, key)
		}
	}
	return m.err
}

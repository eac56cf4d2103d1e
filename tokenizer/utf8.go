package tokenizer

import "unicode/utf8"

// UTF8Stream makes valid UTF-8 of bytes that come in pieces, as [StreamDecoder] does,
// for vocabularies that aren't a [Tokenizer]'s. Its zero value is empty.
type UTF8Stream struct{ held []byte }

// Text is what has become certain with more bytes.
func (s *UTF8Stream) Text(more []byte) string {
	if len(s.held) == 0 && utf8.Valid(more) {
		return string(more)
	}
	var text []byte
	text, s.held = takeUTF8(nil, append(s.held, more...), false)
	return string(text)
}

// Flush appends what was held back, which nothing follows.
func (s *UTF8Stream) Flush(dst []byte) []byte {
	dst, s.held = takeUTF8(dst, s.held, true)
	return dst
}

// Reset forgets what was held back.
func (s *UTF8Stream) Reset() { s.held = s.held[:0] }

// takeUTF8 appends the whole characters of held to dst, U+FFFD in the place of what
// can't become one, and gives what is left.
func takeUTF8(dst, held []byte, final bool) (text, rest []byte) {
	b := held
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r != utf8.RuneError || n > 1 {
			dst = append(dst, b[:n]...)
			b = b[n:]
			continue
		}
		n, open := subpart(b)
		if open && !final {
			break
		}
		dst = utf8.AppendRune(dst, utf8.RuneError)
		b = b[n:]
	}
	return dst, held[:copy(held, b)]
}

// subpart is the length of the longest prefix of b, which doesn't begin with a
// character, that could begin one (at least 1); open is true where b ends there
// and more bytes could complete it.
func subpart(b []byte) (n int, open bool) {
	need, low, high := 0, byte(0x80), byte(0xbf) // the range is the second byte's
	switch c := b[0]; {
	case c >= 0xc2 && c <= 0xdf:
		need = 2
	case c >= 0xe0 && c <= 0xef:
		need = 3
		switch c {
		case 0xe0:
			low = 0xa0 // below is overlong
		case 0xed:
			high = 0x9f // above are surrogates
		}
	case c >= 0xf0 && c <= 0xf4:
		need = 4
		switch c {
		case 0xf0:
			low = 0x90 // below is overlong
		case 0xf4:
			high = 0x8f // above is past U+10FFFF
		}
	default:
		return 1, false
	}
	for n = 1; n < need; n++ {
		if n == len(b) {
			return n, true
		}
		if b[n] < low || b[n] > high {
			return n, false
		}
		low, high = 0x80, 0xbf
	}
	return n, false
}

package tokenizer

import "unicode/utf8"

// Byte-level vocabularies spell each byte as one printable character, so that
// tokens can be written as text: printable Latin-1 stands for itself, the other
// 68 bytes are the characters from U+0100 on, in order. A space is "Ġ".
//
// Source: bytes_to_unicode in OpenAI's GPT-2 encoder.
var byteRunes, runeBytes = byteAlphabet()

// alphabetEnd is the first character after the alphabet.
const alphabetEnd = 0x100 + 68

func byteAlphabet() (runes [256]rune, bytes [alphabetEnd]int16) {
	for i := range bytes {
		bytes[i] = -1
	}
	next := rune(0x100)
	for b := range runes {
		r := rune(b)
		if b <= ' ' || b >= 0x7f && b <= 0xa0 || b == 0xad {
			r = next
			next++
		}
		runes[b] = r
		bytes[r] = int16(b)
	}
	return runes, bytes
}

// appendBytes appends the bytes that a byte-level spelling stands for. A text
// with a character outside the alphabet stands for itself.
func appendBytes(dst []byte, text string) []byte {
	start := len(dst)
	for _, r := range text {
		if r >= alphabetEnd || runeBytes[r] < 0 {
			return append(dst[:start], text...)
		}
		dst = append(dst, byte(runeBytes[r]))
	}
	return dst
}

// appendSpelling appends the byte-level spelling of raw bytes.
func appendSpelling(dst []byte, raw string) []byte {
	for i := range len(raw) {
		dst = utf8.AppendRune(dst, byteRunes[raw[i]])
	}
	return dst
}

// spelledPlain reports whether text is its own byte-level spelling.
func spelledPlain(text string) bool {
	for i := range len(text) {
		if text[i] <= ' ' || text[i] >= 0x7f {
			return false
		}
	}
	return true
}

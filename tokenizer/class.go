package tokenizer

import (
	"unicode"
	"unicode/utf8"
)

// class is what the rules' regular expressions ask of a character.
type class uint8

const (
	symbol class = iota // none of the others; also a byte that isn't UTF-8
	letter              // \p{L}
	number              // \p{N}
	space               // \s: the property White_Space
)

// Go's tables are Unicode 15.0, those of the regular expressions in Hugging
// Face's tokenizers (Oniguruma) are 16.0. What 15.1 and 16.0 added:
var (
	newLetters = &unicode.RangeTable{
		R16: []unicode.Range16{{Lo: 0x1c89, Hi: 0x1c8a, Stride: 1}, {Lo: 0xa7cb, Hi: 0xa7cd, Stride: 1}, {Lo: 0xa7da, Hi: 0xa7dc, Stride: 1}},
		R32: []unicode.Range32{
			{Lo: 0x105c0, Hi: 0x105f3, Stride: 1},
			{Lo: 0x10d4a, Hi: 0x10d65, Stride: 1},
			{Lo: 0x10d6f, Hi: 0x10d85, Stride: 1},
			{Lo: 0x10ec2, Hi: 0x10ec4, Stride: 1},
			{Lo: 0x11380, Hi: 0x11389, Stride: 1},
			{Lo: 0x1138b, Hi: 0x1138e, Stride: 3},
			{Lo: 0x11390, Hi: 0x113b5, Stride: 1},
			{Lo: 0x113b7, Hi: 0x113b7, Stride: 1},
			{Lo: 0x113d1, Hi: 0x113d3, Stride: 2},
			{Lo: 0x11bc0, Hi: 0x11be0, Stride: 1},
			{Lo: 0x13460, Hi: 0x143fa, Stride: 1},
			{Lo: 0x16100, Hi: 0x1611d, Stride: 1},
			{Lo: 0x16d40, Hi: 0x16d6c, Stride: 1},
			{Lo: 0x18cff, Hi: 0x18cff, Stride: 1},
			{Lo: 0x1e5d0, Hi: 0x1e5ed, Stride: 1},
			{Lo: 0x1e5f0, Hi: 0x1e5f0, Stride: 1},
			{Lo: 0x2ebf0, Hi: 0x2ee5d, Stride: 1},
		},
	}
	newNumbers = &unicode.RangeTable{
		R32: []unicode.Range32{
			{Lo: 0x10d40, Hi: 0x10d49, Stride: 1},
			{Lo: 0x116d0, Hi: 0x116e3, Stride: 1},
			{Lo: 0x11bf0, Hi: 0x11bf9, Stride: 1},
			{Lo: 0x16130, Hi: 0x16139, Stride: 1},
			{Lo: 0x16d70, Hi: 0x16d79, Stride: 1},
			{Lo: 0x1ccf0, Hi: 0x1ccf9, Stride: 1},
			{Lo: 0x1e5f1, Hi: 0x1e5fa, Stride: 1},
		},
	}
)

var asciiClass = func() (t [utf8.RuneSelf]class) {
	for c := range t {
		t[c] = runeClass(rune(c))
	}
	return t
}()

func runeClass(r rune) class {
	switch {
	case unicode.IsLetter(r) || unicode.Is(newLetters, r):
		return letter
	case unicode.IsNumber(r) || unicode.Is(newNumbers, r):
		return number
	case unicode.IsSpace(r):
		return space
	}
	return symbol
}

// classAt is the class and length of the character that text begins with.
func classAt(text string) (class, int) {
	if c := text[0]; c < utf8.RuneSelf {
		return asciiClass[c], 1
	}
	r, n := utf8.DecodeRuneInString(text)
	return runeClass(r), n // RuneError is a symbol, as U+FFFD is
}

// run is where the characters of class k that begin at text[i:] end, or any
// place before that once w's context is done.
func run(w *work, text string, i int, k class) int {
	for i < len(text) {
		c, n := classAt(text[i:])
		if c != k || w.spend(n) != nil {
			break
		}
		i += n
	}
	return i
}

// blank is where the white space that text begins with ends, and where its last
// character begins; cut short like run.
func blank(w *work, text string) (end, last int) {
	for end < len(text) {
		k, n := classAt(text[end:])
		if k != space || w.spend(n) != nil {
			break
		}
		last = end
		end += n
	}
	return end, last
}

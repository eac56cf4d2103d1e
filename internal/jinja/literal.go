package jinja

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// number lexes an int or a float, whose digits may be grouped by single
// underscores.
func (l *lexer) number() error {
	rest := l.src[l.pos:]
	if n := floatLen(rest); n > 0 && (l.pos == 0 || l.src[l.pos-1] != '.') {
		l.emit(tokFloat, strings.ReplaceAll(rest[:n], "_", ""))
		l.pos += n
		return nil
	}
	n := 0
	if len(rest) > 1 && rest[0] == '0' {
		switch rest[1] | 0x20 {
		case 'b':
			n = prefixedLen(rest, "01")
		case 'o':
			n = prefixedLen(rest, "01234567")
		case 'x':
			n = prefixedLen(rest, "0123456789abcdefABCDEF")
		}
	}
	switch {
	case n > 0:
	case rest[0] == '0':
		n = digitsLen(rest, "0")
	default:
		n = digitsLen(rest, decimals)
	}
	text := strings.ReplaceAll(rest[:n], "_", "")
	base := 0
	if rest[0] == '0' && strings.Trim(text, "0") == "" {
		base = 10
	}
	if _, err := strconv.ParseInt(text, base, 64); err != nil {
		return &Error{Kind: ErrUnsupported, Line: l.here(), Detail: "integer outside 64 bits"}
	}
	if base == 10 {
		text = "0"
	}
	l.emit(tokInt, text)
	l.pos += n
	return nil
}

const decimals = "0123456789"

// digitsLen is the length of digits, grouped by single underscores, at the start
// of s.
func digitsLen(s, digits string) int {
	n := 0
	for n < len(s) {
		switch {
		case strings.IndexByte(digits, s[n]) >= 0:
			n++
		case n > 0 && s[n] == '_' && n+1 < len(s) && strings.IndexByte(digits, s[n+1]) >= 0:
			n += 2
		default:
			return n
		}
	}
	return n
}

// prefixedLen is the length of a number such as 0x1f, or 0.
func prefixedLen(s, digits string) int {
	skip := 2
	if len(s) > 2 && s[2] == '_' {
		skip = 3
	}
	if n := digitsLen(s[skip:], digits); n > 0 {
		return skip + n
	}
	return 0
}

// floatLen is the length of a float at the start of s, or 0 if that is an int.
func floatLen(s string) int {
	n := digitsLen(s, decimals)
	isFloat := false
	if n < len(s) && s[n] == '.' {
		if f := digitsLen(s[n+1:], decimals); f > 0 {
			n += 1 + f
			isFloat = true
		}
	}
	if n < len(s) && s[n]|0x20 == 'e' {
		e := n + 1
		if e < len(s) && (s[e] == '+' || s[e] == '-') {
			e++
		}
		if d := digitsLen(s[e:], decimals); d > 0 {
			n = e + d
			isFloat = true
		}
	}
	if !isFloat {
		return 0
	}
	return n
}

func (l *lexer) str(quote byte) error {
	body := l.src[l.pos+1:]
	for i := 0; i < len(body); i++ {
		switch body[i] {
		case '\\':
			i++
		case quote:
			text, err := l.unescape(body[:i])
			if err != nil {
				return err
			}
			l.emit(tokString, text)
			l.pos += i + 2
			return nil
		}
	}
	return l.fail("unexpected character %q", rune(quote))
}

// unescape resolves the escapes of Python's unicode-escape codec.
func (l *lexer) unescape(s string) (string, error) {
	if strings.IndexByte(s, '\\') < 0 {
		return s, nil
	}
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '\\')
		if i < 0 {
			b.WriteString(s)
			return b.String(), nil
		}
		b.WriteString(s[:i])
		s = s[i+1:]
		c := s[0] // a string never ends with a lone backslash
		switch {
		case c == '\n':
			s = s[1:]
		case c == '\'':
			b.WriteByte('\'')
			s = s[1:]
		case c >= '0' && c <= '7':
			n := 1
			for n < 3 && n < len(s) && s[n] >= '0' && s[n] <= '7' {
				n++
			}
			v, _ := strconv.ParseUint(s[:n], 8, 32)
			b.WriteRune(rune(v))
			s = s[n:]
		case c == 'x' || c == 'u' || c == 'U':
			r, n, err := l.hexEscape(s)
			if err != nil {
				return "", err
			}
			b.WriteRune(r)
			s = s[n:]
		case c == 'N':
			return "", &Error{Kind: ErrUnsupported, Line: l.here(), Detail: `string escape \N`}
		case c >= utf8.RuneSelf:
			// Jinja encodes the text with backslash escapes before it decodes
			// it, so that a backslash here meets another one.
			r, n := utf8.DecodeRuneInString(s)
			b.WriteString(`\` + strings.Trim(pyEscape(r), `\`))
			s = s[n:]
		default:
			if j := strings.IndexByte("abfnrtv\\\"", c); j >= 0 {
				b.WriteByte("\a\b\f\n\r\t\v\\\""[j])
			} else {
				b.WriteByte('\\')
				b.WriteByte(c)
			}
			s = s[1:]
		}
	}
}

func (l *lexer) hexEscape(s string) (rune, int, error) {
	n := 1 + map[byte]int{'x': 2, 'u': 4, 'U': 8}[s[0]]
	if len(s) < n {
		return 0, 0, l.fail(`truncated \%c escape`, s[0])
	}
	v, err := strconv.ParseUint(s[1:n], 16, 32)
	if err != nil {
		return 0, 0, l.fail(`malformed \%c escape`, s[0])
	}
	if !utf8.ValidRune(rune(v)) || v > utf8.MaxRune {
		return 0, 0, &Error{Kind: ErrUnsupported, Line: l.here(), Detail: "string escape that is no character"}
	}
	return rune(v), n, nil
}

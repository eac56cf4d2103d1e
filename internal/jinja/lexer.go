package jinja

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tokEOF tokenKind = iota
	tokData
	tokBlockBegin // {%
	tokBlockEnd
	tokVarBegin // {{
	tokVarEnd
	tokName
	tokString
	tokInt
	tokFloat
	tokOp
)

type token struct {
	kind tokenKind
	text string // of a string: its value
	line int
}

func (t token) is(kind tokenKind, text string) bool { return t.kind == kind && t.text == text }

// describe names a token in an error text.
func (t token) describe() string {
	switch t.kind {
	case tokEOF:
		return "end of template"
	case tokData:
		return "template text"
	case tokBlockBegin:
		return "'{%'"
	case tokBlockEnd:
		return "'%}'"
	case tokVarBegin:
		return "'{{'"
	case tokVarEnd:
		return "'}}'"
	}
	return fmt.Sprintf("%.40q", t.text)
}

// lexer cuts a template into tokens, and its text according to trim_blocks,
// lstrip_blocks and the - and + of tags.
type lexer struct {
	src       string
	pos       int
	counted   int // src[:counted] is in line
	line      int
	lineStart bool // the last tag took the newline behind it
	tokens    []token
}

func lex(src string) ([]token, error) {
	src = normalizeNewlines(src)
	src = strings.TrimSuffix(src, "\n")
	if !utf8.ValidString(src) {
		return nil, &Error{Kind: ErrSyntax, Line: 1, Detail: "the template is not UTF-8"}
	}
	l := &lexer{src: src, line: 1, lineStart: true}
	for l.pos < len(l.src) {
		if err := l.text(); err != nil {
			return nil, err
		}
	}
	l.emit(tokEOF, "")
	return l.tokens, nil
}

func normalizeNewlines(s string) string {
	if strings.IndexByte(s, '\r') < 0 {
		return s
	}
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
}

// here is the line of the current position.
func (l *lexer) here() int {
	l.line += strings.Count(l.src[l.counted:l.pos], "\n")
	l.counted = l.pos
	return l.line
}

func (l *lexer) emit(kind tokenKind, text string) {
	l.tokens = append(l.tokens, token{kind: kind, text: text, line: l.here()})
}

func (l *lexer) fail(format string, args ...any) error {
	return &Error{Kind: ErrSyntax, Line: l.here(), Detail: fmt.Sprintf(format, args...)}
}

// text lexes text up to the next tag, and that tag.
func (l *lexer) text() error {
	begin := l.nextTag()
	if begin < 0 {
		l.emit(tokData, l.src[l.pos:])
		l.pos = len(l.src)
		return nil
	}
	kind := l.src[begin+1]
	after := begin + 2
	sign := signAt(l.src, after)
	if sign != 0 {
		after++
	}
	l.data(l.src[l.pos:begin], sign, kind != '{')
	l.pos = begin
	switch kind {
	case '#':
		return l.comment(after)
	case '{':
		l.emit(tokVarBegin, "")
		l.pos = after
		return l.tag("}}", tokVarEnd)
	}
	if body, ok := rawBegin(l.src, after); ok {
		return l.raw(body)
	}
	l.emit(tokBlockBegin, "")
	l.pos = after
	return l.tag("%}", tokBlockEnd)
}

func (l *lexer) nextTag() int {
	for i := l.pos; ; i++ {
		j := strings.IndexByte(l.src[i:], '{')
		if j < 0 || i+j+1 >= len(l.src) {
			return -1
		}
		i += j
		if c := l.src[i+1]; c == '{' || c == '%' || c == '#' {
			return i
		}
	}
}

// signAt is the whitespace control sign at a position, or 0.
func signAt(s string, i int) byte {
	if i < len(s) && (s[i] == '-' || s[i] == '+') {
		return s[i]
	}
	return 0
}

// data emits the text before a tag.
func (l *lexer) data(text string, sign byte, lstrip bool) {
	switch {
	case sign == '-':
		text = strings.TrimRightFunc(text, isSpace)
	case sign == 0 && lstrip:
		// Blanks between the start of the line and the tag go.
		lineStart := strings.LastIndexByte(text, '\n') + 1
		if (lineStart > 0 || l.lineStart) && strings.TrimLeftFunc(text[lineStart:], isSpace) == "" {
			text = text[:lineStart]
		}
	}
	if text != "" {
		l.emit(tokData, text)
	}
}

// endTag goes behind a tag's end at pos, which is n bytes long, and takes the
// white space that belongs to it.
func (l *lexer) endTag(end, n int, sign byte, block bool) {
	l.pos = end + n
	switch {
	case sign == '-':
		rest := l.src[l.pos:]
		l.pos += len(rest) - len(strings.TrimLeftFunc(rest, isSpace))
	case sign == 0 && block && l.pos < len(l.src) && l.src[l.pos] == '\n':
		l.pos++
	}
	l.lineStart = l.src[l.pos-1] == '\n'
}

func (l *lexer) comment(body int) error {
	i := strings.Index(l.src[body:], "#}")
	switch {
	case i >= 0:
	case body == len(l.src): // Jinja looks for the end only if there is more
		l.pos = body
		return nil
	default:
		return l.fail("missing end of comment")
	}
	end := body + i
	var sign byte
	if end > body {
		sign = signAt(l.src, end-1)
	}
	l.endTag(end, 2, sign, true)
	return nil
}

// rawBegin finds where the text of a raw block starts, if i is in its tag.
func rawBegin(src string, i int) (int, bool) {
	rest := strings.TrimLeftFunc(src[i:], isSpace)
	rest, ok := strings.CutPrefix(rest, "raw")
	if !ok {
		return 0, false
	}
	rest = strings.TrimLeftFunc(rest, isSpace)
	if after, ok := strings.CutPrefix(rest, "-%}"); ok {
		return len(src) - len(strings.TrimLeftFunc(after, isSpace)), true
	}
	after, ok := strings.CutPrefix(rest, "%}")
	return len(src) - len(after), ok
}

func (l *lexer) raw(body int) error {
	for from := body; ; {
		i := strings.Index(l.src[from:], "{%")
		switch {
		case i >= 0:
		case body == len(l.src): // as for comments
			l.pos = body
			return nil
		default:
			return l.fail("missing end of raw block")
		}
		begin := from + i
		from = begin + 2
		after := begin + 2
		sign := signAt(l.src, after)
		if sign != 0 {
			after++
		}
		rest := strings.TrimLeftFunc(l.src[after:], isSpace)
		rest, ok := strings.CutPrefix(rest, "endraw")
		if !ok {
			continue
		}
		rest = strings.TrimLeftFunc(rest, isSpace)
		end := len(l.src) - len(rest)
		endSign := signAt(l.src, end)
		if endSign != 0 {
			end++
		}
		if !strings.HasPrefix(l.src[end:], "%}") {
			continue
		}
		l.lineStart = l.src[body-1] == '\n'
		l.pos = body
		l.data(l.src[body:begin], sign, true)
		l.endTag(end, 2, endSign, true)
		return nil
	}
}

// tag lexes the inside of a tag up to its end.
func (l *lexer) tag(end string, endKind tokenKind) error {
	var open []byte // the closing brackets that are due
	for l.pos < len(l.src) {
		rest := l.src[l.pos:]
		if len(open) == 0 {
			var sign byte
			if rest[0] == '-' || rest[0] == '+' && endKind == tokBlockEnd {
				sign = rest[0]
			}
			at := 0
			if sign != 0 {
				at = 1
			}
			if strings.HasPrefix(rest[at:], end) {
				l.emit(endKind, "")
				l.endTag(l.pos+at, 2, sign, endKind == tokBlockEnd)
				return nil
			}
		}
		r, size := utf8.DecodeRuneInString(rest)
		switch {
		case isSpace(r):
			l.pos += size
		case r >= '0' && r <= '9':
			if err := l.number(); err != nil {
				return err
			}
		case isWord(r):
			n := strings.IndexFunc(rest, func(r rune) bool { return !isWord(r) })
			if n < 0 {
				n = len(rest)
			}
			if unicode.IsDigit(r) || unicode.IsMark(r) {
				return l.fail("invalid character in identifier")
			}
			l.emit(tokName, rest[:n])
			l.pos += n
		case r == '\'' || r == '"':
			if err := l.str(rest[0]); err != nil {
				return err
			}
		default:
			var err error
			if open, err = l.operator(open); err != nil {
				return err
			}
		}
	}
	return nil // the parser finds that the tag does not end
}

func isWord(r rune) bool {
	return r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
		r >= 0x80 && (unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r))
}

var operators = [...]string{ // longer ones first
	"//", "**", "==", "!=", ">=", "<=",
	"+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".", ":", "|", ",", ";",
}

func (l *lexer) operator(open []byte) ([]byte, error) {
	rest := l.src[l.pos:]
	for _, op := range operators {
		if !strings.HasPrefix(rest, op) {
			continue
		}
		switch op {
		case "(":
			open = append(open, ')')
		case "[":
			open = append(open, ']')
		case "{":
			open = append(open, '}')
		case ")", "]", "}":
			if len(open) == 0 {
				return nil, l.fail("unexpected '%s'", op)
			}
			if due := open[len(open)-1]; due != op[0] {
				return nil, l.fail("unexpected '%s', expected '%c'", op, due)
			}
			open = open[:len(open)-1]
		}
		l.emit(tokOp, op)
		l.pos += len(op)
		return open, nil
	}
	r, _ := utf8.DecodeRuneInString(rest)
	return nil, l.fail("unexpected character %q", r)
}

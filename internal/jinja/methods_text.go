package jinja

import (
	"strings"
	"unicode/utf8"
)

// The methods of texts that take them apart or change them.

func (e *interp) strip(s string, chars Value, name string, left, right bool) (Value, error) {
	is := isSpace
	if chars != nil && chars != None {
		set, ok := toText(chars)
		if !ok {
			return nil, e.fail(ErrValue, "%s arg must be None or str", name)
		}
		if err := e.alloc(4 * int64(len(set))); err != nil {
			return nil, err
		}
		if err := e.step(int64(len(set))); err != nil { // it may be sorted
			return nil, err
		}
		is = isOneOf(set)
	}
	if err := e.scan(len(s)); err != nil {
		return nil, err
	}
	if left {
		s = strings.TrimLeftFunc(s, is)
	}
	if right {
		s = strings.TrimRightFunc(s, is)
	}
	return e.part(s)
}

func stripMethod(name string, left, right bool) methodFunc {
	return func(e *interp, self Value, a args) (Value, error) {
		s, _ := toText(self)
		return e.strip(s, a.v[0], name, left, right)
	}
}

func affixCutter(cut func(s, affix string) (string, bool)) methodFunc {
	return func(e *interp, self Value, a args) (Value, error) {
		s, _ := toText(self)
		affix, ok := toText(a.v[0])
		if !ok {
			return nil, e.fail(ErrValue, "the affix must be str, not %s", a.v[0].typeName())
		}
		s, _ = cut(s, affix)
		return e.part(s)
	}
}

// replace replaces the first n occurrences, all if n is negative.
func (e *interp) replace(s, old, new string, n int64) (Value, error) {
	if err := e.scan(len(s)); err != nil {
		return nil, err
	}
	found := int64(strings.Count(s, old))
	if n >= 0 {
		found = min(found, n)
	}
	if found == 0 {
		return e.part(s)
	}
	grows := product(found, int64(len(new)))
	if grows < 0 {
		return nil, e.alloc(-1)
	}
	if err := e.alloc(wordBytes + int64(len(s)) + grows); err != nil {
		return nil, err
	}
	if err := e.step(found); err != nil {
		return nil, err
	}
	return String(strings.Replace(s, old, new, int(found))), nil
}

func methodReplace(e *interp, self Value, a args) (Value, error) {
	s, _ := toText(self)
	old, ok1 := toText(a.v[0])
	new, ok2 := toText(a.v[1])
	n, ok3 := toInt(a.or(2, Int(-1)))
	if !ok1 || !ok2 || !ok3 {
		return nil, e.fail(ErrValue, "replace: wrong types of arguments")
	}
	return e.replace(s, old, new, n)
}

// splitter collects the parts of a text.
type splitter struct {
	e     *interp
	parts []Value
}

func (s *splitter) add(part string) error {
	v, err := s.e.part(part)
	if err != nil {
		return err
	}
	if err := s.e.alloc(wordBytes); err != nil {
		return err
	}
	s.parts = append(s.parts, v)
	return nil
}

// splitMethod is split, or rsplit, which looks from the right.
func splitMethod(right bool) methodFunc {
	return func(e *interp, self Value, a args) (Value, error) {
		s, _ := toText(self)
		n, ok := toInt(a.or(1, Int(-1)))
		if !ok {
			return nil, e.fail(ErrValue, "split: maxsplit must be an int")
		}
		if n < 0 {
			n = int64(len(s)) + 1
		}
		if err := e.scan(len(s)); err != nil {
			return nil, err
		}
		sp := &splitter{e: e}
		var err error
		if a.has(0) {
			sep, ok := toText(a.v[0])
			if !ok {
				return nil, e.fail(ErrValue, "split: must be str or None, not %s", a.v[0].typeName())
			}
			if sep == "" {
				return nil, e.fail(ErrValue, "empty separator")
			}
			err = sp.bySep(s, sep, n, right)
		} else {
			err = sp.bySpace(s, n, right)
		}
		if err != nil {
			return nil, err
		}
		if right {
			for i, j := 0, len(sp.parts)-1; i < j; i, j = i+1, j-1 {
				sp.parts[i], sp.parts[j] = sp.parts[j], sp.parts[i]
			}
		}
		return e.newList(sp.parts)
	}
}

func (s *splitter) bySep(text, sep string, n int64, right bool) error {
	for ; n > 0; n-- {
		var part string
		if right {
			i := strings.LastIndex(text, sep)
			if i < 0 {
				break
			}
			part, text = text[i+len(sep):], text[:i]
		} else {
			i := strings.Index(text, sep)
			if i < 0 {
				break
			}
			part, text = text[:i], text[i+len(sep):]
		}
		if err := s.add(part); err != nil {
			return err
		}
	}
	return s.add(text)
}

func (s *splitter) bySpace(text string, n int64, right bool) error {
	trim := strings.TrimLeftFunc
	if right {
		trim = strings.TrimRightFunc
	}
	for text = trim(text, isSpace); text != ""; text = trim(text, isSpace) {
		if n == 0 {
			// The rest is one part, without the blanks at its far end: those
			// at the near end are gone.
			return s.add(text)
		}
		n--
		var part string
		if right {
			i := strings.LastIndexFunc(text, isSpace)
			_, size := utf8.DecodeRuneInString(text[max(i, 0):])
			if i < 0 {
				size = 0
			}
			part, text = text[max(i, 0)+size:], text[:max(i, 0)]
		} else {
			i := strings.IndexFunc(text, isSpace)
			if i < 0 {
				i = len(text)
			}
			part, text = text[:i], text[i:]
		}
		if err := s.add(part); err != nil {
			return err
		}
	}
	return nil
}

func methodPartition(right bool) methodFunc {
	return func(e *interp, self Value, a args) (Value, error) {
		s, _ := toText(self)
		sep, ok := toText(a.v[0])
		if !ok || sep == "" {
			return nil, e.fail(ErrValue, "partition: wrong separator")
		}
		if err := e.alloc(3*wordBytes + int64(len(s))/scanBytes); err != nil {
			return nil, err
		}
		i := strings.Index(s, sep)
		if right {
			i = strings.LastIndex(s, sep)
		}
		switch {
		case i >= 0:
			return e.newTuple(String(s[:i]), String(sep), String(s[i+len(sep):]))
		case right:
			return e.newTuple(String(""), String(""), String(s))
		}
		return e.newTuple(String(s), String(""), String(""))
	}
}

// splitLines cuts a text at what Python takes for ends of lines.
func (e *interp) splitLines(s string, keepEnds bool) ([]string, error) {
	if err := e.scan(len(s)); err != nil {
		return nil, err
	}
	var lines []string
	for s != "" {
		if err := e.alloc(2 * wordBytes); err != nil {
			return nil, err
		}
		i := strings.IndexFunc(s, isLineEnd)
		if i < 0 {
			return append(lines, s), nil
		}
		_, size := utf8.DecodeRuneInString(s[i:])
		if strings.HasPrefix(s[i:], "\r\n") {
			size = 2
		}
		end := i
		if keepEnds {
			end += size
		}
		lines = append(lines, s[:end])
		s = s[i+size:]
	}
	return lines, nil
}

func isLineEnd(r rune) bool {
	return r >= '\n' && r <= '\r' || r >= 0x1c && r <= 0x1e || r == 0x85 || r == 0x2028 || r == 0x2029
}

func methodSplitLines(e *interp, self Value, a args) (Value, error) {
	s, _ := toText(self)
	lines, err := e.splitLines(s, truth(a.or(0, Bool(false))))
	if err != nil {
		return nil, err
	}
	if err := e.alloc(wordBytes * int64(len(lines))); err != nil {
		return nil, err
	}
	items := make([]Value, len(lines))
	for i, line := range lines {
		items[i] = String(line)
	}
	return e.newList(items)
}

// pad fills a text up to a width: left-justified, right-justified or centred.
func (e *interp) pad(s string, width, fill Value, how string) (Value, error) {
	w, ok := toInt(width)
	f, ok2 := toText(fill)
	if !ok || !ok2 || utf8.RuneCountInString(f) != 1 {
		return nil, e.fail(ErrValue, "%s: wrong width or fill character", how)
	}
	if err := e.scan(len(s)); err != nil {
		return nil, err
	}
	n := w - int64(utf8.RuneCountInString(s))
	if n <= 0 || w <= 0 {
		return e.part(s)
	}
	if err := e.alloc(product(n, int64(len(f)))); err != nil {
		return nil, err
	}
	if err := e.alloc(wordBytes + int64(len(s))); err != nil {
		return nil, err
	}
	left := int64(0)
	switch how {
	case "rjust":
		left = n
	case "center":
		left = n/2 + n&w&1
	}
	return String(strings.Repeat(f, int(left)) + s + strings.Repeat(f, int(n-left))), nil
}

func padMethod(how string) methodFunc {
	return func(e *interp, self Value, a args) (Value, error) {
		s, _ := toText(self)
		return e.pad(s, a.v[0], a.or(1, String(" ")), how)
	}
}

func methodZFill(e *interp, self Value, a args) (Value, error) {
	s, _ := toText(self)
	w, ok := toInt(a.v[0])
	if !ok {
		return nil, e.fail(ErrValue, "zfill: the width must be an int")
	}
	if s != "" && (s[0] == '-' || s[0] == '+') {
		v, err := e.pad(s[1:], Int(max(w, 0)-min(max(w, 0), 1)), String("0"), "rjust")
		if err != nil {
			return nil, err
		}
		return e.newString(s[:1] + string(v.(String)))
	}
	return e.pad(s, a.v[0], String("0"), "rjust")
}

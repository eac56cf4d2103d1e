package jinja

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// textFilter is a filter on the text of a value.
func textFilter(f func(string) string) func(e *interp, in Value, a args) (Value, error) {
	return func(e *interp, in Value, a args) (Value, error) {
		s, err := e.str(in)
		if err != nil {
			return nil, err
		}
		return e.mapText(s, f)
	}
}

// mapText changes a text by a function whose result is at most three times as
// long.
func (e *interp) mapText(s string, f func(string) string) (Value, error) {
	if err := e.alloc(wordBytes + 3*int64(len(s))); err != nil {
		return nil, err
	}
	return String(f(s)), nil
}

func filterString(e *interp, in Value, a args) (Value, error) {
	s, err := e.str(in)
	if err != nil {
		return nil, err
	}
	return e.part(s)
}

func filterSafe(e *interp, in Value, a args) (Value, error) {
	s, err := e.str(in)
	if err != nil {
		return nil, err
	}
	return markup(s), e.alloc(wordBytes)
}

func filterEscape(e *interp, in Value, a args) (Value, error) {
	if _, ok := in.(markup); ok {
		return in, nil
	}
	return filterForceEscape(e, in, a)
}

func filterForceEscape(e *interp, in Value, a args) (Value, error) {
	s, err := e.str(in)
	if err != nil {
		return nil, err
	}
	if s, err = e.escape(s); err != nil {
		return nil, err
	}
	return markup(s), e.alloc(wordBytes)
}

func filterTrim(e *interp, in Value, a args) (Value, error) {
	s, err := e.str(in)
	if err != nil {
		return nil, err
	}
	return e.strip(s, a.or(0, None), "trim", true, true)
}

func filterReplace(e *interp, in Value, a args) (Value, error) {
	var texts [3]string
	for i, v := range []Value{in, a.v[0], a.v[1]} {
		var err error
		if texts[i], err = e.str(v); err != nil {
			return nil, err
		}
	}
	n := int64(-1)
	if a.has(2) {
		var ok bool
		if n, ok = toInt(a.v[2]); !ok {
			return nil, e.fail(ErrValue, "replace: count must be an int")
		}
	}
	return e.replace(texts[0], texts[1], texts[2], n)
}

func filterJoin(e *interp, in Value, a args) (Value, error) {
	sep, err := e.str(a.or(0, String("")))
	if err != nil {
		return nil, err
	}
	get, err := e.attrGetter(a.v[1], nil)
	if err != nil {
		return nil, err
	}
	return e.join(in, sep, func(item Value) (string, error) {
		item, err := get(item)
		if err != nil {
			return "", err
		}
		return e.str(item)
	})
}

// join strings the texts of items together, with sep between them.
func (e *interp) join(items Value, sep string, text func(Value) (string, error)) (Value, error) {
	next, err := e.iterate(items)
	if err != nil {
		return nil, err
	}
	w := &writer{e: e}
	for first := true; ; first = false {
		item, ok, err := next()
		if err != nil {
			return nil, err
		}
		if !ok {
			return e.part(w.b.String())
		}
		s, err := text(item)
		if err != nil {
			return nil, err
		}
		if !first {
			if err := w.add(sep); err != nil {
				return nil, err
			}
		}
		if err := w.add(s); err != nil {
			return nil, err
		}
	}
}

func filterIndent(e *interp, in Value, a args) (Value, error) {
	s, ok := toText(in)
	if !ok {
		return nil, e.fail(ErrValue, "indent: '%s' is no string", in.typeName())
	}
	indent, ok := toText(a.or(0, Int(4)))
	if !ok {
		n, ok := toInt(a.or(0, Int(4)))
		if !ok {
			return nil, e.fail(ErrValue, "indent: width must be a number or a string")
		}
		v, err := e.repeat(String(" "), n)
		if err != nil {
			return nil, err
		}
		indent = string(v.(String))
	}
	first, blank := truth(a.or(1, Bool(false))), truth(a.or(2, Bool(false)))
	lines, err := e.splitLines(s+"\n", false)
	if err != nil {
		return nil, err
	}
	w := &writer{e: e}
	for i, line := range lines {
		var parts []string
		if i > 0 {
			parts = append(parts, "\n")
		}
		if i == 0 && first || i > 0 && (blank || line != "") {
			parts = append(parts, indent)
		}
		if err := w.add(append(parts, line)...); err != nil {
			return nil, err
		}
	}
	return e.part(w.b.String())
}

func filterTruncate(e *interp, in Value, a args) (Value, error) {
	s, ok := toText(in)
	if !ok {
		return nil, e.fail(ErrValue, "truncate: '%s' is no string", in.typeName())
	}
	max, ok1 := toInt(a.or(0, Int(255)))
	end, ok2 := toText(a.or(2, String("...")))
	leeway, ok3 := toInt(a.or(3, Int(5)))
	if a.v[3] == None {
		leeway, ok3 = 5, true
	}
	endLen := int64(utf8.RuneCountInString(end))
	if !ok1 || !ok2 || !ok3 || max < endLen || leeway < 0 || leeway > math.MaxInt64-max {
		return nil, e.fail(ErrValue, "truncate: wrong arguments")
	}
	if err := e.scan(len(s)); err != nil {
		return nil, err
	}
	if int64(utf8.RuneCountInString(s)) <= max+leeway {
		return e.part(s)
	}
	s = s[:runeOffset(s, int(max-endLen))]
	if !truth(a.or(1, Bool(false))) {
		if i := strings.LastIndexByte(s, ' '); i >= 0 {
			s = s[:i]
		}
	}
	return e.addTexts(String(s), String(end), s, end)
}

func filterCenter(e *interp, in Value, a args) (Value, error) {
	s, err := e.str(in)
	if err != nil {
		return nil, err
	}
	return e.pad(s, a.or(0, Int(80)), String(" "), "center")
}

func filterWordCount(e *interp, in Value, a args) (Value, error) {
	s, err := e.str(in)
	if err != nil {
		return nil, err
	}
	if err := e.scan(len(s)); err != nil {
		return nil, err
	}
	words, inside := 0, false
	for _, r := range s {
		word := r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r)
		if word && !inside {
			words++
		}
		inside = word
	}
	return Int(words), nil
}

func filterInt(e *interp, in Value, a args) (Value, error) {
	fallback := a.or(0, Int(0))
	base, ok := toInt(a.or(1, Int(10)))
	if !ok {
		return nil, e.fail(ErrValue, "int: base must be an int")
	}
	if i, ok := toInt(in); ok {
		return Int(i), nil
	}
	f, isFloat := in.(Float)
	if s, ok := toText(in); ok {
		if err := e.scan(len(s)); err != nil {
			return nil, err
		}
		i, ok, err := e.parseInt(s, base)
		if err != nil {
			return nil, err
		}
		if ok {
			return Int(i), nil
		}
		g, ok := parseFloat(s)
		if !ok || math.IsInf(g, 0) {
			return fallback, nil
		}
		f, isFloat = Float(g), true
	}
	if u, ok := in.(*undefined); ok {
		return nil, e.useUndefined(u)
	}
	if !isFloat || math.IsNaN(float64(f)) {
		return fallback, nil
	}
	t := math.Trunc(float64(f))
	if t < -1<<63 || t >= 1<<63 {
		return nil, e.overflow()
	}
	return Int(int64(t)), nil
}

// parseInt is Python's int(s, base) for a text; ok is false where that raises
// ValueError.
func (e *interp) parseInt(s string, base int64) (i int64, ok bool, err error) {
	s = strings.TrimFunc(s, isSpace)
	if base < 0 || base > 36 || base == 1 {
		return 0, false, nil
	}
	digits := strings.TrimLeft(s, "+-")
	if len(s)-len(digits) > 1 {
		return 0, false, nil
	}
	prefixed := false
	if len(digits) > 1 && digits[0] == '0' {
		of := map[byte]int64{'b': 2, 'o': 8, 'x': 16}[digits[1]|0x20]
		if of != 0 && (base == of || base == 0) {
			base, prefixed, digits = of, true, digits[2:]
		}
	}
	digits, ok = stripUnderscores(digits, prefixed)
	if !ok || digits == "" {
		return 0, false, nil
	}
	if base == 0 {
		if digits[0] == '0' && strings.Trim(digits, "0") != "" {
			return 0, false, nil
		}
		base = 10
	}
	if strings.HasPrefix(s, "-") {
		digits = "-" + digits
	}
	i, perr := strconv.ParseInt(digits, int(base), 64)
	if perr == nil {
		return i, true, nil
	}
	if errors.Is(perr, strconv.ErrRange) {
		return 0, false, e.overflow()
	}
	return 0, false, nil
}

// stripUnderscores removes the underscores that group digits; false if one is
// not between two digits (or right behind a prefix).
func stripUnderscores(s string, prefixed bool) (string, bool) {
	if !strings.Contains(s, "_") {
		return s, true
	}
	if !prefixed && s[0] == '_' || s[len(s)-1] == '_' || strings.Contains(s, "__") {
		return s, false
	}
	return strings.ReplaceAll(s, "_", ""), true
}

// parseFloat is Python's float(s) for a text.
func parseFloat(s string) (float64, bool) {
	s = strings.TrimFunc(s, isSpace)
	if s == "" || strings.ContainsAny(s, "xXpP") {
		return 0, false
	}
	for i := range len(s) {
		if s[i] == '_' && (i == 0 || i == len(s)-1 || !isDigit(s[i-1]) || !isDigit(s[i+1])) {
			return 0, false
		}
	}
	f, err := strconv.ParseFloat(strings.ReplaceAll(s, "_", ""), 64)
	if errors.Is(err, strconv.ErrRange) {
		err = nil // an infinity
	}
	return f, err == nil
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func filterFloat(e *interp, in Value, a args) (Value, error) {
	if f, ok := toFloat(in); ok {
		return Float(f), nil
	}
	if s, ok := toText(in); ok {
		if err := e.scan(len(s)); err != nil {
			return nil, err
		}
		if f, ok := parseFloat(s); ok {
			return Float(f), nil
		}
	}
	if u, ok := in.(*undefined); ok {
		return nil, e.useUndefined(u)
	}
	return a.or(0, Float(0)), nil
}

func filterRound(e *interp, in Value, a args) (Value, error) {
	digits, ok := toInt(a.or(0, Int(0)))
	method, _ := toText(a.or(1, String("common")))
	f, isNumber := toFloat(in)
	switch {
	case !ok:
		return nil, e.fail(ErrValue, "round: precision must be an int")
	case !isNumber:
		if u, ok := in.(*undefined); ok {
			return nil, e.useUndefined(u)
		}
		return nil, e.fail(ErrValue, "round: '%s' is no number", in.typeName())
	case method != "common" && method != "ceil" && method != "floor":
		return nil, e.fail(ErrValue, "round: method must be common, ceil or floor")
	}
	i, isInt := toInt(in)
	switch {
	case method == "common" && isInt && digits >= 0:
		return Int(i), nil
	case digits < 0 || digits > 300:
		return nil, e.fail(ErrUnsupported, "round to %d digits", digits)
	case method == "common":
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return Float(f), nil
		}
		r, err := strconv.ParseFloat(strconv.FormatFloat(f, 'f', int(digits), 64), 64)
		if err != nil {
			return nil, e.fail(ErrValue, "rounded value too large")
		}
		return Float(r), nil
	}
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, e.fail(ErrValue, "cannot convert %s to integer", formatFloat(f))
	}
	scale := math.Pow(10, float64(digits))
	if method == "ceil" {
		return Float(math.Ceil(f*scale) / scale), nil
	}
	return Float(math.Floor(f*scale) / scale), nil
}

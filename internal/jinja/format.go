package jinja

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// filterFormat is "..."|format(...), which formats like %.
func filterFormat(e *interp, in Value, a args) (Value, error) {
	s, err := e.str(in)
	if err != nil {
		return nil, err
	}
	if a.named.Len() > 0 {
		if len(a.rest) > 0 {
			return nil, e.fail(ErrValue, "format: positional and named arguments at the same time")
		}
		return e.percent(s, a.named)
	}
	return e.percent(s, &List{items: a.rest, tuple: true})
}

// verb is one conversion of a % format: %(key)flags width .precision type.
type verb struct {
	key                             string
	keyed                           bool
	minus, plus, zero, space, sharp bool
	width, precision                int64 // precision -1 if there is none
	conv                            byte
}

// percent is Python's s % v.
func (e *interp) percent(s string, v Value) (Value, error) {
	operands := []Value{v}
	used := 0
	if l, ok := v.(*List); ok && l.tuple {
		operands = l.items
	}
	next := func() (Value, error) {
		if used == len(operands) {
			return nil, e.fail(ErrValue, "not enough arguments for format string")
		}
		used++
		return operands[used-1], nil
	}
	dict, _ := v.(*Dict)
	w := &writer{e: e}
	for {
		text, rest, found := strings.Cut(s, "%")
		if err := w.add(text); err != nil {
			return nil, err
		}
		if !found {
			break
		}
		f, tail, err := e.parseVerb(rest, next)
		if err != nil {
			return nil, err
		}
		s = tail
		if f.conv == '%' {
			if err := w.add("%"); err != nil {
				return nil, err
			}
			continue
		}
		var arg Value
		if f.keyed {
			if dict == nil {
				return nil, e.fail(ErrValue, "format requires a mapping")
			}
			var ok bool
			if arg, ok = dict.Get(f.key); !ok {
				return nil, e.fail(ErrValue, "format: no key %.80q", f.key)
			}
		} else if arg, err = next(); err != nil {
			return nil, err
		}
		if err := w.verb(f, arg); err != nil {
			return nil, err
		}
	}
	_, isList := v.(*List)
	_, isView := v.(*view)
	plainList := isList && !v.(*List).tuple
	if used < len(operands) && dict == nil && !plainList && !isView {
		return nil, e.fail(ErrValue, "not all arguments converted during string formatting")
	}
	return e.part(w.b.String())
}

func (e *interp) parseVerb(s string, next func() (Value, error)) (f verb, rest string, err error) {
	f.precision = -1
	if strings.HasPrefix(s, "(") {
		depth, i := 0, 0
		for ; i < len(s); i++ {
			if s[i] == '(' {
				depth++
			} else if s[i] == ')' {
				if depth--; depth == 0 {
					break
				}
			}
		}
		if i == len(s) {
			return f, "", e.fail(ErrValue, "incomplete format key")
		}
		f.key, f.keyed, s = s[1:i], true, s[i+1:]
	}
	for s != "" && strings.IndexByte("-+ #0", s[0]) >= 0 {
		switch s[0] {
		case '-':
			f.minus = true
		case '+':
			f.plus = true
		case ' ':
			f.space = true
		case '#':
			f.sharp = true
		case '0':
			f.zero = true
		}
		s = s[1:]
	}
	number := func() (int64, error) {
		if strings.HasPrefix(s, "*") {
			s = s[1:]
			v, err := next()
			if err != nil {
				return 0, err
			}
			n, ok := toInt(v)
			if !ok {
				return 0, e.fail(ErrValue, "* wants int")
			}
			return n, nil
		}
		n := 0
		for n < len(s) && isDigit(s[n]) {
			n++
		}
		if n == 0 {
			return 0, nil
		}
		i, err := strconv.ParseInt(s[:n], 10, 32)
		if err != nil {
			return 0, e.fail(ErrValue, "width too big")
		}
		s = s[n:]
		return i, nil
	}
	if f.width, err = number(); err != nil {
		return f, "", err
	}
	if f.width < 0 {
		f.minus = true
		f.width = -max(f.width, -math.MaxInt32)
	}
	if strings.HasPrefix(s, ".") {
		s = s[1:]
		if f.precision, err = number(); err != nil {
			return f, "", err
		}
		f.precision = max(f.precision, 0)
	}
	s = strings.TrimLeft(s, "hlL")
	if s == "" {
		return f, "", e.fail(ErrValue, "incomplete format")
	}
	f.conv = s[0]
	return f, s[1:], nil
}

// verb writes one converted argument.
func (w *writer) verb(f verb, v Value) error {
	var body, sign string
	var err error
	switch f.conv {
	case 's', 'r', 'a':
		if f.conv == 's' {
			body, err = w.e.str(v)
		} else {
			body, err = w.e.repr(v)
		}
		if err == nil && f.conv == 'a' && !isASCII(body) {
			err = w.e.fail(ErrUnsupported, "format %%a")
		}
		if f.precision >= 0 && f.precision < int64(len(body)) {
			body = body[:runeOffset(body, int(f.precision))]
		}
		f.zero = false
	case 'd', 'i', 'u', 'x', 'X', 'o':
		sign, body, err = w.e.verbInt(f, v)
	case 'e', 'E', 'f', 'F', 'g', 'G':
		sign, body, err = w.e.verbFloat(f, v)
	case 'c':
		if s, ok := toText(v); ok && utf8.RuneCountInString(s) == 1 {
			body = s
		} else if i, ok := toInt(v); ok && i >= 0 && i <= utf8.MaxRune && utf8.ValidRune(rune(i)) {
			body = string(rune(i))
		} else {
			err = w.e.fail(ErrValue, "%%c requires int or char")
		}
		f.zero = false
	default:
		err = w.e.fail(ErrValue, "unsupported format character %q", f.conv)
	}
	if err != nil {
		return err
	}
	pad := f.width - int64(utf8.RuneCountInString(sign)+utf8.RuneCountInString(body))
	if err := w.e.alloc(max(pad, 0)); err != nil {
		return err
	}
	fill := strings.Repeat(" ", int(max(pad, 0)))
	switch {
	case f.minus:
		return w.add(sign, body, fill)
	case f.zero:
		return w.add(sign, strings.Repeat("0", len(fill)), body)
	}
	return w.add(fill, sign, body)
}

func (f verb) sign(negative bool) string {
	switch {
	case negative:
		return "-"
	case f.plus:
		return "+"
	case f.space:
		return " "
	}
	return ""
}

func (e *interp) verbInt(f verb, v Value) (sign, body string, err error) {
	i, ok := toInt(v)
	if g, isFloat := v.(Float); isFloat && strings.IndexByte("diu", f.conv) >= 0 {
		t := math.Trunc(float64(g))
		if !(t >= -1<<63 && t < 1<<63) {
			return "", "", e.overflow()
		}
		i, ok = int64(t), true
	}
	if !ok {
		return "", "", e.fail(ErrValue, "%%%c format: a number is required, not %s", f.conv, v.typeName())
	}
	u := uint64(i)
	if i < 0 {
		u = -u
	}
	sign = f.sign(i < 0)
	base := map[byte]int{'x': 16, 'X': 16, 'o': 8}[f.conv]
	if base == 0 {
		base = 10
	} else if f.sharp {
		sign += "0" + string(f.conv)
	}
	body = strconv.FormatUint(u, base)
	if f.conv == 'X' {
		body = strings.ToUpper(body)
	}
	if n := f.precision - int64(len(body)); n > 0 {
		if err := e.alloc(n); err != nil {
			return "", "", err
		}
		body = strings.Repeat("0", int(n)) + body
	}
	return sign, body, nil
}

func (e *interp) verbFloat(f verb, v Value) (sign, body string, err error) {
	g, ok := toFloat(v)
	if !ok {
		return "", "", e.fail(ErrValue, "%%%c format: must be real number, not %s", f.conv, v.typeName())
	}
	if f.sharp || f.conv|0x20 == 'g' && f.precision > 300 || f.precision > 1000 {
		return "", "", e.fail(ErrUnsupported, "format %%#%c", f.conv)
	}
	sign = f.sign(math.Signbit(g) && !math.IsNaN(g))
	switch {
	case math.IsNaN(g):
		body = "nan"
	case math.IsInf(g, 0):
		body = "inf"
	default:
		p := int(f.precision)
		if p < 0 {
			p = 6
		}
		body = formatVerb(math.Abs(g), f.conv|0x20, p)
	}
	if f.conv < 'a' {
		body = strings.ToUpper(body)
	}
	return sign, body, nil
}

// formatVerb is C's %e, %f or %g.
func formatVerb(f float64, conv byte, p int) string {
	if conv != 'g' {
		return strconv.FormatFloat(f, conv, p, 64)
	}
	p = max(p, 1)
	exp := strconv.FormatFloat(f, 'e', p-1, 64)
	mantissa, power, _ := strings.Cut(exp, "e")
	x, _ := strconv.Atoi(power)
	if x >= -4 && x < p {
		mantissa, power = strconv.FormatFloat(f, 'f', p-1-x, 64), ""
	} else {
		power = "e" + power
	}
	if strings.Contains(mantissa, ".") {
		mantissa = strings.TrimRight(strings.TrimRight(mantissa, "0"), ".")
	}
	return mantissa + power
}

// format is str.format with plain fields: {}, {0}, {name}, attributes and
// indexes of them, and !s and !r. Format specifications are refused.
func (e *interp) format(s string, a args) (Value, error) {
	w := &writer{e: e}
	auto := int64(0) // the number of the next {}; -1 once fields have numbers
	for s != "" {
		i := strings.IndexAny(s, "{}")
		if i < 0 {
			if err := w.add(s); err != nil {
				return nil, err
			}
			break
		}
		if err := w.add(s[:i]); err != nil {
			return nil, err
		}
		if i+1 < len(s) && s[i+1] == s[i] {
			if err := w.add(s[i : i+1]); err != nil {
				return nil, err
			}
			s = s[i+2:]
			continue
		}
		end := strings.IndexByte(s[i:], '}')
		if s[i] == '}' || end < 0 {
			return nil, e.fail(ErrValue, "single '%c' encountered in format string", s[i])
		}
		text, err := e.field(s[i+1:i+end], a, &auto)
		if err != nil {
			return nil, err
		}
		if err := w.add(text); err != nil {
			return nil, err
		}
		s = s[i+end+1:]
	}
	return e.part(w.b.String())
}

func (e *interp) field(s string, a args, auto *int64) (string, error) {
	name, spec, _ := strings.Cut(s, ":")
	name, conv, converts := strings.Cut(name, "!")
	if spec != "" || strings.Contains(name, "{") {
		return "", e.fail(ErrUnsupported, "format specification %.80q", s)
	}
	n := strings.IndexAny(name, ".[")
	if n < 0 {
		n = len(name)
	}
	v, err := e.fieldArg(name[:n], a, auto)
	if err != nil {
		return "", err
	}
	for path := name[n:]; path != ""; {
		if err := e.step(1); err != nil {
			return "", err
		}
		if path[0] == '[' {
			end := strings.IndexByte(path, ']')
			if end < 2 || end+1 < len(path) && path[end+1] != '.' && path[end+1] != '[' {
				return "", e.fail(ErrValue, "malformed format field")
			}
			var i Value = String(path[1:end])
			if at, err := strconv.ParseInt(path[1:end], 10, 64); err == nil && isDigit(path[1]) {
				i = Int(at)
			}
			if v, err = e.getItem(v, i); err != nil {
				return "", err
			}
			path = path[end+1:]
			continue
		}
		end := strings.IndexAny(path[1:], ".[") + 1
		if end == 0 {
			end = len(path)
		}
		if end == 1 {
			return "", e.fail(ErrValue, "malformed format field")
		}
		if v, err = e.getAttr(v, path[1:end]); err != nil {
			return "", err
		}
		path = path[end:]
	}
	switch {
	case !converts || conv == "s":
		return e.str(v)
	case conv == "r":
		return e.repr(v)
	}
	return "", e.fail(ErrUnsupported, "format conversion %.20q", conv)
}

func (e *interp) fieldArg(name string, a args, auto *int64) (Value, error) {
	i := int64(-1)
	switch {
	case name == "" && *auto < 0, name != "" && isDigit(name[0]) && *auto > 0:
		return nil, e.fail(ErrValue, "format: numbered and automatic fields mixed")
	case name == "":
		i = *auto
		*auto++
	case isDigit(name[0]):
		var err error
		if i, err = strconv.ParseInt(name, 10, 32); err != nil {
			return nil, e.fail(ErrValue, "malformed format field")
		}
		*auto = -1
	}
	if i >= 0 {
		if i >= int64(len(a.rest)) {
			return nil, e.fail(ErrValue, "format: no argument %d", i)
		}
		return a.rest[i], nil
	}
	v, ok := a.named.Get(name)
	if !ok {
		return nil, e.fail(ErrValue, "format: no argument %.80q", name)
	}
	return v, nil
}

package jinja

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
)

// isSpace is Python's idea of white space.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }

// str is Python's str(v), what printing a value writes.
func (e *interp) str(v Value) (string, error) {
	switch v := v.(type) {
	case String:
		return string(v), nil
	case markup:
		return string(v), nil
	case *undefined:
		return "", nil
	}
	return e.repr(v)
}

// repr is Python's repr(v).
func (e *interp) repr(v Value) (string, error) {
	switch v := v.(type) { // the common ones that are small
	case none:
		return "None", nil
	case Bool:
		if v {
			return "True", nil
		}
		return "False", nil
	case Int:
		return strconv.FormatInt(int64(v), 10), nil
	case Float:
		return formatFloat(float64(v)), nil
	}
	w := &writer{e: e}
	err := w.repr(v)
	return w.b.String(), err
}

// writer builds a text that a value can blow up, and pays as it grows.
type writer struct {
	e *interp
	b strings.Builder
}

func (w *writer) add(parts ...string) error {
	for _, s := range parts {
		if err := w.e.alloc(int64(len(s))); err != nil {
			return err
		}
		w.b.WriteString(s)
	}
	return nil
}

func (w *writer) repr(v Value) error {
	if err := w.e.enter(); err != nil {
		return err
	}
	defer w.e.leave()
	switch v := v.(type) {
	case String:
		return w.quote(string(v))
	case markup:
		if err := w.add("Markup("); err != nil {
			return err
		}
		if err := w.quote(string(v)); err != nil {
			return err
		}
		return w.add(")")
	case *undefined:
		return w.add("Undefined")
	case *List:
		open, end := "[", "]"
		if v.tuple {
			open, end = "(", ")"
			if len(v.items) == 1 {
				end = ",)"
			}
		}
		return w.items(open, v.items, end)
	case *Dict:
		return w.dict(v)
	case *namespace:
		if err := w.add("<Namespace "); err != nil {
			return err
		}
		if err := w.dict(v.attrs); err != nil {
			return err
		}
		return w.add(">")
	case *view:
		items := v.dict.keys
		if v.what != "keys" {
			items = make([]Value, 0) // made below, at its price
			if err := w.e.alloc((wordBytes*3 + listBytes) * int64(v.dict.Len())); err != nil {
				return err
			}
			for i := range v.dict.Len() {
				items = append(items, v.at(i))
			}
		}
		return w.items(v.typeName()+"([", items, "])")
	case *rangeValue:
		s := fmt.Sprintf("range(%d, %d", v.start, v.stop)
		if v.step != 1 {
			s += fmt.Sprintf(", %d", v.step)
		}
		return w.add(s + ")")
	case *macro:
		if v.def.name == "" {
			return w.add("<Macro 'caller'>")
		}
		return w.add("<Macro '" + v.def.name + "'>")
	case none, Bool, Int, Float:
		s, err := w.e.repr(v)
		if err != nil {
			return err
		}
		return w.add(s)
	case *loopContext:
		n, err := w.e.loopLength(v)
		if err != nil {
			return err
		}
		return w.add(fmt.Sprintf("<LoopContext %d/%d>", v.index0+1, n))
	}
	return w.e.fail(ErrUnsupported, "text of a %s", v.typeName())
}

func (w *writer) items(open string, items []Value, end string) error {
	if err := w.add(open); err != nil {
		return err
	}
	for i, item := range items {
		if i > 0 {
			if err := w.add(", "); err != nil {
				return err
			}
		}
		if err := w.repr(item); err != nil {
			return err
		}
	}
	return w.add(end)
}

func (w *writer) dict(d *Dict) error {
	if err := w.add("{"); err != nil {
		return err
	}
	for i, k := range d.keys {
		if i > 0 {
			if err := w.add(", "); err != nil {
				return err
			}
		}
		if err := w.repr(k); err != nil {
			return err
		}
		if err := w.add(": "); err != nil {
			return err
		}
		if err := w.repr(d.vals[i]); err != nil {
			return err
		}
	}
	return w.add("}")
}

// quote writes a string as Python does: in single quotes, unless that would
// need escapes that double quotes don't.
func (w *writer) quote(s string) error {
	q := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		q = '"'
	}
	if err := w.e.alloc(int64(len(s)) + 2); err != nil {
		return err
	}
	w.b.WriteByte(q)
	for _, r := range s {
		switch {
		case r == rune(q) || r == '\\':
			w.b.WriteByte('\\')
			w.b.WriteRune(r)
		case unicode.IsPrint(r):
			w.b.WriteRune(r)
		default:
			if err := w.add(pyEscape(r)); err != nil {
				return err
			}
		}
	}
	w.b.WriteByte(q)
	return nil
}

// pyEscape is the escape sequence of a character in a Python string.
func pyEscape(r rune) string {
	switch {
	case r == '\n':
		return `\n`
	case r == '\r':
		return `\r`
	case r == '\t':
		return `\t`
	case r < 0x100:
		return fmt.Sprintf(`\x%02x`, r)
	case r < 0x10000:
		return fmt.Sprintf(`\u%04x`, r)
	}
	return fmt.Sprintf(`\U%08x`, r)
}

// formatFloat is Python's repr of a float: the shortest text that reads back as
// it, with an exponent from 1e16 up and below 1e-4.
func formatFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

var htmlEscaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "'", "&#39;", `"`, "&#34;")

// escape replaces the characters that mean something in HTML.
func (e *interp) escape(s string) (string, error) {
	grows := strings.Count(s, "&") + strings.Count(s, "<") + strings.Count(s, ">") +
		strings.Count(s, "'") + strings.Count(s, `"`)
	if grows == 0 {
		return s, e.scan(len(s))
	}
	if err := e.alloc(int64(len(s)) + 4*int64(grows)); err != nil {
		return "", err
	}
	return htmlEscaper.Replace(s), nil
}

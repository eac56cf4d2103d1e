package jinja

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf16"
)

// jsonStyle is how Python's json.dumps is asked to write.
type jsonStyle struct {
	item, key string // separators
	indent    string // of one level
	indented  bool
	ascii     bool
	sortKeys  bool
}

// filterToJSON is transformers' tojson, which escapes nothing for HTML.
func filterToJSON(e *interp, in Value, a args) (Value, error) {
	style := jsonStyle{item: ", ", key: ": ", ascii: truth(a.or(0, Bool(false))), sortKeys: truth(a.or(3, Bool(false)))}
	if a.has(1) {
		style.indented, style.item = true, ","
		if n, ok := toInt(a.v[1]); ok {
			s, err := e.repeat(String(" "), n)
			if err != nil {
				return nil, err
			}
			style.indent = string(s.(String))
		} else if s, ok := toText(a.v[1]); ok {
			style.indent = s
		} else {
			return nil, e.fail(ErrValue, "tojson: indent must be a number or a string")
		}
	}
	if a.has(2) {
		pair, err := e.collect(a.v[2])
		if err != nil {
			return nil, err
		}
		var ok, ok2 bool
		if len(pair) == 2 {
			style.item, ok = toText(pair[0])
			style.key, ok2 = toText(pair[1])
		}
		if !ok || !ok2 {
			return nil, e.fail(ErrValue, "tojson: separators must be two strings")
		}
	}
	w := &writer{e: e}
	if err := w.json(in, style, 0); err != nil {
		return nil, err
	}
	return e.part(w.b.String())
}

func (w *writer) json(v Value, style jsonStyle, level int) error {
	if err := w.e.enter(); err != nil {
		return err
	}
	defer w.e.leave()
	switch v := plain(v).(type) {
	case none:
		return w.add("null")
	case Bool:
		if v {
			return w.add("true")
		}
		return w.add("false")
	case Int:
		return w.add(fmt.Sprint(int64(v)))
	case Float:
		return w.add(jsonFloat(float64(v)))
	case String:
		return w.jsonString(string(v), style.ascii)
	case *List:
		return w.jsonItems('[', ']', len(v.items), style, level, func(i int) error {
			return w.json(v.items[i], style, level+1)
		})
	case *Dict:
		return w.jsonDict(v, style, level)
	}
	return w.e.fail(ErrValue, "Object of type %s is not JSON serializable", v.typeName())
}

func jsonFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	return formatFloat(f)
}

func (w *writer) jsonItems(open, end byte, n int, style jsonStyle, level int, item func(int) error) error {
	if n == 0 {
		return w.add(string([]byte{open, end}))
	}
	if err := w.add(string(open)); err != nil {
		return err
	}
	for i := range n {
		if i > 0 {
			if err := w.add(style.item); err != nil {
				return err
			}
		}
		if err := w.jsonLine(style, level+1); err != nil {
			return err
		}
		if err := item(i); err != nil {
			return err
		}
	}
	if err := w.jsonLine(style, level); err != nil {
		return err
	}
	return w.add(string(end))
}

func (w *writer) jsonLine(style jsonStyle, level int) error {
	if !style.indented {
		return nil
	}
	if err := w.add("\n"); err != nil {
		return err
	}
	for range level {
		if err := w.add(style.indent); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) jsonDict(d *Dict, style jsonStyle, level int) error {
	at := func(i int) int { return i }
	if style.sortKeys {
		by, err := w.e.sorted(d.Len(), func(i, j int) (bool, error) {
			return w.e.compare("<", d.keys[i], d.keys[j])
		})
		if err != nil {
			return err
		}
		at = func(i int) int { return by[i] }
	}
	return w.jsonItems('{', '}', d.Len(), style, level, func(i int) error {
		var key string
		switch k := plain(d.keys[at(i)]).(type) {
		case String:
			key = string(k)
		case none:
			key = "null"
		case Bool:
			key = fmt.Sprint(bool(k))
		case Int:
			key = fmt.Sprint(int64(k))
		case Float:
			key = jsonFloat(float64(k))
		default:
			return w.e.fail(ErrValue, "keys must be str, int, float, bool or None, not %s", k.typeName())
		}
		if err := w.jsonString(key, style.ascii); err != nil {
			return err
		}
		if err := w.add(style.key); err != nil {
			return err
		}
		return w.json(d.vals[at(i)], style, level+1)
	})
}

func (w *writer) jsonString(s string, ascii bool) error {
	if err := w.e.alloc(int64(len(s)) + 2); err != nil {
		return err
	}
	w.b.WriteByte('"')
	for from, r := range s {
		i := strings.IndexRune("\"\\\n\r\t\f\b", r)
		var esc string
		switch {
		case i >= 0:
			esc = `\` + `"\nrtfb`[i:i+1]
		case r < 0x20 || ascii && r > 0x7e && r < 0x10000:
			esc = fmt.Sprintf(`\u%04x`, r)
		case ascii && r >= 0x10000:
			hi, lo := utf16.EncodeRune(r)
			esc = fmt.Sprintf(`\u%04x\u%04x`, hi, lo)
		default:
			w.b.WriteString(s[from : from+len(string(r))])
			continue
		}
		if err := w.add(esc); err != nil {
			return err
		}
	}
	w.b.WriteByte('"')
	return nil
}

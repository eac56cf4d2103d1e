package jinja

import (
	"fmt"
	"strings"
	"time"
)

// directives are what strftime_now knows behind a %.
var directives = map[byte]func(t time.Time) string{
	'a': func(t time.Time) string { return t.Format("Mon") },
	'A': func(t time.Time) string { return t.Format("Monday") },
	'b': func(t time.Time) string { return t.Format("Jan") },
	'B': func(t time.Time) string { return t.Format("January") },
	'c': func(t time.Time) string { return t.Format("Mon Jan _2 15:04:05 2006") },
	'd': func(t time.Time) string { return t.Format("02") },
	'D': func(t time.Time) string { return t.Format("01/02/06") },
	'e': func(t time.Time) string { return t.Format("_2") },
	'f': func(t time.Time) string { return fmt.Sprintf("%06d", t.Nanosecond()/1000) },
	'F': func(t time.Time) string { return t.Format("2006-01-02") },
	'H': func(t time.Time) string { return t.Format("15") },
	'I': func(t time.Time) string { return t.Format("03") },
	'j': func(t time.Time) string { return fmt.Sprintf("%03d", t.YearDay()) },
	'm': func(t time.Time) string { return t.Format("01") },
	'M': func(t time.Time) string { return t.Format("04") },
	'n': func(t time.Time) string { return "\n" },
	'p': func(t time.Time) string { return t.Format("PM") },
	'R': func(t time.Time) string { return t.Format("15:04") },
	's': func(t time.Time) string { return fmt.Sprint(t.Unix()) },
	'S': func(t time.Time) string { return t.Format("05") },
	't': func(t time.Time) string { return "\t" },
	'T': func(t time.Time) string { return t.Format("15:04:05") },
	'u': func(t time.Time) string { return fmt.Sprint((int(t.Weekday())+6)%7 + 1) },
	'w': func(t time.Time) string { return fmt.Sprint(int(t.Weekday())) },
	'x': func(t time.Time) string { return t.Format("01/02/06") },
	'X': func(t time.Time) string { return t.Format("15:04:05") },
	'y': func(t time.Time) string { return t.Format("06") },
	'Y': func(t time.Time) string { return fmt.Sprint(t.Year()) },
	'z': func(t time.Time) string { return "" }, // Python's now() has no zone
	'Z': func(t time.Time) string { return "" },
	'%': func(t time.Time) string { return "%" },
}

// strftime formats the clock's time.
func (e *interp) strftime(layout string) (Value, error) {
	now := e.now()
	w := &writer{e: e}
	for {
		text, rest, found := strings.Cut(layout, "%")
		if err := w.add(text); err != nil {
			return nil, err
		}
		if !found {
			return e.part(w.b.String())
		}
		unpadded := strings.HasPrefix(rest, "-")
		rest = strings.TrimPrefix(rest, "-")
		if rest == "" {
			return nil, e.fail(ErrUnsupported, "strftime directive %q", "%")
		}
		f := directives[rest[0]]
		if f == nil {
			return nil, e.fail(ErrUnsupported, "strftime directive %q", "%"+rest[:1])
		}
		s := f(now)
		if unpadded && len(s) > 1 {
			s = strings.TrimLeft(s[:len(s)-1], "0 ") + s[len(s)-1:]
		}
		if err := w.add(s); err != nil {
			return nil, err
		}
		layout = rest[1:]
	}
}

package jinja

import (
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// getAttr is x.name: the object's attribute if it has one, else its item.
func (e *interp) getAttr(x Value, name string) (Value, error) {
	v, err := e.attribute(x, name)
	if v != nil || err != nil {
		return v, err
	}
	if d, ok := x.(*Dict); ok {
		if v, ok := d.Get(name); ok {
			return v, nil
		}
	}
	return noAttr(x, name), nil
}

func noAttr(x Value, name string) Value {
	return &undefined{hint: "'" + x.typeName() + " object' has no attribute '" + name + "'"}
}

// attribute is a method or another attribute in the sense of Python, or nil.
func (e *interp) attribute(x Value, name string) (Value, error) {
	switch x := x.(type) {
	case *undefined:
		return nil, e.useUndefined(x)
	case *namespace:
		if v, ok := x.attrs.Get(name); ok {
			return v, nil
		}
		return nil, nil
	case *loopContext:
		return e.loopAttr(x, name)
	case *List:
		if i := slices.Index(x.fields, name); i >= 0 {
			return x.items[i], nil
		}
	case *macro:
		if name == "name" && x.def.name != "" {
			return String(x.def.name), nil
		}
	}
	return e.method(x, name)
}

// index evaluates x[i] and x[a:b:c].
func (e *interp) index(n *indexExpr) (Value, error) {
	x, err := e.eval(n.x)
	if err != nil {
		return nil, err
	}
	if s, ok := n.index.(*sliceExpr); ok {
		return e.slice(x, s)
	}
	i, err := e.eval(n.index)
	if err != nil {
		return nil, err
	}
	return e.getItem(x, i)
}

// getItem is x[i]: the object's item if it has one, else its attribute.
func (e *interp) getItem(x, i Value) (Value, error) {
	if u, ok := x.(*undefined); ok {
		return nil, e.useUndefined(u)
	}
	v, err := e.item(x, i)
	if v != nil || err != nil {
		return v, err
	}
	name, ok := toText(i)
	if !ok {
		s, err := e.repr(i)
		return &undefined{hint: x.typeName() + " object has no element " + s}, err
	}
	if v, err = e.attribute(x, name); v == nil && err == nil {
		v = noAttr(x, name)
	}
	return v, err
}

// item is an item of a container, or nil.
func (e *interp) item(x, i Value) (Value, error) {
	if d, ok := x.(*Dict); ok {
		if l, ok := i.(*List); ok && !l.tuple {
			return nil, nil // unhashable: jinja takes the TypeError for a missing item
		}
		if _, ok := i.(*Dict); ok {
			return nil, nil
		}
		h, err := e.hash(i)
		if err != nil {
			return nil, err
		}
		v, _ := d.get(h)
		return v, nil
	}
	at, ok := toInt(i)
	if !ok {
		return nil, nil
	}
	if s, ok := toText(x); ok {
		return e.char(x, s, at)
	}
	n := int64(0)
	switch x := x.(type) {
	case *List:
		n = int64(len(x.items))
	case *rangeValue:
		n = x.len
	}
	if at < 0 {
		at += n
	}
	if at < 0 || at >= n {
		return nil, nil
	}
	if l, ok := x.(*List); ok {
		return l.items[at], nil
	}
	return x.(*rangeValue).at(at), nil
}

// char is a character of a text, or nil.
func (e *interp) char(x Value, s string, at int64) (Value, error) {
	if err := e.scan(2 * len(s)); err != nil { // counted, then found
		return nil, err
	}
	if at < 0 {
		at += int64(utf8.RuneCountInString(s))
	}
	if at < 0 || at >= int64(len(s)) {
		return nil, nil
	}
	from := runeOffset(s, int(at))
	if from == len(s) {
		return nil, nil
	}
	_, n := utf8.DecodeRuneInString(s[from:])
	return e.like(x, s[from:from+n])
}

// like makes a part of a text the kind of text that x is.
func (e *interp) like(x Value, part string) (Value, error) {
	if _, ok := x.(markup); ok {
		return markup(part), e.alloc(wordBytes)
	}
	return e.part(part)
}

// runeOffset is where the n-th character of s starts, at most its end.
func runeOffset(s string, n int) int {
	for i := range s {
		if n == 0 {
			return i
		}
		n--
	}
	return len(s)
}

// slice is x[start:stop:step].
func (e *interp) slice(x Value, s *sliceExpr) (Value, error) {
	var bounds [3]Value
	for i, b := range [3]expr{s.start, s.stop, s.step} {
		if b == nil {
			continue
		}
		v, err := e.eval(b)
		if err != nil {
			return nil, err
		}
		if v != None {
			bounds[i] = v
		}
	}
	if u, ok := x.(*undefined); ok {
		return nil, e.useUndefined(u)
	}
	if err := e.step(1); err != nil {
		return nil, err
	}
	n := int64(0)
	switch x := x.(type) {
	case String, markup:
		t, _ := toText(x)
		if err := e.scan(len(t)); err != nil {
			return nil, err
		}
		n, _ = length(x)
	case *List:
		n = int64(len(x.items))
	case *rangeValue:
		n = x.len
	default:
		return nil, e.fail(ErrValue, "'%s' object can't be sliced", x.typeName())
	}
	for _, b := range bounds {
		if b == nil {
			continue
		}
		if _, ok := toInt(b); !ok {
			return nil, e.fail(ErrValue, "slice indices must be integers or None")
		}
	}
	start, step, count, err := e.sliceIndices(bounds, n)
	if err != nil {
		return nil, err
	}
	return e.cut(x, start, step, count)
}

// sliceIndices gives the first index of a slice, the step and how many there
// are.
func (e *interp) sliceIndices(bounds [3]Value, n int64) (start, step, count int64, err error) {
	step = 1
	if bounds[2] != nil {
		step, _ = toInt(bounds[2])
	}
	if step == 0 {
		return 0, 0, 0, e.fail(ErrValue, "slice step cannot be zero")
	}
	if step == math.MinInt64 {
		step++ // -step must exist; both go beyond any sequence
	}
	lo, hi := int64(0), n // where start and stop are clamped to
	start, stop := lo, hi
	if step < 0 {
		lo, hi = -1, n-1
		start, stop = hi, lo
	}
	for i, at := range []*int64{&start, &stop} {
		if bounds[i] == nil {
			continue
		}
		b, _ := toInt(bounds[i])
		if b < 0 {
			b += n
		}
		*at = min(max(b, lo), hi)
	}
	switch {
	case step > 0 && start < stop:
		count = (stop-start-1)/step + 1
	case step < 0 && stop < start:
		count = (start-stop-1)/-step + 1
	}
	return start, step, count, nil
}

// cut takes count items of x.
func (e *interp) cut(x Value, start, step, count int64) (Value, error) {
	switch x := x.(type) {
	case *List:
		if step == 1 {
			if err := e.alloc(listBytes); err != nil {
				return nil, err
			}
			return &List{items: x.items[start : start+count : start+count], tuple: x.tuple}, nil
		}
		if err := e.alloc(listBytes + wordBytes*count); err != nil {
			return nil, err
		}
		items := make([]Value, count)
		for i := range items {
			items[i] = x.items[start+int64(i)*step]
		}
		return &List{items: items, tuple: x.tuple}, nil
	case *rangeValue:
		r := &rangeValue{start: x.start + start*x.step, step: x.step * step, len: count}
		r.stop = r.start + count*r.step
		return r, nil
	}
	s, _ := toText(x)
	if step == 1 {
		from := runeOffset(s, int(start))
		to := from + runeOffset(s[from:], int(count))
		return e.like(x, s[from:to])
	}
	if err := e.alloc(4*int64(len(s)) + wordBytes); err != nil { // the runes
		return nil, err
	}
	runes := []rune(s)
	var b strings.Builder
	for i := range count {
		b.WriteRune(runes[start+i*step])
	}
	return e.like(x, b.String())
}

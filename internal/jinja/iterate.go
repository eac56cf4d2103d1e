package jinja

import "unicode/utf8"

// next gives the items of a sequence one by one.
type next func() (item Value, ok bool, err error)

// iterate starts over the items of a value; one generator goes on where it is.
func (e *interp) iterate(v Value) (next, error) {
	switch v := v.(type) {
	case *undefined:
		return func() (Value, bool, error) { return nil, false, nil }, nil
	case *List:
		return e.overSlice(v.items), nil
	case *Dict:
		return e.overSlice(v.keys), nil
	case *view:
		return e.over(int64(v.dict.Len()), func(i int64) Value { return v.at(int(i)) }), nil
	case *rangeValue:
		return e.over(v.len, v.at), nil
	case String:
		return e.overText(string(v)), nil
	case markup:
		return e.overText(string(v)), nil
	case *generator:
		return e.pull(v), nil
	case *loopContext:
		return nil, e.fail(ErrUnsupported, "iteration over loop")
	}
	return nil, e.fail(ErrValue, "'%s' object is not iterable", v.typeName())
}

func (e *interp) overSlice(items []Value) next {
	return e.over(int64(len(items)), func(i int64) Value { return items[i] })
}

func (e *interp) over(n int64, at func(int64) Value) next {
	i := int64(0)
	return func() (Value, bool, error) {
		if i == n {
			return nil, false, nil
		}
		i++
		return at(i - 1), true, e.step(1)
	}
}

func (e *interp) overText(s string) next {
	return func() (Value, bool, error) {
		if s == "" {
			return nil, false, nil
		}
		_, n := utf8.DecodeRuneInString(s)
		c := s[:n]
		s = s[n:]
		v, err := e.part(c)
		return v, err == nil, err
	}
}

// pull counts a level, as a generator can draw from another one and so on.
func (e *interp) pull(g *generator) next {
	return func() (Value, bool, error) {
		if err := e.enter(); err != nil {
			return nil, false, err
		}
		defer e.leave()
		return g.next()
	}
}

// collect gathers the items of a value; the slice may be that of a list and is
// not to be changed.
func (e *interp) collect(v Value) ([]Value, error) {
	switch v := v.(type) {
	case *List:
		return v.items, nil
	case *Dict:
		return v.keys, nil
	}
	next, err := e.iterate(v)
	if err != nil {
		return nil, err
	}
	var items []Value
	for {
		item, ok, err := next()
		if err != nil || !ok {
			return items, err
		}
		if err := e.alloc(wordBytes); err != nil {
			return nil, err
		}
		items = append(items, item)
	}
}

// length is Python's len(v), if v has one.
func length(v Value) (int64, bool) {
	switch v := v.(type) {
	case *undefined:
		return 0, true
	case String:
		return int64(utf8.RuneCountInString(string(v))), true
	case markup:
		return int64(utf8.RuneCountInString(string(v))), true
	case *List:
		return int64(len(v.items)), true
	case *Dict:
		return int64(v.Len()), true
	case *view:
		return int64(v.dict.Len()), true
	case *rangeValue:
		return v.len, true
	}
	return 0, false
}

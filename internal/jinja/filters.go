package jinja

// filter is one entry of the table below.
type filter struct {
	name        string
	params      params
	call        func(e *interp, in Value, a args) (Value, error)
	keepsMarkup bool // what it makes of markup is markup
}

// filters are the filters templates may use.
var filters map[string]*filter

func init() { // not a literal: map and its like refer to the table
	filters = make(map[string]*filter)
	for _, f := range []filter{
		{name: "abs", call: filterAbs},
		{name: "attr", params: params{"name"}, call: filterAttr},
		{name: "batch", params: params{"linecount", "fill_with?"}, call: filterBatch},
		{name: "capitalize", call: textFilter(capitalize), keepsMarkup: true},
		{name: "center", params: params{"width?"}, call: filterCenter},
		{name: "count", call: filterLength},
		{name: "d", params: params{"default_value?", "boolean?"}, call: filterDefault},
		{name: "default", params: params{"default_value?", "boolean?"}, call: filterDefault},
		{name: "dictsort", params: params{"case_sensitive?", "by?", "reverse?"}, call: filterDictSort},
		{name: "e", call: filterEscape},
		{name: "escape", call: filterEscape},
		{name: "first", call: filterFirst},
		{name: "float", params: params{"default?"}, call: filterFloat},
		{name: "forceescape", call: filterForceEscape},
		{name: "format", params: params{"*", "**"}, call: filterFormat},
		{name: "groupby", params: params{"attribute", "default?", "case_sensitive?"}, call: filterGroupBy},
		{name: "indent", params: params{"width?", "first?", "blank?"}, call: filterIndent, keepsMarkup: true},
		{name: "int", params: params{"default?", "base?"}, call: filterInt},
		{name: "items", call: filterItems},
		{name: "join", params: params{"d?", "attribute?"}, call: filterJoin},
		{name: "last", call: filterLast},
		{name: "length", call: filterLength},
		{name: "list", call: filterList},
		{name: "lower", call: textFilter(lower), keepsMarkup: true},
		{name: "map", params: params{"*", "**"}, call: filterMap},
		{name: "max", params: params{"case_sensitive?", "attribute?"}, call: extreme(">")},
		{name: "min", params: params{"case_sensitive?", "attribute?"}, call: extreme("<")},
		{name: "reject", params: params{"*", "**"}, call: selector(false, false)},
		{name: "rejectattr", params: params{"*", "**"}, call: selector(false, true)},
		{name: "replace", params: params{"old", "new", "count?"}, call: filterReplace},
		{name: "reverse", call: filterReverse},
		{name: "round", params: params{"precision?", "method?"}, call: filterRound},
		{name: "safe", call: filterSafe},
		{name: "select", params: params{"*", "**"}, call: selector(true, false)},
		{name: "selectattr", params: params{"*", "**"}, call: selector(true, true)},
		{name: "slice", params: params{"slices", "fill_with?"}, call: filterSlice},
		{name: "sort", params: params{"reverse?", "case_sensitive?", "attribute?"}, call: filterSort},
		{name: "string", call: filterString, keepsMarkup: true},
		{name: "sum", params: params{"attribute?", "start?"}, call: filterSum},
		{name: "title", call: textFilter(titleFilter)},
		{name: "tojson", params: params{"ensure_ascii?", "indent?", "separators?", "sort_keys?"}, call: filterToJSON},
		{name: "trim", params: params{"chars?"}, call: filterTrim, keepsMarkup: true},
		{name: "truncate", params: params{"length?", "killwords?", "end?", "leeway?"}, call: filterTruncate},
		{name: "unique", params: params{"case_sensitive?", "attribute?"}, call: filterUnique},
		{name: "upper", call: textFilter(upper), keepsMarkup: true},
		{name: "wordcount", call: filterWordCount},
	} {
		filters[f.name] = &f
	}
}

func filterDefault(e *interp, in Value, a args) (Value, error) {
	_, missing := in.(*undefined)
	if missing || a.v[1] != nil && truth(a.v[1]) && !truth(in) {
		return a.or(0, String("")), nil
	}
	return in, nil
}

func filterAttr(e *interp, in Value, a args) (Value, error) {
	name, ok := toText(a.v[0])
	if !ok {
		return nil, e.fail(ErrValue, "attr: the name must be a string")
	}
	v, err := e.attribute(in, name)
	if v == nil && err == nil {
		v = noAttr(in, name)
	}
	return v, err
}

func filterLength(e *interp, in Value, a args) (Value, error) {
	if s, ok := toText(in); ok {
		if err := e.scan(len(s)); err != nil {
			return nil, err
		}
	}
	if l, ok := in.(*loopContext); ok {
		n, err := e.loopLength(l)
		return Int(n), err
	}
	n, ok := length(in)
	if !ok {
		return nil, e.fail(ErrValue, "object of type '%s' has no len()", in.typeName())
	}
	return Int(n), nil
}

func filterList(e *interp, in Value, a args) (Value, error) {
	items, err := e.collect(in)
	if err != nil {
		return nil, err
	}
	return &List{items: items}, e.alloc(listBytes)
}

func filterItems(e *interp, in Value, a args) (Value, error) {
	switch in := in.(type) {
	case *undefined:
		return e.generate(func() (Value, bool, error) { return nil, false, nil })
	case *Dict:
		next, err := e.iterate(&view{dict: in, what: "items"})
		if err != nil {
			return nil, err
		}
		return e.generate(next)
	}
	// A generator in Python, so that the error comes when it is used.
	return e.generate(func() (Value, bool, error) {
		return nil, false, e.fail(ErrValue, "can only get item pairs from a mapping")
	})
}

func filterFirst(e *interp, in Value, a args) (Value, error) {
	next, err := e.iterate(in)
	if err != nil {
		return nil, err
	}
	v, ok, err := next()
	if err == nil && !ok {
		v = &undefined{hint: "no first item, sequence was empty"}
	}
	return v, err
}

func filterLast(e *interp, in Value, a args) (Value, error) {
	var n int64
	switch in := in.(type) {
	case *generator, *loopContext, *namespace:
		return nil, e.fail(ErrValue, "'%s' object is not reversible", in.typeName())
	case *Dict:
		return filterLast(e, &List{items: in.keys}, a)
	case *view:
		if n = int64(in.dict.Len()); n > 0 {
			return in.at(int(n - 1)), e.alloc(listBytes)
		}
	default:
		var ok bool
		if n, ok = length(in); !ok {
			return nil, e.fail(ErrValue, "'%s' object is not reversible", in.typeName())
		}
	}
	if n == 0 {
		return &undefined{hint: "no last item, sequence was empty"}, nil
	}
	return e.item(in, Int(-1))
}

func filterReverse(e *interp, in Value, a args) (Value, error) {
	if s, ok := toText(in); ok {
		n, _ := length(in)
		if err := e.scan(len(s)); err != nil {
			return nil, err
		}
		return e.cut(in, n-1, -1, n)
	}
	items, err := e.collect(in)
	if err != nil {
		return nil, err
	}
	n := int64(len(items))
	return e.generate(e.over(n, func(i int64) Value { return items[n-1-i] }))
}

func filterAbs(e *interp, in Value, a args) (Value, error) {
	if f, ok := toFloat(in); ok && (f < 0 || f == 0) {
		if _, isInt := toInt(in); isInt && f == 0 {
			return Int(0), nil
		}
		if f == 0 {
			return Float(0), nil
		}
		return e.unary('-', in)
	}
	return e.unary('+', in)
}

// generate makes a generator.
func (e *interp) generate(n next) (Value, error) {
	return &generator{next: n}, e.alloc(listBytes)
}

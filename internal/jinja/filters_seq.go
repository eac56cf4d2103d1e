package jinja

import (
	"strconv"
	"strings"
)

// attrGetter looks up an attribute path such as "function.name" or 0.
func (e *interp) attrGetter(attr, missing Value) (func(Value) (Value, error), error) {
	var path []Value
	switch attr := plain(attr).(type) {
	case nil, none:
	case String:
		for part := range strings.SplitSeq(string(attr), ".") {
			if err := e.alloc(wordBytes); err != nil {
				return nil, err
			}
			if n, err := strconv.ParseInt(part, 10, 64); err == nil && part[0] != '-' && part[0] != '+' {
				path = append(path, Int(n))
			} else {
				path = append(path, String(part))
			}
		}
	default:
		path = []Value{attr}
	}
	return func(v Value) (Value, error) {
		for _, part := range path {
			var err error
			if err = e.step(1); err != nil {
				return nil, err
			}
			if v, err = e.getItem(v, part); err != nil {
				return nil, err
			}
			if _, ok := v.(*undefined); ok && missing != nil && missing != None {
				v = missing
			}
		}
		return v, nil
	}, nil
}

// keyGetter is what sorting and comparing filters look at: an attribute, in
// lower case unless case matters.
func (e *interp) keyGetter(attr, missing, caseSensitive Value) (func(Value) (Value, error), error) {
	get, err := e.attrGetter(attr, missing)
	if err != nil || caseSensitive != nil && truth(caseSensitive) {
		return get, err
	}
	return func(v Value) (Value, error) {
		v, err := get(v)
		if err != nil {
			return nil, err
		}
		if s, ok := toText(v); ok {
			return e.mapText(s, lower)
		}
		return v, nil
	}, nil
}

func filterMap(e *interp, in Value, a args) (Value, error) {
	if !truth(in) {
		return e.generate(func() (Value, bool, error) { return nil, false, nil })
	}
	f, err := e.mapper(a)
	if err != nil {
		return nil, err
	}
	items, err := e.iterate(in)
	if err != nil {
		return nil, err
	}
	return e.generate(func() (Value, bool, error) {
		v, ok, err := items()
		if err != nil || !ok {
			return nil, false, err
		}
		v, err = f(v)
		return v, err == nil, err
	})
}

func (e *interp) mapper(a args) (func(Value) (Value, error), error) {
	attr, ok := a.named.Get("attribute")
	if len(a.rest) == 0 && ok {
		missing, _ := a.named.Get("default")
		for k := range a.named.All() {
			if k != String("attribute") && k != String("default") {
				return nil, e.fail(ErrValue, "map has no argument %q", k)
			}
		}
		return e.attrGetter(attr, missing)
	}
	if len(a.rest) == 0 {
		return nil, e.fail(ErrValue, "map requires a filter argument")
	}
	name, _ := toText(a.rest[0])
	f, ok := filters[name]
	if !ok {
		return nil, e.fail(ErrUnsupported, "filter %.80q", name)
	}
	c := a.forward(1)
	return func(v Value) (Value, error) { return e.runFilter(f, v, c) }, nil
}

// forward is the arguments behind the first n, to be passed on.
func (a args) forward(n int) callValues {
	c := callValues{pos: a.rest[n:]}
	for k, v := range a.named.All() {
		c.names, c.named = append(c.names, string(k.(String))), append(c.named, v)
	}
	return c
}

// selector is select, reject, selectattr or rejectattr.
func selector(keep, byAttr bool) func(e *interp, in Value, a args) (Value, error) {
	return func(e *interp, in Value, a args) (Value, error) {
		if !truth(in) {
			return e.generate(func() (Value, bool, error) { return nil, false, nil })
		}
		get := func(v Value) (Value, error) { return v, nil }
		if byAttr {
			if len(a.rest) == 0 {
				return nil, e.fail(ErrValue, "missing parameter for attribute name")
			}
			var err error
			if get, err = e.attrGetter(a.rest[0], nil); err != nil {
				return nil, err
			}
			a.rest = a.rest[1:]
		}
		check := func(v Value) (bool, error) { return truth(v), nil }
		if len(a.rest) > 0 {
			name, _ := toText(a.rest[0])
			t, ok := tests[name]
			if !ok {
				return nil, e.fail(ErrUnsupported, "test %.80q", name)
			}
			c := a.forward(1)
			check = func(v Value) (bool, error) { return e.runTest(t, v, c) }
		}
		items, err := e.iterate(in)
		if err != nil {
			return nil, err
		}
		return e.generate(func() (Value, bool, error) {
			for {
				item, ok, err := items()
				if err != nil || !ok {
					return nil, false, err
				}
				v, err := get(item)
				if err != nil {
					return nil, false, err
				}
				if ok, err = check(v); err != nil {
					return nil, false, err
				}
				if ok == keep {
					return item, true, nil
				}
			}
		})
	}
}

// sortBy sorts items by the keys they have.
func (e *interp) sortBy(items, keys []Value, reverse bool) ([]Value, error) {
	by, err := e.sorted(len(items), func(i, j int) (bool, error) {
		if reverse {
			return e.compare("<", keys[j], keys[i])
		}
		return e.compare("<", keys[i], keys[j])
	})
	if err != nil {
		return nil, err
	}
	if err := e.alloc(wordBytes * int64(len(items))); err != nil {
		return nil, err
	}
	out := make([]Value, len(items))
	for i, j := range by {
		out[i] = items[j]
	}
	return out, nil
}

func (e *interp) keys(items []Value, get func(Value) (Value, error)) ([]Value, error) {
	if err := e.alloc(wordBytes * int64(len(items))); err != nil {
		return nil, err
	}
	keys := make([]Value, len(items))
	for i, item := range items {
		var err error
		if keys[i], err = get(item); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

func filterSort(e *interp, in Value, a args) (Value, error) {
	items, err := e.collect(in)
	if err != nil {
		return nil, err
	}
	get, err := e.multiGetter(a.v[2], a.v[1])
	if err != nil {
		return nil, err
	}
	keys, err := e.keys(items, get)
	if err != nil {
		return nil, err
	}
	out, err := e.sortBy(items, keys, truth(a.or(0, Bool(false))))
	if err != nil {
		return nil, err
	}
	return e.newList(out)
}

// multiGetter is keyGetter for several attributes, separated by commas.
func (e *interp) multiGetter(attr, caseSensitive Value) (func(Value) (Value, error), error) {
	s, ok := String(""), false
	if attr != nil {
		s, ok = plain(attr).(String)
	}
	if !ok || !strings.Contains(string(s), ",") {
		return e.keyGetter(attr, nil, caseSensitive)
	}
	var gets []func(Value) (Value, error)
	for part := range strings.SplitSeq(string(s), ",") {
		if err := e.alloc(8 * wordBytes); err != nil { // two functions and what they hold
			return nil, err
		}
		get, err := e.keyGetter(String(part), nil, caseSensitive)
		if err != nil {
			return nil, err
		}
		gets = append(gets, get)
	}
	return func(v Value) (Value, error) {
		key := make([]Value, len(gets))
		for i, get := range gets {
			var err error
			if key[i], err = get(v); err != nil {
				return nil, err
			}
		}
		return e.newList(key)
	}, nil
}

func filterDictSort(e *interp, in Value, a args) (Value, error) {
	d, ok := in.(*Dict)
	if !ok {
		if u, ok := in.(*undefined); ok {
			return nil, e.useUndefined(u)
		}
		return nil, e.fail(ErrValue, "dictsort: '%s' is no mapping", in.typeName())
	}
	keys := d.keys
	switch by, _ := toText(a.or(1, String("key"))); by {
	case "key":
	case "value":
		keys = d.vals
	default:
		return nil, e.fail(ErrValue, `dictsort: by must be "key" or "value"`)
	}
	get, err := e.keyGetter(nil, nil, a.v[0])
	if err != nil {
		return nil, err
	}
	if keys, err = e.keys(keys, get); err != nil {
		return nil, err
	}
	pairs, err := e.collect(&view{dict: d, what: "items"})
	if err != nil {
		return nil, err
	}
	if err := e.alloc((listBytes + 2*wordBytes) * int64(len(pairs))); err != nil {
		return nil, err
	}
	out, err := e.sortBy(pairs, keys, truth(a.or(2, Bool(false))))
	if err != nil {
		return nil, err
	}
	return e.newList(out)
}

func filterUnique(e *interp, in Value, a args) (Value, error) {
	get, err := e.keyGetter(a.v[1], nil, a.v[0])
	if err != nil {
		return nil, err
	}
	items, err := e.iterate(in)
	if err != nil {
		return nil, err
	}
	seen := NewDict()
	return e.generate(func() (Value, bool, error) {
		for {
			item, ok, err := items()
			if err != nil || !ok {
				return nil, false, err
			}
			key, err := get(item)
			if err != nil {
				return nil, false, err
			}
			n := seen.Len()
			if err := e.set(seen, key, None); err != nil {
				return nil, false, err
			}
			if seen.Len() > n {
				return item, true, nil
			}
		}
	})
}

// extreme is min or max.
func extreme(op string) func(e *interp, in Value, a args) (Value, error) {
	return func(e *interp, in Value, a args) (Value, error) {
		items, err := e.collect(in)
		if err != nil {
			return nil, err
		}
		if len(items) == 0 {
			return &undefined{hint: "no aggregated item, sequence was empty"}, nil
		}
		get, err := e.keyGetter(a.v[1], nil, a.v[0])
		if err != nil {
			return nil, err
		}
		keys, err := e.keys(items, get)
		if err != nil {
			return nil, err
		}
		best := 0
		for i := 1; i < len(items); i++ {
			better, err := e.compare(op, keys[i], keys[best])
			if err != nil {
				return nil, err
			}
			if better {
				best = i
			}
		}
		return items[best], nil
	}
}

func filterSum(e *interp, in Value, a args) (Value, error) {
	get, err := e.attrGetter(a.v[0], nil)
	if err != nil {
		return nil, err
	}
	next, err := e.iterate(in)
	if err != nil {
		return nil, err
	}
	sum := a.or(1, Int(0))
	if _, ok := toText(sum); ok {
		return nil, e.fail(ErrValue, "sum can't add strings")
	}
	for {
		item, ok, err := next()
		if err != nil || !ok {
			return sum, err
		}
		if item, err = get(item); err != nil {
			return nil, err
		}
		if sum, err = e.binary("+", sum, item); err != nil {
			return nil, err
		}
	}
}

func filterGroupBy(e *interp, in Value, a args) (Value, error) {
	items, err := e.collect(in)
	if err != nil {
		return nil, err
	}
	get, err := e.keyGetter(a.v[0], a.v[1], a.v[2])
	if err != nil {
		return nil, err
	}
	name, err := e.attrGetter(a.v[0], a.v[1])
	if err != nil {
		return nil, err
	}
	keys, err := e.keys(items, get)
	if err != nil {
		return nil, err
	}
	if items, err = e.sortBy(items, keys, false); err != nil {
		return nil, err
	}
	var groups []Value
	for from := 0; from < len(items); {
		key, err := get(items[from])
		if err != nil {
			return nil, err
		}
		to := from + 1
		for ; to < len(items); to++ {
			k, err := get(items[to])
			if err != nil {
				return nil, err
			}
			eq, err := e.equal(key, k)
			if err != nil {
				return nil, err
			}
			if !eq {
				break
			}
		}
		if key, err = name(items[from]); err != nil {
			return nil, err
		}
		group, err := e.newTuple(key, &List{items: items[from:to]})
		if err != nil {
			return nil, err
		}
		group.fields = []string{"grouper", "list"}
		groups = append(groups, group)
		from = to
	}
	return e.newList(groups)
}

// filterBatch and filterSlice cut a sequence into lists: of n items, and into n.
func filterBatch(e *interp, in Value, a args) (Value, error) {
	n, ok := toInt(a.v[0])
	if !ok {
		return nil, e.fail(ErrValue, "batch: the number must be an int")
	}
	items, err := e.collect(in)
	if err != nil {
		return nil, err
	}
	if n <= 0 {
		return nil, e.fail(ErrUnsupported, "batch of %d", n)
	}
	return e.generate(func() (Value, bool, error) {
		if len(items) == 0 {
			return nil, false, nil
		}
		k := int(min(n, int64(len(items))))
		part := items[:k:k]
		items = items[k:]
		if int64(k) < n && a.has(1) {
			fill, err := e.repeat(&List{items: []Value{a.v[1]}}, n-int64(k))
			if err != nil {
				return nil, false, err
			}
			part = append(part, fill.(*List).items...)
		}
		l, err := e.newList(part)
		return l, err == nil, err
	})
}

func filterSlice(e *interp, in Value, a args) (Value, error) {
	n, ok := toInt(a.v[0])
	if !ok || n == 0 {
		return nil, e.fail(ErrValue, "slice: the number must be an int that is not zero")
	}
	items, err := e.collect(in)
	if err != nil {
		return nil, err
	}
	i, from := int64(0), int64(0)
	return e.generate(func() (Value, bool, error) {
		if i >= n {
			return nil, false, nil
		}
		size, extra := int64(len(items))/n, int64(len(items))%n
		if i < extra {
			size++
		}
		part := items[from : from+size : from+size]
		if a.has(1) && i >= extra {
			part = append(part, a.v[1])
		}
		from += size
		i++
		l, err := e.newList(part)
		return l, err == nil, err
	})
}

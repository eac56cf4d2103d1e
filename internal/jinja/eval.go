package jinja

import "strings"

// eval evaluates an expression.
func (e *interp) eval(x expr) (Value, error) {
	switch x := x.(type) { // leaves, which are no level
	case *constExpr:
		return x.v, e.step(1)
	case *nameExpr:
		if err := e.step(1); err != nil {
			return nil, err
		}
		return e.lookup(x.name)
	}
	if err := e.enter(); err != nil {
		return nil, err
	}
	defer e.leave()
	switch x := x.(type) {
	case *listExpr:
		return e.listLiteral(x)
	case *dictExpr:
		return e.dictLiteral(x)
	case *unaryExpr:
		v, err := e.eval(x.x)
		if err != nil {
			return nil, err
		}
		return e.unary(x.op, v)
	case *chainExpr:
		return e.chain(x)
	case *concatExpr:
		return e.concat(x)
	case *logicExpr:
		return e.logic(x)
	case *compareExpr:
		return e.compareChain(x)
	case *condExpr:
		return e.cond(x)
	case *attrExpr:
		v, err := e.eval(x.x)
		if err != nil {
			return nil, err
		}
		return e.getAttr(v, x.name)
	case *indexExpr:
		return e.index(x)
	case *callExpr:
		return e.callWith(x, nil)
	case *filterExpr:
		v, err := e.eval(x.x)
		if err != nil {
			return nil, err
		}
		return e.applyFilter(x, v)
	case *testExpr:
		return e.testExpr(x)
	}
	return nil, e.fail(ErrUnsupported, "expression %T", x)
}

func (e *interp) evalAll(xs []expr) ([]Value, error) {
	if err := e.alloc(wordBytes * int64(len(xs))); err != nil {
		return nil, err
	}
	vals := make([]Value, len(xs))
	for i, x := range xs {
		var err error
		if vals[i], err = e.eval(x); err != nil {
			return nil, err
		}
	}
	return vals, nil
}

func (e *interp) listLiteral(x *listExpr) (Value, error) {
	items, err := e.evalAll(x.items)
	if err != nil {
		return nil, err
	}
	if err := e.alloc(listBytes); err != nil {
		return nil, err
	}
	return &List{items: items, tuple: x.tuple}, nil
}

func (e *interp) dictLiteral(x *dictExpr) (Value, error) {
	if err := e.alloc(listBytes); err != nil {
		return nil, err
	}
	d := NewDict()
	for i := range x.keys {
		k, err := e.eval(x.keys[i])
		if err != nil {
			return nil, err
		}
		v, err := e.eval(x.vals[i])
		if err != nil {
			return nil, err
		}
		if err := e.set(d, k, v); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (e *interp) chain(x *chainExpr) (Value, error) {
	v, err := e.eval(x.first)
	for _, r := range x.rest {
		if err != nil {
			return nil, err
		}
		var y Value
		if y, err = e.eval(r.x); err == nil {
			v, err = e.binary(r.op, v, y)
		}
	}
	return v, err
}

func (e *interp) concat(x *concatExpr) (Value, error) {
	texts := make([]string, len(x.items))
	n := 0
	for i, item := range x.items {
		v, err := e.eval(item)
		if err != nil {
			return nil, err
		}
		if texts[i], err = e.str(v); err != nil {
			return nil, err
		}
		n += len(texts[i])
	}
	if err := e.alloc(wordBytes + int64(n)); err != nil {
		return nil, err
	}
	return String(strings.Join(texts, "")), nil
}

func (e *interp) logic(x *logicExpr) (v Value, err error) {
	for _, item := range x.items {
		if v, err = e.eval(item); err != nil || truth(v) == x.or {
			return v, err
		}
	}
	return v, nil
}

func (e *interp) compareChain(x *compareExpr) (Value, error) {
	left, err := e.eval(x.first)
	if err != nil {
		return nil, err
	}
	for _, r := range x.rest {
		right, err := e.eval(r.x)
		if err != nil {
			return nil, err
		}
		ok, err := e.compare(r.op, left, right)
		if err != nil || !ok {
			return Bool(false), err
		}
		left = right
	}
	return Bool(true), nil
}

func (e *interp) cond(x *condExpr) (Value, error) {
	c, err := e.eval(x.cond)
	if err != nil {
		return nil, err
	}
	if truth(c) {
		return e.eval(x.then)
	}
	if x.orElse == nil {
		return &undefined{hint: "the inline if is false and has no else"}, nil
	}
	return e.eval(x.orElse)
}

func (e *interp) testExpr(x *testExpr) (Value, error) {
	if x.def == nil {
		return nil, e.fail(ErrUnsupported, "test %q", x.name)
	}
	v, err := e.eval(x.x)
	if err != nil {
		return nil, err
	}
	a, err := e.evalArgs(x.args)
	if err != nil {
		return nil, err
	}
	ok, err := e.runTest(x.def, v, a)
	return Bool(ok != x.negate), err
}

func (e *interp) runTest(t *test, v Value, a callValues) (bool, error) {
	bound, err := e.bind("test "+t.name, t.params, a)
	if err != nil {
		return false, err
	}
	return t.call(e, v, bound)
}

func (e *interp) applyFilter(x *filterExpr, v Value) (Value, error) {
	if x.def == nil {
		return nil, e.fail(ErrUnsupported, "filter %q", x.name)
	}
	a, err := e.evalArgs(x.args)
	if err != nil {
		return nil, err
	}
	return e.runFilter(x.def, v, a)
}

func (e *interp) runFilter(f *filter, v Value, a callValues) (Value, error) {
	bound, err := e.bind("filter "+f.name, f.params, a)
	if err != nil {
		return nil, err
	}
	r, err := f.call(e, v, bound)
	if _, ok := v.(markup); ok && f.keepsMarkup {
		if s, ok := r.(String); ok {
			return markup(s), err
		}
	}
	return r, err
}

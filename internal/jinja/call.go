package jinja

import "slices"

// params are the names of a function's parameters: "x" must be given, "x?" may
// be left out, "*" takes the other positional arguments and "**" the other named
// ones.
type params []string

// args are arguments bound to [params].
type args struct {
	v     []Value // by parameter; nil if left out
	rest  []Value
	named *Dict // nil unless the params have **
}

// or is argument i, or a default if it was left out.
func (a args) or(i int, v Value) Value {
	if a.v[i] == nil {
		return v
	}
	return a.v[i]
}

func (a args) has(i int) bool { return a.v[i] != nil && a.v[i] != None }

// callValues are the arguments of one call, evaluated.
type callValues struct {
	pos   []Value
	names []string
	named []Value
}

func (e *interp) evalArgs(x callArgs) (c callValues, err error) {
	if len(x.pos) > 0 {
		if c.pos, err = e.evalAll(x.pos); err != nil {
			return c, err
		}
	}
	if len(x.named) > 0 {
		c.names = x.names
		if c.named, err = e.evalAll(x.named); err != nil {
			return c, err
		}
	}
	if x.star != nil {
		v, err := e.eval(x.star)
		if err != nil {
			return c, err
		}
		more, err := e.collect(v)
		if err != nil {
			return c, err
		}
		if err := e.alloc(wordBytes * int64(len(more))); err != nil {
			return c, err
		}
		c.pos = slices.Concat(c.pos, more)
	}
	if x.starStar != nil {
		err = e.starStar(&c, x.starStar)
	}
	return c, err
}

func (e *interp) starStar(c *callValues, x expr) error {
	v, err := e.eval(x)
	if err != nil {
		return err
	}
	d, ok := v.(*Dict)
	if !ok {
		return e.fail(ErrValue, "argument after ** must be a mapping, not %s", v.typeName())
	}
	if err := e.alloc(2 * wordBytes * int64(d.Len())); err != nil {
		return err
	}
	names, named := slices.Clone(c.names), slices.Clone(c.named)
	for k, v := range d.All() {
		name, ok := k.(String)
		if !ok {
			return e.fail(ErrValue, "keywords must be strings")
		}
		if slices.Contains(c.names, string(name)) {
			return e.fail(ErrValue, "argument %s given twice", name)
		}
		names, named = append(names, string(name)), append(named, v)
	}
	c.names, c.named = names, named
	return nil
}

// bind gives each parameter its argument.
func (e *interp) bind(what string, ps params, c callValues) (args, error) {
	a := args{v: make([]Value, len(ps))}
	pos := c.pos
	for i, p := range ps {
		switch {
		case p == "*":
			a.rest, pos = pos, nil
		case p == "**":
			a.named = NewDict()
		case len(pos) > 0:
			a.v[i], pos = pos[0], pos[1:]
		}
	}
	if len(pos) > 0 {
		return a, e.fail(ErrValue, "%s takes at most %d arguments, %d given", what, len(c.pos)-len(pos), len(c.pos))
	}
	for j, name := range c.names {
		i := slices.IndexFunc(ps, func(p string) bool { return p == name || p == name+"?" })
		switch {
		case i >= 0 && a.v[i] != nil:
			return a, e.fail(ErrValue, "%s got argument %q twice", what, name)
		case i >= 0:
			a.v[i] = c.named[j]
		case a.named != nil:
			if err := e.set(a.named, String(name), c.named[j]); err != nil {
				return a, err
			}
		default:
			return a, e.fail(ErrValue, "%s has no argument %q", what, name)
		}
	}
	for i, p := range ps {
		if a.v[i] == nil && p[0] != '*' && p[len(p)-1] != '?' {
			return a, e.fail(ErrValue, "%s lacks argument %q", what, p)
		}
	}
	return a, nil
}

// callWith makes a call; caller is the body of a call block, or nil.
func (e *interp) callWith(x *callExpr, caller *macro) (Value, error) {
	fn, err := e.eval(x.fn)
	if err != nil {
		return nil, err
	}
	c, err := e.evalArgs(x.args)
	if err != nil {
		return nil, err
	}
	if caller != nil {
		c.names = append(slices.Clone(c.names), "caller")
		c.named = append(slices.Clone(c.named), caller)
	}
	switch fn := fn.(type) {
	case *macro:
		return e.callMacro(fn, c)
	case *function:
		a, err := e.bind(fn.name, fn.params, c)
		if err != nil {
			return nil, err
		}
		return fn.call(e, a)
	case *undefined:
		return nil, e.useUndefined(fn)
	case *loopContext:
		return nil, e.fail(ErrUnsupported, "recursive for loop")
	}
	return nil, e.fail(ErrValue, "'%s' object is not callable", fn.typeName())
}

// useUndefined is the error for using an undefined value.
func (e *interp) useUndefined(u *undefined) error {
	if u.unsafe {
		return e.fail(ErrUnsupported, "%s", u.hint)
	}
	return e.fail(ErrUndefined, "%s", u.hint)
}

// callMacro renders a macro into a string.
func (e *interp) callMacro(m *macro, c callValues) (Value, error) {
	if err := e.enter(); err != nil {
		return nil, err
	}
	defer e.leave()
	def := m.def
	line := e.line
	outer := e.scope
	e.scope = &scope{parent: m.scope}
	defer func() { e.scope, e.line = outer, line }()
	used := make([]bool, len(c.names))
	for i, p := range def.params {
		v, err := e.macroArg(def, i, c, used)
		if err != nil {
			return nil, err
		}
		if err := e.assign(p, v); err != nil {
			return nil, err
		}
	}
	if err := e.extraArgs(def, c, used); err != nil {
		return nil, err
	}
	v, _, err := e.capture(def.body)
	return v, err
}

func (e *interp) macroArg(def *macroNode, i int, c callValues, used []bool) (Value, error) {
	if i < len(c.pos) {
		return c.pos[i], nil
	}
	if j := slices.Index(c.names, def.params[i]); j >= 0 {
		used[j] = true
		return c.named[j], nil
	}
	if d := i - (len(def.params) - len(def.defaults)); d >= 0 {
		return e.eval(def.defaults[d])
	}
	return &undefined{hint: "parameter '" + def.params[i] + "' was not provided"}, nil
}

// extraArgs gives a macro the arguments that are none of its parameters.
func (e *interp) extraArgs(def *macroNode, c callValues, used []bool) error {
	kwargs := NewDict()
	var caller Value
	for j, name := range c.names {
		if used[j] {
			continue
		}
		if name == "caller" && def.caller {
			caller = c.named[j]
			continue
		}
		if !def.kwargs {
			return e.fail(ErrValue, "macro %q takes no argument %q", def.name, name)
		}
		if err := e.set(kwargs, String(name), c.named[j]); err != nil {
			return err
		}
	}
	if def.caller && !slices.Contains(def.params, "caller") {
		if caller == nil {
			caller = &undefined{hint: "no caller defined"}
		}
		e.scope.set("caller", caller)
	}
	if def.kwargs {
		e.scope.set("kwargs", kwargs)
	}
	extra := c.pos[min(len(def.params), len(c.pos)):]
	if def.varargs {
		e.scope.set("varargs", &List{items: extra, tuple: true})
	} else if len(extra) > 0 {
		return e.fail(ErrValue, "macro %q takes at most %d arguments", def.name, len(def.params))
	}
	return nil
}

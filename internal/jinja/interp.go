package jinja

import (
	"strings"
	"time"
)

// interp renders one template once: a walk over the syntax tree.
type interp struct {
	meter
	out       *strings.Builder
	capturing int // blocks being rendered into values, inside one another
	scope     *scope
	vars      map[string]Value
	now       func() time.Time
}

// scope holds the names assigned in one block; loops have one for each turn.
type scope struct {
	vars   map[string]Value
	parent *scope
}

func (s *scope) set(name string, v Value) {
	if s.vars == nil {
		s.vars = make(map[string]Value, 4)
	}
	s.vars[name] = v
}

// push opens a scope inside parent and returns what closes it.
func (e *interp) push(parent *scope) (pop func()) {
	old := e.scope
	e.scope = &scope{parent: parent}
	return func() { e.scope = old }
}

// lookup finds a name in the scopes, the variables and the globals.
func (e *interp) lookup(name string) (Value, error) {
	for s := e.scope; s != nil; s = s.parent {
		if v, ok := s.vars[name]; ok {
			return v, nil
		}
	}
	if v, ok := e.vars[name]; ok {
		return v, nil
	}
	if f, ok := globals[name]; ok {
		if f == nil {
			return nil, e.fail(ErrUnsupported, "global %q", name)
		}
		return f, nil
	}
	return &undefined{hint: "'" + name + "' is undefined"}, nil
}

// assign gives a name in the current scope a value.
func (e *interp) assign(name string, v Value) error {
	if err := e.alloc(entryBytes); err != nil {
		return err
	}
	e.scope.set(name, v)
	return nil
}

// write appends to the output or to the block being captured.
func (e *interp) write(s string) error {
	n := int64(len(s))
	if e.capturing > 0 {
		if err := e.alloc(n); err != nil {
			return err
		}
	} else {
		if n > e.limits.OutputBytes-e.output {
			return e.exceeded(OutputBytes, e.limits.OutputBytes)
		}
		e.output += n
		if err := e.scan(len(s)); err != nil {
			return err
		}
	}
	e.out.WriteString(s)
	return nil
}

// capture renders statements into a value.
func (e *interp) capture(body []stmt) (Value, control, error) {
	var b strings.Builder
	out := e.out
	e.out = &b
	e.capturing++
	c, err := e.block(body)
	e.capturing--
	e.out = out
	if err != nil {
		return nil, goOn, err
	}
	v, err := e.part(b.String())
	return v, c, err
}

// control says how a statement ended.
type control uint8

const (
	goOn control = iota
	breakLoop
	continueLoop
)

func (e *interp) block(body []stmt) (control, error) {
	if err := e.enter(); err != nil {
		return goOn, err
	}
	defer e.leave()
	for _, s := range body {
		if c, err := e.exec(s); c != goOn || err != nil {
			return c, err
		}
	}
	return goOn, nil
}

func (e *interp) exec(s stmt) (control, error) {
	if err := e.step(1); err != nil {
		return goOn, err
	}
	switch s := s.(type) {
	case *textNode:
		return goOn, e.write(string(s.text))
	case *outputNode:
		e.line = s.line
		return goOn, e.print(s.expr)
	case *ifNode:
		return e.ifStmt(s)
	case *forNode:
		return e.forStmt(s)
	case *setNode:
		e.line = s.line
		v, err := e.eval(s.value)
		if err != nil {
			return goOn, err
		}
		return goOn, e.store(s.target, v)
	case *setBlockNode:
		return e.setBlock(s)
	case *filterBlockNode:
		return e.filterBlock(s)
	case *withNode:
		return e.withStmt(s)
	case *macroNode:
		return goOn, e.assign(s.name, &macro{def: s, scope: e.scope})
	case *callBlockNode:
		e.line = s.line
		v, err := e.callWith(s.call, &macro{def: s.body, scope: e.scope})
		if err != nil {
			return goOn, err
		}
		return goOn, e.writeValue(v)
	case *generationNode:
		defer e.push(e.scope)()
		return e.block(s.body)
	case breakNode:
		return breakLoop, nil
	case continueNode:
		return continueLoop, nil
	}
	return goOn, e.fail(ErrUnsupported, "statement %T", s)
}

func (e *interp) print(x expr) error {
	v, err := e.eval(x)
	if err != nil {
		return err
	}
	return e.writeValue(v)
}

func (e *interp) writeValue(v Value) error {
	s, err := e.str(v)
	if err != nil {
		return err
	}
	return e.write(s)
}

func (e *interp) ifStmt(n *ifNode) (control, error) {
	e.line = n.line
	for _, c := range n.cases {
		v, err := e.eval(c.cond)
		if err != nil {
			return goOn, err
		}
		if truth(v) {
			return e.block(c.body)
		}
	}
	return e.block(n.orElse)
}

func (e *interp) setBlock(n *setBlockNode) (control, error) {
	e.line = n.line
	pop := e.push(e.scope)
	v, c, err := e.capture(n.body)
	if err == nil && c == goOn {
		v, err = e.applyFilters(v, n.filters)
	}
	pop()
	if err != nil || c != goOn {
		return c, err
	}
	return goOn, e.store(n.target, v)
}

func (e *interp) filterBlock(n *filterBlockNode) (control, error) {
	e.line = n.line
	defer e.push(e.scope)()
	v, c, err := e.capture(n.body)
	if err != nil || c != goOn {
		return c, err
	}
	if v, err = e.applyFilters(v, n.filters); err != nil {
		return goOn, err
	}
	return goOn, e.writeValue(v)
}

func (e *interp) applyFilters(v Value, fs []*filterExpr) (Value, error) {
	for _, f := range fs {
		var err error
		if v, err = e.applyFilter(f, v); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func (e *interp) withStmt(n *withNode) (control, error) {
	e.line = n.line
	vals := make([]Value, len(n.values))
	for i, x := range n.values {
		var err error
		if vals[i], err = e.eval(x); err != nil {
			return goOn, err
		}
	}
	defer e.push(e.scope)()
	for i, t := range n.targets {
		if err := e.store(t, vals[i]); err != nil {
			return goOn, err
		}
	}
	return e.block(n.body)
}

// store assigns a value to a target.
func (e *interp) store(t target, v Value) error {
	switch t := t.(type) {
	case nameTarget:
		return e.assign(string(t), v)
	case attrTarget:
		o, err := e.lookup(t.name)
		if err != nil {
			return err
		}
		ns, ok := o.(*namespace)
		if !ok {
			return e.fail(ErrValue, "can't assign an attribute to %s, which is no namespace", t.name)
		}
		return e.set(ns.attrs, String(t.attr), v)
	case tupleTarget:
		return e.unpack(t, v)
	}
	return e.fail(ErrUnsupported, "assignment to %T", t)
}

func (e *interp) unpack(t tupleTarget, v Value) error {
	if err := e.enter(); err != nil {
		return err
	}
	defer e.leave()
	next, err := e.iterate(v)
	if err != nil {
		return err
	}
	for _, to := range t {
		item, ok, err := next()
		if err != nil {
			return err
		}
		if !ok {
			return e.fail(ErrValue, "not enough values to unpack, expected %d", len(t))
		}
		if err := e.store(to, item); err != nil {
			return err
		}
	}
	if _, ok, err := next(); err != nil || !ok {
		return err
	}
	return e.fail(ErrValue, "too many values to unpack, expected %d", len(t))
}

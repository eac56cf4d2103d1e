package jinja

// loopContext is the variable loop.
type loopContext struct {
	next     next
	index0   int64
	length   int64 // -1 until it is known
	prev     Value // nil before the second turn
	cur      Value
	ahead    []Value // items taken from next, but not looped over yet
	finished bool    // next has no more items
	changed  []Value // the last arguments of changed()
}

func (e *interp) forStmt(n *forNode) (control, error) {
	e.line = n.line
	v, err := e.eval(n.iter)
	if err != nil {
		return goOn, err
	}
	items, err := e.iterate(v)
	if err != nil {
		return goOn, err
	}
	length, known := length(v)
	if n.cond != nil {
		items, known = e.loopFilter(n, items), false
	}
	if !known {
		length = -1
	}
	loop := &loopContext{next: items, index0: -1, length: length}
	for {
		if err := e.step(1); err != nil {
			return goOn, err
		}
		item, ok, err := loop.advance()
		if err != nil {
			return goOn, err
		}
		if !ok {
			break
		}
		c, err := e.turn(n, loop, item)
		if err != nil {
			return goOn, err
		}
		if c == breakLoop {
			return goOn, nil
		}
	}
	if loop.index0 < 0 {
		defer e.push(e.scope)()
		return e.block(n.orElse)
	}
	return goOn, nil
}

// turn renders the body once, in a scope of its own.
func (e *interp) turn(n *forNode, loop *loopContext, item Value) (control, error) {
	defer e.push(e.scope)()
	if err := e.assign("loop", loop); err != nil {
		return goOn, err
	}
	if err := e.store(n.target, item); err != nil {
		return goOn, err
	}
	return e.block(n.body)
}

// loopFilter is the items for which the condition of the for holds.
func (e *interp) loopFilter(n *forNode, items next) next {
	scope := e.scope
	return func() (Value, bool, error) {
		for {
			item, ok, err := items()
			if !ok || err != nil {
				return nil, false, err
			}
			keep, err := e.loopCond(n, scope, item)
			if err != nil {
				return nil, false, err
			}
			if keep {
				return item, true, nil
			}
		}
	}
}

func (e *interp) loopCond(n *forNode, scope *scope, item Value) (bool, error) {
	defer e.push(scope)()
	if err := e.store(n.target, item); err != nil {
		return false, err
	}
	v, err := e.eval(n.cond)
	return err == nil && truth(v), err
}

// advance goes to the next item.
func (l *loopContext) advance() (Value, bool, error) {
	item, ok, err := l.peek()
	if !ok || err != nil {
		return nil, false, err
	}
	l.ahead = l.ahead[1:]
	l.index0++
	l.prev, l.cur = l.cur, item
	return item, true, nil
}

// peek is the item after the current one.
func (l *loopContext) peek() (Value, bool, error) {
	if len(l.ahead) == 0 && !l.finished {
		item, ok, err := l.next()
		if err != nil {
			return nil, false, err
		}
		if ok {
			l.ahead = append(l.ahead, item)
		}
		l.finished = !ok
	}
	if len(l.ahead) == 0 {
		return nil, false, nil
	}
	return l.ahead[0], true, nil
}

// loopLength counts the items, which takes those that are left out of their
// generator if need be.
func (e *interp) loopLength(l *loopContext) (int64, error) {
	if l.length >= 0 {
		return l.length, nil
	}
	for !l.finished {
		item, ok, err := l.next()
		if err != nil {
			return 0, err
		}
		if !ok {
			l.finished = true
			break
		}
		if err := e.alloc(wordBytes); err != nil {
			return 0, err
		}
		l.ahead = append(l.ahead, item)
	}
	l.length = l.index0 + 1 + int64(len(l.ahead))
	return l.length, nil
}

// loopAttr is an attribute of loop, or nil if it has none of that name.
func (e *interp) loopAttr(l *loopContext, name string) (Value, error) {
	switch name {
	case "index":
		return Int(l.index0 + 1), nil
	case "index0":
		return Int(l.index0), nil
	case "first":
		return Bool(l.index0 == 0), nil
	case "last":
		_, more, err := l.peek()
		return Bool(!more), err
	case "depth":
		return Int(1), nil
	case "depth0":
		return Int(0), nil
	case "length", "revindex", "revindex0":
		n, err := e.loopLength(l)
		switch name {
		case "revindex":
			n -= l.index0
		case "revindex0":
			n -= l.index0 + 1
		}
		return Int(n), err
	case "previtem":
		if l.prev == nil {
			return &undefined{hint: "there is no previous item"}, nil
		}
		return l.prev, nil
	case "nextitem":
		v, more, err := l.peek()
		if err == nil && !more {
			v = &undefined{hint: "there is no next item"}
		}
		return v, err
	case "cycle":
		return &function{name: "loop.cycle", params: params{"*"}, call: func(e *interp, a args) (Value, error) {
			if len(a.rest) == 0 {
				return nil, e.fail(ErrValue, "no items for cycling given")
			}
			return a.rest[l.index0%int64(len(a.rest))], nil
		}}, nil
	case "changed":
		return &function{name: "loop.changed", params: params{"*"}, call: l.callChanged}, nil
	}
	return nil, nil
}

func (l *loopContext) callChanged(e *interp, a args) (Value, error) {
	same := l.changed != nil
	if same {
		var err error
		if same, err = e.equalItems(l.changed, a.rest); err != nil {
			return nil, err
		}
	}
	l.changed = append(make([]Value, 0, len(a.rest)), a.rest...)
	return Bool(!same), nil
}

package jinja

import (
	"slices"
	"strconv"
	"strings"
)

var constants = map[string]Value{
	"true": Bool(true), "True": Bool(true),
	"false": Bool(false), "False": Bool(false),
	"none": None, "None": None,
}

// tupleEnd says whether a tuple without brackets ends here.
func (p *parser) tupleEnd() bool {
	t := p.cur()
	return t.kind == tokVarEnd || t.kind == tokBlockEnd || t.is(tokOp, ")")
}

// tupleOrExpr parses an expression, or a tuple of expressions without brackets.
// Where a condition can follow (withCond false), inline ifs are not looked for.
func (p *parser) tupleOrExpr(withCond bool) (expr, error) {
	var items []expr
	isTuple := false
	for !p.tupleEnd() {
		var x expr
		var err error
		if withCond {
			x, err = p.expression()
		} else {
			x, err = p.or()
		}
		if err != nil {
			return nil, err
		}
		items = append(items, x)
		if !p.skip(tokOp, ",") {
			break
		}
		isTuple = true
	}
	if isTuple {
		return &listExpr{items: items, tuple: true}, nil
	}
	if len(items) == 0 {
		return nil, p.fail("expected an expression, got %s", p.cur().describe())
	}
	return items[0], nil
}

// expression parses an expression with inline ifs.
func (p *parser) expression() (expr, error) {
	if err := p.nest(); err != nil {
		return nil, err
	}
	defer p.unnest()
	unknown := len(p.unknown)
	x, err := p.or()
	if err != nil {
		return nil, err
	}
	if p.at(tokName, "if") {
		defer p.inBranch(unknown)
	}
	for p.at(tokName, "if") {
		if err := p.nest(); err != nil { // each one is a level of the tree
			return nil, err
		}
		defer p.unnest()
		line := p.next().line
		cond, err := p.or()
		if err != nil {
			return nil, err
		}
		n := &condExpr{cond: cond, then: x, line: line}
		if p.skip(tokName, "else") {
			if n.orElse, err = p.expression(); err != nil {
				return nil, err
			}
		}
		x = n
	}
	return x, nil
}

func (p *parser) or() (expr, error)  { return p.logic("or", p.and) }
func (p *parser) and() (expr, error) { return p.logic("and", p.not) }

func (p *parser) logic(op string, operand func() (expr, error)) (expr, error) {
	x, err := operand()
	if err != nil || !p.at(tokName, op) {
		return x, err
	}
	n := &logicExpr{or: op == "or", items: []expr{x}}
	for p.skip(tokName, op) {
		if x, err = operand(); err != nil {
			return nil, err
		}
		n.items = append(n.items, x)
	}
	return n, nil
}

func (p *parser) not() (expr, error) {
	if !p.at(tokName, "not") {
		return p.compare()
	}
	if err := p.nest(); err != nil {
		return nil, err
	}
	defer p.unnest()
	p.next()
	x, err := p.not()
	return &unaryExpr{'!', x}, err
}

func (p *parser) compare() (expr, error) {
	x, err := p.sum()
	if err != nil {
		return nil, err
	}
	var rest []operand
	for {
		t := p.cur()
		op := ""
		switch {
		case t.kind == tokOp && slices.Contains([]string{"==", "!=", "<", "<=", ">", ">="}, t.text),
			t.is(tokName, "in"):
			op = t.text
		case t.is(tokName, "not") && p.peek().is(tokName, "in"):
			p.next()
			op = "not in"
		}
		if op == "" {
			break
		}
		p.next()
		y, err := p.sum()
		if err != nil {
			return nil, err
		}
		rest = append(rest, operand{op, y})
	}
	if rest == nil {
		return x, nil
	}
	return &compareExpr{x, rest}, nil
}

func (p *parser) sum() (expr, error)     { return p.chain(p.concat, "+", "-") }
func (p *parser) product() (expr, error) { return p.chain(p.power, "*", "/", "//", "%") }
func (p *parser) power() (expr, error) {
	return p.chain(func() (expr, error) { return p.unary(true) }, "**")
}

func (p *parser) chain(next func() (expr, error), ops ...string) (expr, error) {
	x, err := next()
	if err != nil {
		return nil, err
	}
	var rest []operand
	for p.cur().kind == tokOp && slices.Contains(ops, p.cur().text) {
		op := p.next().text
		y, err := next()
		if err != nil {
			return nil, err
		}
		rest = append(rest, operand{op, y})
	}
	if rest == nil {
		return x, nil
	}
	return &chainExpr{x, rest}, nil
}

func (p *parser) concat() (expr, error) {
	x, err := p.product()
	if err != nil || !p.at(tokOp, "~") {
		return x, err
	}
	n := &concatExpr{[]expr{x}}
	for p.skip(tokOp, "~") {
		if x, err = p.product(); err != nil {
			return nil, err
		}
		n.items = append(n.items, x)
	}
	return n, nil
}

// unary parses signs and what they apply to. A filter applies to the signed
// value: -1|abs is 1.
func (p *parser) unary(withFilters bool) (expr, error) {
	if err := p.nest(); err != nil {
		return nil, err
	}
	defer p.unnest()
	var x expr
	var err error
	if t := p.cur(); t.is(tokOp, "-") || t.is(tokOp, "+") {
		p.next()
		if x, err = p.unary(false); err != nil {
			return nil, err
		}
		x = &unaryExpr{t.text[0], x}
	} else if x, err = p.primary(); err != nil {
		return nil, err
	}
	return p.postfix(x, withFilters)
}

func (p *parser) primary() (expr, error) {
	t := p.cur()
	switch t.kind {
	case tokName:
		p.next()
		if v, ok := constants[t.text]; ok {
			return &constExpr{v}, nil
		}
		p.noteName(t.text)
		return &nameExpr{t.text}, nil
	case tokString:
		var b strings.Builder
		for p.cur().kind == tokString {
			b.WriteString(p.next().text)
		}
		return &constExpr{String(b.String())}, nil
	case tokInt:
		p.next()
		n, err := strconv.ParseInt(t.text, 0, 64)
		if err != nil {
			// Zeros in front, which are no octal number here.
			n, err = strconv.ParseInt(t.text, 10, 64)
		}
		if err != nil {
			return nil, p.fail("malformed integer")
		}
		return &constExpr{Int(n)}, nil
	case tokFloat:
		p.next()
		f, _ := strconv.ParseFloat(t.text, 64) // out of range is an infinity, as in Python
		return &constExpr{Float(f)}, nil
	case tokOp:
		switch t.text {
		case "(":
			p.next()
			return p.parenthesis()
		case "[":
			p.next()
			items, err := p.list("]")
			return &listExpr{items: items}, err
		case "{":
			p.next()
			return p.dict()
		}
	}
	return nil, p.fail("unexpected %s", t.describe())
}

// noteName marks the macros around a name that asks for their caller or for
// arguments they don't name.
func (p *parser) noteName(name string) {
	for _, m := range p.macros {
		switch name {
		case "caller":
			m.caller = true
		case "kwargs":
			m.kwargs = true
		case "varargs":
			m.varargs = true
		}
	}
}

func (p *parser) parenthesis() (expr, error) {
	if p.skip(tokOp, ")") {
		return &listExpr{tuple: true}, nil
	}
	x, err := p.tupleOrExpr(true)
	if err != nil {
		return nil, err
	}
	_, err = p.expect(tokOp, ")")
	return x, err
}

// list parses expressions up to the closing bracket.
func (p *parser) list(end string) ([]expr, error) {
	var items []expr
	for !p.skip(tokOp, end) {
		if len(items) > 0 {
			if _, err := p.expect(tokOp, ","); err != nil {
				return nil, err
			}
			if p.skip(tokOp, end) {
				break
			}
		}
		x, err := p.expression()
		if err != nil {
			return nil, err
		}
		items = append(items, x)
	}
	return items, nil
}

func (p *parser) dict() (expr, error) {
	n := &dictExpr{}
	for !p.skip(tokOp, "}") {
		if len(n.keys) > 0 {
			if _, err := p.expect(tokOp, ","); err != nil {
				return nil, err
			}
			if p.skip(tokOp, "}") {
				break
			}
		}
		k, err := p.expression()
		if err != nil {
			return nil, err
		}
		if _, err := p.expect(tokOp, ":"); err != nil {
			return nil, err
		}
		v, err := p.expression()
		if err != nil {
			return nil, err
		}
		n.keys, n.vals = append(n.keys, k), append(n.vals, v)
	}
	return n, nil
}

// postfix parses attributes, indexes, calls, filters and tests behind x. Each
// is a level of the tree, so each counts as one.
func (p *parser) postfix(x expr, withFilters bool) (expr, error) {
	levels := 0
	defer func() { p.nesting -= levels }()
	filtered := false // behind a filter there are no attributes and indexes
	for {
		t := p.cur()
		var err error
		switch {
		case t.is(tokOp, ".") && !filtered:
			x, err = p.attribute(x)
		case t.is(tokOp, "[") && !filtered:
			x, err = p.index(x)
		case t.is(tokOp, "("):
			x, err = p.call(x)
		case t.is(tokOp, "|") && withFilters:
			p.next()
			filtered = true
			x, err = p.filter(x)
		case t.is(tokName, "is") && withFilters:
			filtered = true
			x, err = p.test(x)
		default:
			return x, nil
		}
		if err != nil {
			return nil, err
		}
		levels++
		if err := p.nest(); err != nil {
			return nil, err
		}
	}
}

func (p *parser) attribute(x expr) (expr, error) {
	p.next()
	t := p.next()
	switch t.kind {
	case tokName:
		return &attrExpr{x, t.text}, nil
	case tokInt:
		n, err := strconv.ParseInt(t.text, 0, 64)
		if err != nil {
			return nil, p.fail("malformed index")
		}
		return &indexExpr{x, &constExpr{Int(n)}}, nil
	}
	return nil, p.fail("expected an attribute or an index, got %s", t.describe())
}

func (p *parser) index(x expr) (expr, error) {
	p.next()
	var items []expr
	for !p.at(tokOp, "]") {
		if len(items) > 0 {
			if _, err := p.expect(tokOp, ","); err != nil {
				return nil, err
			}
		}
		i, err := p.subscript()
		if err != nil {
			return nil, err
		}
		items = append(items, i)
	}
	p.next()
	if len(items) == 1 {
		return &indexExpr{x, items[0]}, nil
	}
	for _, i := range items {
		if _, ok := i.(*sliceExpr); ok {
			return nil, p.unsupported(p.cur().line, "several slices in one index")
		}
	}
	return &indexExpr{x, &listExpr{items: items, tuple: true}}, nil
}

// subscript parses an index or a slice.
func (p *parser) subscript() (expr, error) {
	var parts [3]expr
	n := 0
	for ; n < 3; n++ {
		if !p.at(tokOp, ":") && !p.at(tokOp, "]") && !p.at(tokOp, ",") {
			x, err := p.expression()
			if err != nil {
				return nil, err
			}
			parts[n] = x
		}
		if n == 2 || !p.skip(tokOp, ":") {
			break
		}
	}
	if n == 0 {
		if parts[0] == nil {
			return nil, p.fail("unexpected %s", p.cur().describe())
		}
		return parts[0], nil
	}
	return &sliceExpr{parts[0], parts[1], parts[2]}, nil
}

func (p *parser) call(fn expr) (expr, error) {
	args, err := p.callArgs()
	return &callExpr{fn, args}, err
}

func (p *parser) callArgs() (a callArgs, err error) {
	p.next()
	for first := true; !p.skip(tokOp, ")"); first = false {
		if !first {
			if _, err := p.expect(tokOp, ","); err != nil {
				return a, err
			}
			if p.skip(tokOp, ")") {
				break
			}
		}
		switch {
		case a.star == nil && a.starStar == nil && p.skip(tokOp, "*"):
			a.star, err = p.expression()
		case a.starStar == nil && p.skip(tokOp, "**"):
			a.starStar, err = p.expression()
		case a.starStar == nil && p.cur().kind == tokName && p.peek().is(tokOp, "="):
			name := p.next().text
			if slices.Contains(a.names, name) {
				return a, p.fail("argument %s given twice", name)
			}
			p.next()
			var x expr
			x, err = p.expression()
			a.names, a.named = append(a.names, name), append(a.named, x)
		case a.star == nil && a.starStar == nil && a.named == nil:
			var x expr
			x, err = p.expression()
			a.pos = append(a.pos, x)
		default:
			err = p.fail("arguments in the wrong order")
		}
		if err != nil {
			return a, err
		}
	}
	return a, nil
}

// dottedName parses the name of a filter or a test.
func (p *parser) dottedName() (token, error) {
	t, err := p.expect(tokName, "")
	for err == nil && p.skip(tokOp, ".") {
		var part token
		part, err = p.expect(tokName, "")
		t.text += "." + part.text
	}
	return t, err
}

func (p *parser) filter(x expr) (*filterExpr, error) {
	name, err := p.dottedName()
	if err != nil {
		return nil, err
	}
	n := &filterExpr{x: x, name: name.text, def: filters[name.text]}
	if n.def == nil {
		p.unknown = append(p.unknown, p.unsupported(name.line, "filter %q", name.text))
	}
	if p.at(tokOp, "(") {
		if n.args, err = p.callArgs(); err != nil {
			return nil, err
		}
	}
	p.checkNamed(name, n.args)
	return n, nil
}

// checkNamed looks for unknown filters and tests in the arguments of filters
// that take their names.
func (p *parser) checkNamed(filter token, a callArgs) {
	i := 0
	switch filter.text {
	case "map", "select", "reject":
	case "selectattr", "rejectattr":
		i = 1
	default:
		return
	}
	if i >= len(a.pos) {
		return
	}
	c, ok := a.pos[i].(*constExpr)
	if !ok {
		return
	}
	name, ok := c.v.(String)
	switch {
	case !ok:
	case filter.text == "map" && filters[string(name)] == nil:
		p.unknown = append(p.unknown, p.unsupported(filter.line, "filter %q", string(name)))
	case filter.text != "map" && tests[string(name)] == nil:
		p.unknown = append(p.unknown, p.unsupported(filter.line, "test %q", string(name)))
	}
}

func (p *parser) test(x expr) (expr, error) {
	p.next()
	n := &testExpr{x: x, negate: p.skip(tokName, "not")}
	name, err := p.dottedName()
	if err != nil {
		return nil, err
	}
	n.name, n.def = name.text, tests[name.text]
	if n.def == nil {
		p.unknown = append(p.unknown, p.unsupported(name.line, "test %q", name.text))
	}
	t := p.cur()
	switch {
	case t.is(tokOp, "("):
		n.args, err = p.callArgs()
	case t.is(tokName, "is"):
		return nil, p.fail("can't chain tests")
	case t.kind == tokName && (t.text == "else" || t.text == "or" || t.text == "and"):
	case t.kind == tokName, t.kind == tokString, t.kind == tokInt, t.kind == tokFloat, t.is(tokOp, "["), t.is(tokOp, "{"):
		// One argument may go without brackets. A name that goes on with the
		// statement (if, in, not) is taken for an argument too, as in Jinja.
		var arg expr
		if arg, err = p.primary(); err == nil {
			arg, err = p.postfix(arg, false)
		}
		n.args.pos = []expr{arg}
	}
	return n, err
}

package jinja

import (
	"fmt"
	"slices"
)

// parser builds the syntax tree. Every method that can meet itself again counts
// a level with nest.
type parser struct {
	tokens     []token
	pos        int
	nesting    int
	maxNesting int
	loops      int          // loops around the statement, within its macro
	macros     []*macroNode // macros around the expression
	unknown    []error      // filters and tests that don't exist, so far not in a branch
}

func (p *parser) cur() token { return p.tokens[p.pos] }

func (p *parser) peek() token { return p.tokens[min(p.pos+1, len(p.tokens)-1)] }

// next returns the current token and goes on; the end stays current.
func (p *parser) next() token {
	t := p.tokens[p.pos]
	if t.kind != tokEOF {
		p.pos++
	}
	return t
}

func (p *parser) at(kind tokenKind, text string) bool { return p.cur().is(kind, text) }

func (p *parser) skip(kind tokenKind, text string) bool {
	if p.at(kind, text) {
		p.next()
		return true
	}
	return false
}

func (p *parser) fail(format string, args ...any) error {
	return &Error{Kind: ErrSyntax, Line: p.cur().line, Detail: fmt.Sprintf(format, args...)}
}

func (p *parser) unsupported(line int, format string, args ...any) error {
	return &Error{Kind: ErrUnsupported, Line: line, Detail: fmt.Sprintf(format, args...)}
}

func (p *parser) expect(kind tokenKind, text string) (token, error) {
	if t := p.cur(); t.kind != kind || text != "" && t.text != text {
		want := token{kind: kind, text: text}.describe()
		if kind == tokName && text == "" {
			want = "a name"
		}
		return t, p.fail("expected %s, got %s", want, t.describe())
	}
	return p.next(), nil
}

func (p *parser) nest() error {
	if p.nesting++; p.nesting > p.maxNesting {
		return &Error{
			Kind: ErrBudget, Resource: Nesting, Line: p.cur().line,
			Detail: fmt.Sprintf("more than %d levels of %s", p.maxNesting, Nesting),
		}
	}
	return nil
}

func (p *parser) unnest() { p.nesting-- }

func (p *parser) template() ([]stmt, error) {
	body, err := p.statements()
	if err != nil {
		return nil, err
	}
	if p.cur().kind != tokEOF {
		return nil, p.fail("unexpected %s", p.cur().describe())
	}
	if len(p.unknown) > 0 {
		return nil, p.unknown[0]
	}
	return body, nil
}

// inBranch marks what was found unknown since there were n of them as lying in a
// branch. As in Jinja, that is refused only when it is reached: templates name
// filters that only some hosts have, behind a condition.
func (p *parser) inBranch(n int) { p.unknown = p.unknown[:n] }

// statements parses up to the end of the template or to a tag with one of the
// names in ends, whose name is then the current token.
func (p *parser) statements(ends ...string) ([]stmt, error) {
	if err := p.nest(); err != nil {
		return nil, err
	}
	defer p.unnest()
	var body []stmt
	for {
		t := p.cur()
		switch t.kind {
		case tokData:
			p.next()
			body = append(body, &textNode{String(t.text)})
		case tokVarBegin:
			p.next()
			x, err := p.tupleOrExpr(true)
			if err != nil {
				return nil, err
			}
			if _, err := p.expect(tokVarEnd, ""); err != nil {
				return nil, err
			}
			body = append(body, &outputNode{t.line, x})
		case tokBlockBegin:
			p.next()
			name := p.cur()
			if name.kind != tokName {
				return nil, p.fail("expected the name of a tag, got %s", name.describe())
			}
			if slices.Contains(ends, name.text) {
				return body, nil
			}
			s, err := p.statement(ends)
			if err != nil {
				return nil, err
			}
			if _, err := p.expect(tokBlockEnd, ""); err != nil {
				return nil, err
			}
			body = append(body, s)
		default:
			if len(ends) > 0 {
				return nil, p.fail("unexpected %s, expected the tag %s", t.describe(), ends[len(ends)-1])
			}
			return body, nil
		}
	}
}

// bodyUntil parses the rest of a tag and then statements; the current token is
// the name of the end that was found.
func (p *parser) bodyUntil(ends ...string) ([]stmt, error) {
	p.skip(tokOp, ":")
	if _, err := p.expect(tokBlockEnd, ""); err != nil {
		return nil, err
	}
	return p.statements(ends...)
}

// body is bodyUntil for one end, which it goes behind.
func (p *parser) body(end string) ([]stmt, error) {
	b, err := p.bodyUntil(end)
	p.next()
	return b, err
}

// statementTags are the tags that begin a statement.
var statementTags map[string]func(p *parser, line int) (stmt, error)

func init() { // not a literal: the parsers refer to the table
	statementTags = map[string]func(p *parser, line int) (stmt, error){
		"if":         (*parser).ifStmt,
		"for":        (*parser).forStmt,
		"set":        (*parser).setStmt,
		"with":       (*parser).withStmt,
		"macro":      (*parser).macroStmt,
		"call":       (*parser).callStmt,
		"filter":     (*parser).filterStmt,
		"generation": (*parser).generationStmt,
		"break":      (*parser).loopControl,
		"continue":   (*parser).loopControl,
	}
}

func (p *parser) statement(ends []string) (stmt, error) {
	t := p.cur()
	parse, ok := statementTags[t.text]
	if !ok {
		switch t.text {
		case "elif", "else", "endif", "endfor", "endset", "endwith", "endmacro", "endcall", "endfilter", "endgeneration", "endraw":
			if len(ends) > 0 {
				return nil, p.fail("unexpected tag %s, expected %s", t.text, ends[len(ends)-1])
			}
			return nil, p.fail("unexpected tag %s", t.text)
		}
		return nil, p.unsupported(t.line, "tag %q", t.text)
	}
	if t.text != "break" && t.text != "continue" { // they read their own name
		p.next()
	}
	return parse(p, t.line)
}

func (p *parser) ifStmt(line int) (stmt, error) {
	defer p.inBranch(len(p.unknown))
	n := &ifNode{line: line}
	for {
		cond, err := p.tupleOrExpr(false)
		if err != nil {
			return nil, err
		}
		body, err := p.bodyUntil("elif", "else", "endif")
		if err != nil {
			return nil, err
		}
		n.cases = append(n.cases, ifCase{cond, body})
		switch p.next().text {
		case "endif":
			return n, nil
		case "else":
			n.orElse, err = p.body("endif")
			return n, err
		}
	}
}

func (p *parser) forStmt(line int) (stmt, error) {
	n := &forNode{line: line}
	var err error
	if n.target, err = p.target(false); err != nil {
		return nil, err
	}
	if assigns(n.target, "loop") {
		return nil, p.fail("can't assign to the loop variable")
	}
	if _, err = p.expect(tokName, "in"); err != nil {
		return nil, err
	}
	if n.iter, err = p.tupleOrExpr(false); err != nil {
		return nil, err
	}
	if p.skip(tokName, "if") {
		if n.cond, err = p.expression(); err != nil {
			return nil, err
		}
	}
	if p.at(tokName, "recursive") {
		return nil, p.unsupported(line, "recursive for loop")
	}
	p.loops++
	n.body, err = p.bodyUntil("endfor", "else")
	p.loops--
	if err != nil {
		return nil, err
	}
	if p.next().text == "else" {
		n.orElse, err = p.body("endfor")
	}
	return n, err
}

func (p *parser) loopControl(line int) (stmt, error) {
	t := p.next()
	if p.loops == 0 {
		return nil, p.fail("%s outside a loop", t.text)
	}
	if t.text == "break" {
		return breakNode{}, nil
	}
	return continueNode{}, nil
}

func (p *parser) setStmt(line int) (stmt, error) {
	to, err := p.target(true)
	if err != nil {
		return nil, err
	}
	if p.skip(tokOp, "=") {
		x, err := p.tupleOrExpr(true)
		return &setNode{line, to, x}, err
	}
	n := &setBlockNode{line: line, target: to}
	if n.filters, err = p.blockFilters(); err != nil {
		return nil, err
	}
	n.body, err = p.body("endset")
	return n, err
}

// blockFilters parses the filters of a set block, each behind a bar.
func (p *parser) blockFilters() ([]*filterExpr, error) {
	var fs []*filterExpr
	for p.skip(tokOp, "|") {
		f, err := p.filter(nil)
		if err != nil {
			return nil, err
		}
		fs = append(fs, f)
	}
	return fs, nil
}

func (p *parser) filterStmt(line int) (stmt, error) {
	first, err := p.filter(nil)
	if err != nil {
		return nil, err
	}
	more, err := p.blockFilters()
	if err != nil {
		return nil, err
	}
	n := &filterBlockNode{line: line, filters: append([]*filterExpr{first}, more...)}
	n.body, err = p.body("endfilter")
	return n, err
}

func (p *parser) withStmt(line int) (stmt, error) {
	n := &withNode{line: line}
	for p.cur().kind != tokBlockEnd {
		if len(n.targets) > 0 {
			if _, err := p.expect(tokOp, ","); err != nil {
				return nil, err
			}
		}
		to, err := p.target(false)
		if err != nil {
			return nil, err
		}
		if _, err := p.expect(tokOp, "="); err != nil {
			return nil, err
		}
		x, err := p.expression()
		if err != nil {
			return nil, err
		}
		n.targets, n.values = append(n.targets, to), append(n.values, x)
	}
	var err error
	n.body, err = p.body("endwith")
	return n, err
}

func (p *parser) generationStmt(line int) (stmt, error) {
	defer p.outsideLoops()()
	body, err := p.body("endgeneration")
	return &generationNode{body}, err
}

// outsideLoops forgets the loops around a body that is a function of its own,
// until the returned function is called.
func (p *parser) outsideLoops() func() {
	loops := p.loops
	p.loops = 0
	return func() { p.loops = loops }
}

func (p *parser) macroStmt(line int) (stmt, error) {
	name, err := p.expect(tokName, "")
	if err != nil {
		return nil, err
	}
	n := &macroNode{line: line, name: name.text}
	if err := p.signature(n); err != nil {
		return nil, err
	}
	return n, p.macroBody(n, "endmacro")
}

func (p *parser) callStmt(line int) (stmt, error) {
	m := &macroNode{line: line}
	if p.at(tokOp, "(") {
		if err := p.signature(m); err != nil {
			return nil, err
		}
	}
	x, err := p.expression()
	if err != nil {
		return nil, err
	}
	call, ok := x.(*callExpr)
	if !ok {
		return nil, p.fail("expected a call")
	}
	return &callBlockNode{line, call, m}, p.macroBody(m, "endcall")
}

func (p *parser) macroBody(n *macroNode, end string) (err error) {
	defer p.outsideLoops()()
	p.macros = append(p.macros, n)
	n.body, err = p.body(end)
	p.macros = p.macros[:len(p.macros)-1]
	return err
}

// signature parses a macro's parameters.
func (p *parser) signature(n *macroNode) error {
	if _, err := p.expect(tokOp, "("); err != nil {
		return err
	}
	p.macros = append(p.macros, n)
	defer func() { p.macros = p.macros[:len(p.macros)-1] }()
	for !p.at(tokOp, ")") {
		if len(n.params) > 0 {
			if _, err := p.expect(tokOp, ","); err != nil {
				return err
			}
		}
		name, err := p.expect(tokName, "")
		if err != nil {
			return err
		}
		if slices.Contains(n.params, name.text) {
			return p.fail("duplicate parameter %s", name.text)
		}
		if _, isConst := constants[name.text]; isConst {
			return p.fail("can't assign to %s", name.text)
		}
		n.params = append(n.params, name.text)
		if p.skip(tokOp, "=") {
			x, err := p.expression()
			if err != nil {
				return err
			}
			n.defaults = append(n.defaults, x)
		} else if len(n.defaults) > 0 {
			return p.fail("parameter without a default behind one with a default")
		}
	}
	p.next()
	return nil
}

// target parses what is assigned to.
func (p *parser) target(namespaces bool) (target, error) {
	var items tupleTarget
	for {
		if len(items) > 0 && p.tupleEnd() {
			return items, nil
		}
		t, err := p.oneTarget(namespaces)
		if err != nil {
			return nil, err
		}
		if !p.skip(tokOp, ",") {
			if items == nil {
				return t, nil
			}
			return append(items, t), nil
		}
		items = append(items, t)
	}
}

func (p *parser) oneTarget(namespaces bool) (target, error) {
	if err := p.nest(); err != nil {
		return nil, err
	}
	defer p.unnest()
	if p.skip(tokOp, "(") {
		t, err := p.target(false)
		if err != nil {
			return nil, err
		}
		_, err = p.expect(tokOp, ")")
		return t, err
	}
	name, err := p.expect(tokName, "")
	if err != nil {
		return nil, err
	}
	if _, isConst := constants[name.text]; isConst {
		return nil, p.fail("can't assign to %s", name.text)
	}
	if namespaces && p.skip(tokOp, ".") {
		attr, err := p.expect(tokName, "")
		return attrTarget{name.text, attr.text}, err
	}
	return nameTarget(name.text), nil
}

func assigns(t target, name string) bool {
	switch t := t.(type) {
	case nameTarget:
		return string(t) == name
	case tupleTarget:
		return slices.ContainsFunc(t, func(t target) bool { return assigns(t, name) })
	}
	return false
}

package jinja

import "unicode"

// test is one entry of the table below.
type test struct {
	name   string
	params params
	call   func(e *interp, v Value, a args) (bool, error)
}

// tests are the tests templates may use behind is, and in select and its like.
var tests map[string]*test

func init() { // not a literal: the tests filter and test refer to the tables
	tests = make(map[string]*test)
	other := params{"other"}
	for _, t := range []test{
		{"!=", other, comparing("!=")},
		{"<", other, comparing("<")},
		{"<=", other, comparing("<=")},
		{"==", other, comparing("==")},
		{">", other, comparing(">")},
		{">=", other, comparing(">=")},
		{"boolean", nil, kind(func(v Value) bool { _, ok := v.(Bool); return ok })},
		{"callable", nil, kind(isCallable)},
		{"defined", nil, kind(func(v Value) bool { return !isUndefined(v) })},
		{"divisibleby", params{"num"}, func(e *interp, v Value, a args) (bool, error) { return e.remainderIs(v, a.v[0], 0) }},
		{"eq", other, comparing("==")},
		{"equalto", other, comparing("==")},
		{"escaped", nil, kind(func(v Value) bool { _, ok := v.(markup); return ok })},
		{"even", nil, func(e *interp, v Value, a args) (bool, error) { return e.remainderIs(v, Int(2), 0) }},
		{"false", nil, kind(func(v Value) bool { return v == Bool(false) })},
		{"filter", nil, named(func(s string) bool { return filters[s] != nil })},
		{"float", nil, kind(func(v Value) bool { _, ok := v.(Float); return ok })},
		{"ge", other, comparing(">=")},
		{"greaterthan", other, comparing(">")},
		{"gt", other, comparing(">")},
		{"in", params{"seq"}, func(e *interp, v Value, a args) (bool, error) { return e.contains(a.v[0], v) }},
		{"integer", nil, kind(func(v Value) bool { _, ok := v.(Int); return ok })},
		{"iterable", nil, kind(isIterable)},
		{"le", other, comparing("<=")},
		{"lessthan", other, comparing("<")},
		{"lower", nil, cased(unicode.IsLower, unicode.IsUpper)},
		{"lt", other, comparing("<")},
		{"mapping", nil, kind(func(v Value) bool { _, ok := v.(*Dict); return ok })},
		{"ne", other, comparing("!=")},
		{"none", nil, kind(func(v Value) bool { return v == None })},
		{"number", nil, kind(func(v Value) bool { _, ok := toFloat(v); return ok })},
		{"odd", nil, func(e *interp, v Value, a args) (bool, error) { return e.remainderIs(v, Int(2), 1) }},
		{"sameas", other, func(e *interp, v Value, a args) (bool, error) { return same(v, a.v[0]), nil }},
		{"sequence", nil, kind(isSequence)},
		{"string", nil, kind(func(v Value) bool { _, ok := toText(v); return ok })},
		{"test", nil, named(func(s string) bool { return tests[s] != nil })},
		{"true", nil, kind(func(v Value) bool { return v == Bool(true) })},
		{"undefined", nil, kind(isUndefined)},
		{"upper", nil, cased(unicode.IsUpper, unicode.IsLower)},
	} {
		tests[t.name] = &t
	}
}

type testFunc = func(e *interp, v Value, a args) (bool, error)

func kind(is func(Value) bool) testFunc {
	return func(e *interp, v Value, a args) (bool, error) { return is(v), nil }
}

func comparing(op string) testFunc {
	return func(e *interp, v Value, a args) (bool, error) { return e.compare(op, v, a.v[0]) }
}

func named(known func(string) bool) testFunc {
	return func(e *interp, v Value, a args) (bool, error) {
		s, _ := toText(v)
		return known(s), nil
	}
}

// cased is true for texts with letters of one case and none of the other.
func cased(want, not func(rune) bool) testFunc {
	return func(e *interp, v Value, a args) (bool, error) {
		s, err := e.str(v)
		if err != nil {
			return false, err
		}
		return isCased(s, want, not), e.scan(len(s))
	}
}

func isCased(s string, want, not func(rune) bool) bool {
	found := false
	for _, r := range s {
		if not(r) || unicode.IsTitle(r) {
			return false
		}
		found = found || want(r)
	}
	return found
}

func isUndefined(v Value) bool {
	_, ok := v.(*undefined)
	return ok
}

func isCallable(v Value) bool {
	switch v.(type) {
	case *macro, *function, *loopContext, *undefined:
		return true
	}
	return false
}

func isIterable(v Value) bool {
	switch v.(type) {
	case *undefined, String, markup, *List, *Dict, *view, *rangeValue, *generator, *loopContext:
		return true
	}
	return false
}

func isSequence(v Value) bool {
	switch v.(type) {
	case *undefined, String, markup, *List, *Dict, *rangeValue:
		return true
	}
	return false
}

func (e *interp) remainderIs(v, by Value, want int64) (bool, error) {
	r, err := e.binary("%", v, by)
	if err != nil {
		return false, err
	}
	return e.equal(r, Int(want))
}

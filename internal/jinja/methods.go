package jinja

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// method is one entry of the tables below. One without a call is there to be
// refused by its name.
type method struct {
	params      params
	call        func(e *interp, self Value, a args) (Value, error)
	keepsMarkup bool
	hidden      bool // Python's sandbox hides it: it is undefined until it is used
}

// methods are the methods of each type.
var methods map[string]map[string]method

func init() { // not a literal: the methods refer to the table
	stripParams := params{"chars?"}
	splitParams := params{"sep?", "maxsplit?"}
	within := params{"sub", "start?", "end?"}
	padParams := params{"width", "fillchar?"}
	text := map[string]method{
		"capitalize":   {nil, textMethod(capitalize), true, false},
		"center":       {padParams, padMethod("center"), false, false},
		"count":        {within, searchMethod("count"), false, false},
		"endswith":     {within, affixMethod(strings.HasSuffix), false, false},
		"find":         {within, searchMethod("find"), false, false},
		"format":       {params{"*", "**"}, methodFormat, false, false},
		"index":        {within, searchMethod("index"), false, false},
		"isalnum":      {nil, everyRune(func(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) }), false, false},
		"isalpha":      {nil, everyRune(unicode.IsLetter), false, false},
		"isascii":      {nil, methodIsASCII, false, false},
		"isdecimal":    {nil, everyRune(unicode.IsDigit), false, false},
		"isdigit":      {nil, everyRune(isPyDigit), false, false},
		"islower":      {nil, casedMethod(unicode.IsLower, unicode.IsUpper), false, false},
		"isnumeric":    {nil, everyRune(unicode.IsNumber), false, false},
		"isspace":      {nil, everyRune(isSpace), false, false},
		"isupper":      {nil, casedMethod(unicode.IsUpper, unicode.IsLower), false, false},
		"join":         {params{"iterable"}, methodJoin, false, false},
		"ljust":        {padParams, padMethod("ljust"), false, false},
		"lower":        {nil, textMethod(lower), true, false},
		"lstrip":       {stripParams, stripMethod("lstrip", true, false), true, false},
		"partition":    {params{"sep"}, methodPartition(false), false, false},
		"removeprefix": {params{"prefix"}, affixCutter(strings.CutPrefix), true, false},
		"removesuffix": {params{"suffix"}, affixCutter(strings.CutSuffix), true, false},
		"replace":      {params{"old", "new", "count?"}, methodReplace, false, false},
		"rfind":        {within, searchMethod("rfind"), false, false},
		"rindex":       {within, searchMethod("rindex"), false, false},
		"rjust":        {padParams, padMethod("rjust"), false, false},
		"rpartition":   {params{"sep"}, methodPartition(true), false, false},
		"rsplit":       {splitParams, splitMethod(true), false, false},
		"rstrip":       {stripParams, stripMethod("rstrip", false, true), true, false},
		"split":        {splitParams, splitMethod(false), false, false},
		"splitlines":   {params{"keepends?"}, methodSplitLines, false, false},
		"startswith":   {within, affixMethod(strings.HasPrefix), false, false},
		"strip":        {stripParams, stripMethod("strip", true, true), true, false},
		"swapcase":     {nil, textMethod(swapCase), true, false},
		"title":        {nil, textMethod(titleMethod), true, false},
		"upper":        {nil, textMethod(upper), true, false},
		"zfill":        {params{"width"}, methodZFill, false, false},
	}
	refuse(text, "casefold encode expandtabs format_map isidentifier isprintable istitle maketrans translate")
	list := map[string]method{
		"copy":  {nil, func(e *interp, self Value, a args) (Value, error) { return self, nil }, false, false},
		"count": {params{"value"}, methodCount, false, false},
		"index": {params{"value", "start?", "end?"}, methodIndex, false, false},
	}
	hide(list, "append clear extend insert pop remove reverse sort")
	dict := map[string]method{
		"copy":   {nil, func(e *interp, self Value, a args) (Value, error) { return self, nil }, false, false},
		"get":    {params{"key", "default?"}, methodGet, false, false},
		"items":  {nil, viewMethod("items"), false, false},
		"keys":   {nil, viewMethod("keys"), false, false},
		"values": {nil, viewMethod("values"), false, false},
	}
	refuse(dict, "fromkeys")
	hide(dict, "clear pop popitem setdefault update")
	tuple := map[string]method{"count": list["count"], "index": list["index"]}
	rng := map[string]method{"count": list["count"], "index": list["index"]}
	refuse(rng, "start stop step")
	integer := map[string]method{}
	refuse(integer, "as_integer_ratio bit_count bit_length conjugate denominator from_bytes imag numerator real to_bytes")
	float := map[string]method{"is_integer": {nil, methodIsInteger, false, false}}
	refuse(float, "as_integer_ratio conjugate fromhex hex imag real")
	dictView := map[string]method{}
	refuse(dictView, "isdisjoint mapping")
	macroAttrs := map[string]method{}
	refuse(macroAttrs, "arguments caller catch_kwargs catch_varargs explicit_caller name")
	methods = map[string]map[string]method{
		"str": text, "Markup": text, "list": list, "tuple": tuple, "dict": dict, "range": rng,
		"int": integer, "bool": integer, "float": float, "Macro": macroAttrs,
		"dict_keys": dictView, "dict_values": dictView, "dict_items": dictView,
	}
}

func refuse(table map[string]method, names string) {
	for name := range strings.FieldsSeq(names) {
		table[name] = method{}
	}
}

func hide(table map[string]method, names string) {
	for name := range strings.FieldsSeq(names) {
		table[name] = method{hidden: true}
	}
}

// method finds a method and binds it, or gives nil.
func (e *interp) method(x Value, name string) (Value, error) {
	m, ok := methods[x.typeName()][name]
	switch {
	case !ok && strings.HasPrefix(name, "__") && strings.HasSuffix(name, "__"):
		m.hidden = true // one of Python's own
		if _, isKey := x.(*Dict); isKey {
			return nil, nil
		}
	case !ok:
		return nil, nil
	}
	what := x.typeName() + "." + name
	switch {
	case m.hidden:
		return &undefined{hint: "method " + what, unsafe: true}, nil
	case m.call == nil:
		return nil, e.fail(ErrUnsupported, "method %s", what)
	}
	return &function{name: what, params: m.params, call: func(e *interp, a args) (Value, error) {
		v, err := m.call(e, x, a)
		if _, isMarkup := x.(markup); isMarkup && m.keepsMarkup {
			if s, ok := v.(String); ok {
				return markup(s), err
			}
		}
		return v, err
	}}, e.alloc(listBytes)
}

type methodFunc = func(e *interp, self Value, a args) (Value, error)

// The methods of mappings and lists.

func methodGet(e *interp, self Value, a args) (Value, error) {
	h, err := e.hash(a.v[0])
	if err != nil {
		return nil, err
	}
	if v, ok := self.(*Dict).get(h); ok {
		return v, nil
	}
	return a.or(1, None), nil
}

func viewMethod(what string) methodFunc {
	return func(e *interp, self Value, a args) (Value, error) {
		return &view{dict: self.(*Dict), what: what}, e.alloc(wordBytes)
	}
}

func methodCount(e *interp, self Value, a args) (Value, error) {
	items, err := e.collect(self)
	if err != nil {
		return nil, err
	}
	n := 0
	for _, item := range items {
		eq, err := e.equal(item, a.v[0])
		if err != nil {
			return nil, err
		}
		if eq {
			n++
		}
	}
	return Int(n), nil
}

func methodIndex(e *interp, self Value, a args) (Value, error) {
	items, err := e.collect(self)
	if err != nil {
		return nil, err
	}
	start, _, n, err := e.sliceIndices([3]Value{a.v[1], a.v[2]}, int64(len(items)))
	if err != nil {
		return nil, err
	}
	for i := start; i < start+n; i++ {
		eq, err := e.equal(items[i], a.v[0])
		if err != nil || eq {
			return Int(i), err
		}
	}
	return nil, e.fail(ErrValue, "value is not in list")
}

func methodIsInteger(e *interp, self Value, a args) (Value, error) {
	f := float64(self.(Float))
	return Bool(f-f == 0 && f == float64(int64(f)) || f >= 1<<63 && f-f == 0 || f <= -1<<63 && f-f == 0), nil
}

// The methods of texts that ask about them.

func textMethod(f func(string) string) methodFunc {
	return func(e *interp, self Value, a args) (Value, error) {
		s, _ := toText(self)
		return e.mapText(s, f)
	}
}

func everyRune(is func(rune) bool) methodFunc {
	return func(e *interp, self Value, a args) (Value, error) {
		s, _ := toText(self)
		if err := e.scan(len(s)); err != nil {
			return nil, err
		}
		return Bool(s != "" && strings.IndexFunc(s, func(r rune) bool { return !is(r) }) < 0), nil
	}
}

func methodIsASCII(e *interp, self Value, a args) (Value, error) {
	s, _ := toText(self)
	return Bool(strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0), e.scan(len(s))
}

// isPyDigit adds the superscripts and circled digits to the decimal digits.
func isPyDigit(r rune) bool {
	return unicode.IsDigit(r) || r == 0xb2 || r == 0xb3 || r == 0xb9 || r == 0x2070 || r >= 0x2074 && r <= 0x2079 ||
		r >= 0x2080 && r <= 0x2089 || r >= 0x2460 && r <= 0x2468 || r >= 0x2474 && r <= 0x247c || r >= 0x2488 && r <= 0x2490
}

func casedMethod(want, not func(rune) bool) methodFunc {
	return func(e *interp, self Value, a args) (Value, error) {
		s, _ := toText(self)
		return Bool(isCased(s, want, not)), e.scan(len(s))
	}
}

// window is the part of a text between the code points start and end, and how
// many code points lie before it; ok is false if start is behind the end.
func (e *interp) window(s string, start, end Value) (part string, before int64, ok bool, err error) {
	if start == nil && end == nil {
		return s, 0, true, e.scan(len(s))
	}
	if err := e.scan(len(s)); err != nil {
		return "", 0, false, err
	}
	n := int64(utf8.RuneCountInString(s))
	bounds := [2]int64{0, n}
	for i, v := range [2]Value{start, end} {
		if v == nil || v == None {
			continue
		}
		b, ok := toInt(v)
		if !ok {
			return "", 0, false, e.fail(ErrValue, "slice indices must be integers")
		}
		if b < 0 {
			b = max(b+n, 0)
		}
		bounds[i] = b
	}
	if bounds[0] > n || bounds[0] > bounds[1] {
		return "", 0, false, nil
	}
	from := runeOffset(s, int(bounds[0]))
	to := from + runeOffset(s[from:], int(min(bounds[1], n)-bounds[0]))
	return s[from:to], bounds[0], true, nil
}

func affixMethod(has func(s, affix string) bool) methodFunc {
	return func(e *interp, self Value, a args) (Value, error) {
		s, _ := toText(self)
		part, _, ok, err := e.window(s, a.v[1], a.v[2])
		if err != nil {
			return nil, err
		}
		affixes := []Value{a.v[0]}
		if l, isList := a.v[0].(*List); isList && l.tuple {
			affixes = l.items
		}
		for _, v := range affixes {
			affix, isText := toText(v)
			if !isText {
				return nil, e.fail(ErrValue, "the affix must be str or a tuple of str, not %s", v.typeName())
			}
			if ok && has(part, affix) {
				return Bool(true), nil
			}
			if err := e.step(1); err != nil {
				return nil, err
			}
		}
		return Bool(false), nil
	}
}

// searchMethod is find, index, count or one of their reversed kin.
func searchMethod(name string) methodFunc {
	return func(e *interp, self Value, a args) (Value, error) {
		s, _ := toText(self)
		sub, ok := toText(a.v[0])
		if !ok {
			return nil, e.fail(ErrValue, "must be str, not %s", a.v[0].typeName())
		}
		part, before, ok, err := e.window(s, a.v[1], a.v[2])
		if err != nil {
			return nil, err
		}
		if name == "count" {
			if !ok {
				return Int(0), nil
			}
			return Int(strings.Count(part, sub)), nil
		}
		at := -1
		if ok && name[0] == 'r' {
			at = strings.LastIndex(part, sub)
		} else if ok {
			at = strings.Index(part, sub)
		}
		switch {
		case at >= 0:
			return Int(before + int64(utf8.RuneCountInString(part[:at]))), nil
		case name == "index" || name == "rindex":
			return nil, e.fail(ErrValue, "substring not found")
		}
		return Int(-1), nil
	}
}

func methodJoin(e *interp, self Value, a args) (Value, error) {
	sep, _ := toText(self)
	return e.join(a.v[0], sep, func(item Value) (string, error) {
		s, ok := toText(item)
		if !ok {
			return "", e.fail(ErrValue, "join: expected str, %s found", item.typeName())
		}
		return s, nil
	})
}

func methodFormat(e *interp, self Value, a args) (Value, error) {
	s, _ := toText(self)
	return e.format(s, a)
}

// isOneOf is a set of characters as strip takes it.
func isOneOf(chars string) func(rune) bool {
	if len(chars) < 32 {
		return func(r rune) bool { return strings.ContainsRune(chars, r) }
	}
	set := []rune(chars) // searched quickly, so that a long set costs no more than its length
	slices.Sort(set)
	return func(r rune) bool { _, ok := slices.BinarySearch(set, r); return ok }
}

package jinja

// Value is something a template can hold: [None], [Bool], [Int], [Float],
// [String], [*List], [*Dict], or one of the interpreter's own (macros,
// namespaces, generators, ...). Values are immutable while a template renders,
// so that one value may be shared by concurrent renderings.
type Value interface {
	// typeName is the name of the Python type, as error texts give it.
	typeName() string
}

type none struct{}

// None is Python's None, JSON's null.
var None Value = none{}

// Bool is a truth value.
type Bool bool

// Int is a whole number.
type Int int64

// Float is a floating-point number.
type Float float64

// String is a text; templates count and index it by code points.
type String string

// List is a list or, when a template made it so, a tuple.
type List struct {
	items  []Value
	tuple  bool
	fields []string // names of a named tuple's items
}

// NewList returns a list of the items, which the caller leaves alone from then
// on.
func NewList(items ...Value) *List { return &List{items: items} }

// Len is the number of items.
func (l *List) Len() int { return len(l.items) }

// At is the item at index i, counted from 0.
func (l *List) At(i int) Value { return l.items[i] }

// undefined is what a missing name or attribute gives: it prints as nothing, is
// false and loops over nothing; all else is an error with the hint.
type undefined struct {
	hint   string
	unsafe bool // an attribute that exists in Python, but not for templates
}

// rangeValue is what range() returns.
type rangeValue struct{ start, stop, step, len int64 }

func (r *rangeValue) at(i int64) Value { return Int(r.start + i*r.step) }

// view is what a dict's keys, values and items methods return.
type view struct {
	dict *Dict
	what string // "keys", "values" or "items"
}

func (v *view) at(i int) Value {
	switch v.what {
	case "keys":
		return v.dict.keys[i]
	case "values":
		return v.dict.vals[i]
	}
	return &List{items: []Value{v.dict.keys[i], v.dict.vals[i]}, tuple: true}
}

// generator is a sequence made while it is consumed, once.
type generator struct{ next next }

// namespace is the one value that templates can change.
type namespace struct{ attrs *Dict }

// macro is a macro with the scope it was defined in, or the body of a call
// block.
type macro struct {
	def   *macroNode
	scope *scope
}

// function is a global function or a method bound to its object.
type function struct {
	name   string
	params params
	call   func(e *interp, a args) (Value, error)
}

func (none) typeName() string   { return "NoneType" }
func (Bool) typeName() string   { return "bool" }
func (Int) typeName() string    { return "int" }
func (Float) typeName() string  { return "float" }
func (String) typeName() string { return "str" }
func (l *List) typeName() string {
	if l.tuple {
		return "tuple"
	}
	return "list"
}
func (*Dict) typeName() string        { return "dict" }
func (*undefined) typeName() string   { return "Undefined" }
func (*rangeValue) typeName() string  { return "range" }
func (v *view) typeName() string      { return "dict_" + v.what }
func (*generator) typeName() string   { return "generator" }
func (*namespace) typeName() string   { return "Namespace" }
func (*macro) typeName() string       { return "Macro" }
func (*function) typeName() string    { return "function" }
func (*loopContext) typeName() string { return "LoopContext" }

// The bytes that values are priced at, besides their texts and items.
const (
	wordBytes  = 16 // an interface or a string header
	listBytes  = 64
	entryBytes = 96 // key, value and index of a dict's entry
)

// truth is Python's bool(v).
func truth(v Value) bool {
	switch v := v.(type) {
	case none, *undefined:
		return false
	case Bool:
		return bool(v)
	case Int:
		return v != 0
	case Float:
		return v != 0
	case String:
		return v != ""
	case markup:
		return v != ""
	case *List:
		return len(v.items) > 0
	case *Dict:
		return v.Len() > 0
	case *rangeValue:
		return v.len > 0
	case *view:
		return v.dict.Len() > 0
	}
	return true
}

// newList pays for and makes a list.
func (e *interp) newList(items []Value) (*List, error) {
	if err := e.alloc(listBytes + wordBytes*int64(len(items))); err != nil {
		return nil, err
	}
	return &List{items: items}, nil
}

func (e *interp) newTuple(items ...Value) (*List, error) {
	l, err := e.newList(items)
	if err == nil {
		l.tuple = true
	}
	return l, err
}

// newString pays for a text. It is for texts that are small or parts of others;
// one that could be much longer than its sources is priced before it is made.
func (e *interp) newString(s string) (Value, error) {
	if err := e.alloc(wordBytes + int64(len(s))); err != nil {
		return nil, err
	}
	return String(s), nil
}

// part pays for a text that shares the memory of another.
func (e *interp) part(s string) (Value, error) {
	if err := e.alloc(wordBytes); err != nil {
		return nil, err
	}
	return String(s), nil
}

// markup is a String that counts as escaped already: what safe and escape
// return. Adding it to another text escapes that one.
type markup string

func (markup) typeName() string { return "Markup" }

// plain turns markup into the string it is.
func plain(v Value) Value {
	if m, ok := v.(markup); ok {
		return String(m)
	}
	return v
}

package httpapi

import (
	"fmt"
	"math"
	"strconv"

	"github.com/tidwall/gjson"
)

// fault is what is wrong with one field of a request.
type fault struct {
	code  string
	param string // the path to the field, put together from the inside out
	why   string
}

// The codes of faults, which are OpenAI's.
const (
	codeType        = "invalid_type"
	codeValue       = "invalid_value"
	codeMissing     = "missing_required_parameter"
	codeUnknown     = "unknown_parameter"
	codeDuplicate   = "duplicate_parameter"
	codeUnsupported = "unsupported_parameter"
)

var leads = map[string]string{
	codeType: "Invalid type for", codeValue: "Invalid value for", codeMissing: "Missing required parameter",
	codeUnknown: "Unknown parameter", codeDuplicate: "Duplicate parameter", codeUnsupported: "Unsupported parameter",
}

func (f *fault) apiError() *apiError {
	param := shorten(f.param)
	why := ""
	if f.why != "" {
		why = ": " + f.why
	}
	return badRequest(f.code, param, "%s '%s'%s.", leads[f.code], param, why)
}

// in puts the fault into the context of the field that contains it.
func (f *fault) in(outer string) *fault {
	if f != nil {
		f.param = outer + f.param
	}
	return f
}

// setter takes a field's value, which isn't null, into the request.
type setter func(r *request, v gjson.Result) *fault

// fields are what an object of a request may have, at most 64.
type fields struct {
	index map[string]int
	set   []setter
}

func newFields(table map[string]setter) *fields {
	f := &fields{index: make(map[string]int, len(table))}
	for name, set := range table {
		f.index[name] = len(f.set)
		f.set = append(f.set, set)
	}
	return f
}

// read takes the fields of obj into the request, each at most once. null is the
// same as no field. It returns the first fault.
func (f *fields) read(r *request, obj gjson.Result, ignoreUnknown bool) (first *fault) {
	if !obj.IsObject() {
		return wrongType("an object", obj)
	}
	var seen uint64
	obj.ForEach(func(key, v gjson.Result) bool {
		i, known := f.index[key.Str]
		switch {
		case !known && ignoreUnknown:
		case !known:
			first = &fault{code: codeUnknown, param: key.Str}
		case seen&(1<<i) != 0:
			first = &fault{code: codeDuplicate, param: key.Str}
		default:
			seen |= 1 << i
			if v.Type != gjson.Null {
				first = f.set[i](r, v).in(key.Str)
			}
		}
		return first == nil
	})
	return first
}

// each calls f with the elements of an array, up to the first fault.
func each(v gjson.Result, f func(i int, v gjson.Result) *fault) (first *fault) {
	i := 0
	v.ForEach(func(_, v gjson.Result) bool {
		if first = f(i, v); first != nil {
			first = first.in(fmt.Sprintf("[%d]", i)) // a name for each of a million ids would be garbage
		}
		i++
		return first == nil
	})
	return first
}

func wrongType(want string, v gjson.Result) *fault {
	got := "an array"
	switch {
	case v.IsObject():
		got = "an object"
	case v.Type == gjson.String:
		got = "a string"
	case v.Type == gjson.Number:
		got = "a number"
	case v.IsBool():
		got = "a boolean"
	case v.Type == gjson.Null:
		got = "null"
	}
	return &fault{code: codeType, why: "expected " + want + ", but got " + got}
}

func wrongValue(format string, args ...any) *fault {
	return &fault{code: codeValue, why: fmt.Sprintf(format, args...)}
}

func toString(v gjson.Result, dst *string) *fault {
	if v.Type != gjson.String {
		return wrongType("a string", v)
	}
	*dst = v.Str
	return nil
}

func toBool(v gjson.Result, dst *bool) *fault {
	if !v.IsBool() {
		return wrongType("a boolean", v)
	}
	*dst = v.Type == gjson.True
	return nil
}

func toFloat(v gjson.Result, dst *float64) *fault {
	if v.Type != gjson.Number {
		return wrongType("a number", v)
	}
	f, err := strconv.ParseFloat(v.Raw, 64)
	if err != nil {
		return wrongValue("the number is out of range")
	}
	*dst = f
	return nil
}

// toInt reads a count. Those beyond 2^31-1 mean that much: no model holds it.
func toInt(v gjson.Result, least int, dst *int) *fault {
	if v.Type != gjson.Number {
		return wrongType("an integer", v)
	}
	n, err := strconv.ParseInt(v.Raw, 10, 64)
	if err != nil {
		return wrongValue("it must be an integer")
	}
	if n < int64(least) {
		return wrongValue("it must be at least %d", least)
	}
	*dst = int(min(n, math.MaxInt32))
	return nil
}

// ignored accepts a field that has no effect on the answer, of one JSON type.
func ignored(want string, is func(gjson.Result) bool) setter {
	return func(_ *request, v gjson.Result) *fault {
		if !is(v) {
			return wrongType(want, v)
		}
		return nil
	}
}

// only refuses a field unless it asks for what is done anyway.
func only(why string, is func(gjson.Result) bool) setter {
	return func(_ *request, v gjson.Result) *fault {
		if !is(v) {
			return &fault{code: codeUnsupported, why: why}
		}
		return nil
	}
}

// refused refuses a field whatever it says.
func refused(why string) setter { return only(why, func(gjson.Result) bool { return false }) }

func isString(v gjson.Result) bool { return v.Type == gjson.String }
func isBool(v gjson.Result) bool   { return v.IsBool() }
func isObject(v gjson.Result) bool { return v.IsObject() }
func isFalse(v gjson.Result) bool  { return v.Type == gjson.False }
func isZero(v gjson.Result) bool   { return v.Type == gjson.Number && v.Num == 0 }
func isOne(v gjson.Result) bool    { return v.Type == gjson.Number && v.Num == 1 }

// isEmpty accepts arrays and objects without elements.
func isEmpty(v gjson.Result) bool {
	empty := v.IsArray() || v.IsObject()
	v.ForEach(func(_, _ gjson.Result) bool { empty = false; return false })
	return empty
}

func isText(texts ...string) func(gjson.Result) bool {
	return func(v gjson.Result) bool {
		for _, text := range texts {
			if v.Type == gjson.String && v.Str == text {
				return true
			}
		}
		return false
	}
}

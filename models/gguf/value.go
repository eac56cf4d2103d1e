package gguf

import (
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"slices"
)

// ValueType is the type of a metadata value, with GGUF's numbers.
type ValueType uint32

// The value types of GGUF.
const (
	Uint8   ValueType = 0
	Int8    ValueType = 1
	Uint16  ValueType = 2
	Int16   ValueType = 3
	Uint32  ValueType = 4
	Int32   ValueType = 5
	Float32 ValueType = 6
	Bool    ValueType = 7
	String  ValueType = 8
	Array   ValueType = 9
	Uint64  ValueType = 10
	Int64   ValueType = 11
	Float64 ValueType = 12
)

// valueTypes gives each type its name and the least bytes that a value of it
// takes in a file: a string its length, an array its element type and length.
var valueTypes = [...]struct {
	name string
	size uint64
}{
	Uint8: {"uint8", 1}, Int8: {"int8", 1}, Uint16: {"uint16", 2}, Int16: {"int16", 2},
	Uint32: {"uint32", 4}, Int32: {"int32", 4}, Float32: {"float32", 4}, Bool: {"bool", 1},
	String: {"string", 8}, Array: {"array", 12}, Uint64: {"uint64", 8}, Int64: {"int64", 8}, Float64: {"float64", 8},
}

// String is the type's name, or its number where it has none.
func (t ValueType) String() string {
	if t.known() {
		return valueTypes[t].name
	}
	return fmt.Sprintf("value type %d", uint32(t))
}

func (t ValueType) known() bool { return t < ValueType(len(valueTypes)) }

// scalar is the Go value whose little-endian bytes were the low bytes of bits.
// It is only called for numbers and booleans.
func (t ValueType) scalar(bits uint64) any {
	switch t {
	case Uint8:
		return uint8(bits)
	case Int8:
		return int8(bits)
	case Uint16:
		return uint16(bits)
	case Int16:
		return int16(bits)
	case Uint32:
		return uint32(bits)
	case Int32:
		return int32(bits)
	case Int64:
		return int64(bits)
	case Float32:
		return math.Float32frombits(uint32(bits))
	case Float64:
		return math.Float64frombits(bits)
	case Bool:
		return bits != 0
	default:
		return bits
	}
}

// typeOf is the value type and, for arrays, the element type that a Go value is
// written as; ok is false for a Go type that has none.
func typeOf(v any) (t, elem ValueType, ok bool) {
	switch v.(type) {
	case uint8:
		return Uint8, 0, true
	case int8:
		return Int8, 0, true
	case uint16:
		return Uint16, 0, true
	case int16:
		return Int16, 0, true
	case uint32:
		return Uint32, 0, true
	case int32:
		return Int32, 0, true
	case uint64:
		return Uint64, 0, true
	case int64:
		return Int64, 0, true
	case float32:
		return Float32, 0, true
	case float64:
		return Float64, 0, true
	case bool:
		return Bool, 0, true
	case string:
		return String, 0, true
	case []uint8:
		return Array, Uint8, true
	case []int8:
		return Array, Int8, true
	case []uint16:
		return Array, Uint16, true
	case []int16:
		return Array, Int16, true
	case []uint32:
		return Array, Uint32, true
	case []int32:
		return Array, Int32, true
	case []uint64:
		return Array, Uint64, true
	case []int64:
		return Array, Int64, true
	case []float32:
		return Array, Float32, true
	case []float64:
		return Array, Float64, true
	case []bool:
		return Array, Bool, true
	case []string, Strings:
		return Array, String, true
	case []any:
		return Array, Array, true
	}
	return 0, 0, false
}

// Strings is an array of strings in one block of memory: the texts end to end
// and four bytes for each. The zero value is an empty array.
type Strings struct {
	text string
	ends []uint32 // ends[i] is where string i ends in text
}

// Len is the number of strings.
func (s Strings) Len() int { return len(s.ends) }

// At is string i, as a part of the array's memory: nothing is allocated, and
// keeping it keeps the whole array. It panics where i is out of range, as
// indexing a slice does. The bytes are the file's and need not be valid UTF-8.
func (s Strings) At(i int) string {
	var start uint32
	if i > 0 {
		start = s.ends[i-1]
	}
	return s.text[start:s.ends[i]]
}

// All iterates over the strings and their indexes.
func (s Strings) All() iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		var start uint32
		for i, end := range s.ends {
			if !yield(i, s.text[start:end]) {
				return
			}
			start = end
		}
	}
}

// MarshalJSON is the array as JSON strings; bytes that aren't UTF-8 become
// U+FFFD.
func (s Strings) MarshalJSON() ([]byte, error) {
	list := make([]string, 0, s.Len())
	for _, t := range s.All() {
		list = append(list, t)
	}
	return json.Marshal(list)
}

// Ints is an array of integers of any width, read as int64.
type Ints struct {
	array any // a slice of an integer type
	n     int
}

// Len is the number of integers.
func (x Ints) Len() int { return x.n }

// At is integer i. It panics where i is out of range.
func (x Ints) At(i int) int64 {
	switch a := x.array.(type) {
	case []uint8:
		return int64(a[i])
	case []int8:
		return int64(a[i])
	case []uint16:
		return int64(a[i])
	case []int16:
		return int64(a[i])
	case []uint32:
		return int64(a[i])
	case []int32:
		return int64(a[i])
	case []uint64:
		return int64(a[i]) // newInts has seen that each fits
	default:
		return x.array.([]int64)[i]
	}
}

// All iterates over the integers and their indexes.
func (x Ints) All() iter.Seq2[int, int64] {
	return func(yield func(int, int64) bool) {
		for i := range x.n {
			if !yield(i, x.At(i)) {
				return
			}
		}
	}
}

func newInts(array any) (Ints, bool) {
	switch a := array.(type) {
	case []uint8:
		return Ints{a, len(a)}, true
	case []int8:
		return Ints{a, len(a)}, true
	case []uint16:
		return Ints{a, len(a)}, true
	case []int16:
		return Ints{a, len(a)}, true
	case []uint32:
		return Ints{a, len(a)}, true
	case []int32:
		return Ints{a, len(a)}, true
	case []int64:
		return Ints{a, len(a)}, true
	case []uint64:
		if slices.ContainsFunc(a, func(v uint64) bool { return v > math.MaxInt64 }) {
			return Ints{}, false
		}
		return Ints{a, len(a)}, true
	}
	return Ints{}, false
}

// Floats is an array of float32 or float64, read as float64.
type Floats struct {
	f32 []float32
	f64 []float64 // one of the two is empty
}

// Len is the number of floats.
func (x Floats) Len() int { return len(x.f32) + len(x.f64) }

// At is float i. It panics where i is out of range.
func (x Floats) At(i int) float64 {
	if x.f64 != nil {
		return x.f64[i]
	}
	return float64(x.f32[i])
}

// All iterates over the floats and their indexes.
func (x Floats) All() iter.Seq2[int, float64] {
	return func(yield func(int, float64) bool) {
		for i := range x.Len() {
			if !yield(i, x.At(i)) {
				return
			}
		}
	}
}

package jinja

import (
	"encoding/binary"
	"iter"
	"math"
)

// Dict is a mapping that keeps the order in which its keys were first set.
type Dict struct {
	keys, vals []Value
	index      map[hashKey]int
}

// NewDict returns an empty mapping.
func NewDict() *Dict { return &Dict{} }

// Len is the number of keys.
func (d *Dict) Len() int { return len(d.keys) }

// Set sets the value of a key; a key that is there keeps its place. It must not
// be called while a template renders with the mapping.
func (d *Dict) Set(key string, v Value) { d.put(String(key), hashKey{kind: 's', text: key}, v) }

// Get looks a key up.
func (d *Dict) Get(key string) (Value, bool) { return d.get(hashKey{kind: 's', text: key}) }

// All iterates over keys and values in order.
func (d *Dict) All() iter.Seq2[Value, Value] {
	return func(yield func(Value, Value) bool) {
		for i, k := range d.keys {
			if !yield(k, d.vals[i]) {
				return
			}
		}
	}
}

func (d *Dict) put(k Value, h hashKey, v Value) {
	if i, ok := d.index[h]; ok {
		d.vals[i] = v
		return
	}
	if d.index == nil {
		d.index = make(map[hashKey]int)
	}
	d.index[h] = len(d.keys)
	d.keys = append(d.keys, k)
	d.vals = append(d.vals, v)
}

func (d *Dict) get(h hashKey) (Value, bool) {
	i, ok := d.index[h]
	if !ok {
		return nil, false
	}
	return d.vals[i], true
}

// hashKey is equal for values that are equal keys in Python: 1, 1.0 and True
// are one key.
type hashKey struct {
	kind byte
	bits uint64
	text string
}

// hash makes a value's key, or fails for what can't be one.
func (e *interp) hash(v Value) (hashKey, error) {
	switch v := plain(v).(type) {
	case String:
		return hashKey{kind: 's', text: string(v)}, e.scan(len(v))
	case none:
		return hashKey{kind: 'n'}, nil
	case *undefined:
		return hashKey{kind: 'u'}, nil
	case Bool:
		if v {
			return hashKey{kind: 'i', bits: 1}, nil
		}
		return hashKey{kind: 'i'}, nil
	case Int:
		return hashKey{kind: 'i', bits: uint64(v)}, nil
	case Float:
		if f := float64(v); f == math.Trunc(f) && f >= -1<<63 && f < 1<<63 {
			return hashKey{kind: 'i', bits: uint64(int64(f))}, nil
		}
		return hashKey{kind: 'f', bits: math.Float64bits(float64(v))}, nil
	case *List:
		if v.tuple {
			return e.hashTuple(v)
		}
	}
	return hashKey{}, e.fail(ErrValue, "unhashable type: '%s'", v.typeName())
}

func (e *interp) hashTuple(t *List) (hashKey, error) {
	if err := e.enter(); err != nil {
		return hashKey{}, err
	}
	defer e.leave()
	var text []byte
	for _, item := range t.items {
		h, err := e.hash(item)
		if err != nil {
			return hashKey{}, err
		}
		if err := e.alloc(int64(len(h.text)) + 17); err != nil {
			return hashKey{}, err
		}
		text = append(text, h.kind)
		text = binary.LittleEndian.AppendUint64(text, h.bits)
		text = binary.LittleEndian.AppendUint64(text, uint64(len(h.text)))
		text = append(text, h.text...)
	}
	return hashKey{kind: 't', text: string(text)}, nil
}

// set puts a key into a dict that is being made, and pays for it.
func (e *interp) set(d *Dict, k, v Value) error {
	h, err := e.hash(k)
	if err != nil {
		return err
	}
	if err := e.alloc(entryBytes); err != nil {
		return err
	}
	d.put(k, h, v)
	return nil
}

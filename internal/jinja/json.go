package jinja

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// maxJSONDepth is how deep the values of [FromJSON] may nest.
const maxJSONDepth = 500

// FromJSON decodes one JSON value; objects keep the order of their keys, and
// numbers without fraction and exponent are ints. A value takes up to some
// thirty times the bytes of its text.
func FromJSON(data []byte) (Value, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	v, err := decodeValue(d, 0)
	if err != nil {
		return nil, fmt.Errorf("jinja: value: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("jinja: value: more than one JSON value")
	}
	return v, nil
}

func decodeValue(d *json.Decoder, depth int) (Value, error) {
	t, err := d.Token()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case nil:
		return None, nil
	case bool:
		return Bool(t), nil
	case string:
		return String(t), nil
	case json.Number:
		return decodeNumber(string(t))
	case json.Delim:
		if depth >= maxJSONDepth {
			return nil, &Error{Kind: ErrBudget, Resource: Depth, Detail: fmt.Sprintf("JSON deeper than %d", maxJSONDepth)}
		}
		if t == '[' {
			return decodeArray(d, depth+1)
		}
		return decodeObject(d, depth+1)
	}
	return nil, fmt.Errorf("unexpected token %v", t)
}

func decodeArray(d *json.Decoder, depth int) (Value, error) {
	l := &List{}
	for d.More() {
		v, err := decodeValue(d, depth)
		if err != nil {
			return nil, err
		}
		l.items = append(l.items, v)
	}
	_, err := d.Token()
	return l, err
}

func decodeObject(d *json.Decoder, depth int) (Value, error) {
	o := NewDict()
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		key, ok := t.(string)
		if !ok {
			return nil, fmt.Errorf("object key %v is no string", t)
		}
		v, err := decodeValue(d, depth)
		if err != nil {
			return nil, err
		}
		o.Set(key, v)
	}
	_, err := d.Token()
	return o, err
}

func decodeNumber(s string) (Value, error) {
	if strings.ContainsAny(s, ".eE") {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) { // out of range is an infinity, as in Python
			return nil, err
		}
		return Float(f), nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return nil, &Error{Kind: ErrValue, Detail: "integer outside 64 bits"}
	}
	return Int(n), nil
}

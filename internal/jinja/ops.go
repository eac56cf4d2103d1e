package jinja

import (
	"math"
	"math/big"
	"math/bits"
	"strings"
)

// toInt is the int that ints and bools are in arithmetic.
func toInt(v Value) (int64, bool) {
	switch v := v.(type) {
	case Int:
		return int64(v), true
	case Bool:
		if v {
			return 1, true
		}
		return 0, true
	}
	return 0, false
}

func toFloat(v Value) (float64, bool) {
	if f, ok := v.(Float); ok {
		return float64(f), true
	}
	i, ok := toInt(v)
	return float64(i), ok
}

// toText is the string of strings and markup.
func toText(v Value) (string, bool) {
	switch v := v.(type) {
	case String:
		return string(v), true
	case markup:
		return string(v), true
	}
	return "", false
}

func (e *interp) unary(op byte, v Value) (Value, error) {
	if op == '!' {
		return Bool(!truth(v)), nil
	}
	if i, ok := toInt(v); ok {
		if op == '-' {
			if i == math.MinInt64 {
				return nil, e.overflow()
			}
			i = -i
		}
		return Int(i), nil
	}
	if f, ok := v.(Float); ok {
		if op == '-' {
			f = -f
		}
		return f, nil
	}
	if u, ok := v.(*undefined); ok {
		return nil, e.useUndefined(u)
	}
	return nil, e.fail(ErrValue, "bad operand type for unary %c: '%s'", op, v.typeName())
}

func (e *interp) overflow() error { return e.fail(ErrValue, "integer outside 64 bits") }

// binary is arithmetic, and what Python makes of the operators for texts and
// lists.
func (e *interp) binary(op string, x, y Value) (Value, error) {
	if s, ok := toText(x); ok && op == "%" {
		return e.percent(s, y)
	}
	for _, v := range [2]Value{x, y} {
		if u, ok := v.(*undefined); ok {
			return nil, e.useUndefined(u)
		}
	}
	if i, ok := toInt(x); ok {
		if j, ok := toInt(y); ok {
			return e.intOp(op, i, j)
		}
	}
	if f, ok := toFloat(x); ok {
		if g, ok := toFloat(y); ok {
			return e.floatOp(op, f, g)
		}
	}
	switch op {
	case "+":
		if v, err := e.add(x, y); v != nil || err != nil {
			return v, err
		}
	case "*":
		if n, ok := toInt(y); ok {
			if v, err := e.repeat(x, n); v != nil || err != nil {
				return v, err
			}
		}
		if n, ok := toInt(x); ok {
			if v, err := e.repeat(y, n); v != nil || err != nil {
				return v, err
			}
		}
	}
	return nil, e.fail(ErrValue, "unsupported operand types for %s: '%s' and '%s'", op, x.typeName(), y.typeName())
}

// add joins texts and lists; nil for other values.
func (e *interp) add(x, y Value) (Value, error) {
	if s, ok := toText(x); ok {
		t, ok := toText(y)
		if !ok {
			return nil, nil
		}
		return e.addTexts(x, y, s, t)
	}
	l, ok := x.(*List)
	if !ok {
		return nil, nil
	}
	m, ok := y.(*List)
	if !ok || l.tuple != m.tuple {
		return nil, nil
	}
	n := len(l.items) + len(m.items)
	if err := e.alloc(listBytes + wordBytes*int64(n)); err != nil {
		return nil, err
	}
	items := append(append(make([]Value, 0, n), l.items...), m.items...)
	return &List{items: items, tuple: l.tuple}, nil
}

func (e *interp) addTexts(x, y Value, s, t string) (Value, error) {
	_, mx := x.(markup)
	_, my := y.(markup)
	if mx != my { // the ordinary one is escaped
		var err error
		if mx {
			t, err = e.escape(t)
		} else {
			s, err = e.escape(s)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := e.alloc(wordBytes + int64(len(s)) + int64(len(t))); err != nil {
		return nil, err
	}
	if mx || my {
		return markup(s + t), nil
	}
	return String(s + t), nil
}

// repeat is a text or list n times; nil for other values.
func (e *interp) repeat(v Value, n int64) (Value, error) {
	n = max(n, 0)
	if s, ok := toText(v); ok {
		if err := e.alloc(product(int64(len(s)), n)); err != nil {
			return nil, err
		}
		r := strings.Repeat(s, int(n))
		if _, ok := v.(markup); ok {
			return markup(r), nil
		}
		return e.part(r)
	}
	l, ok := v.(*List)
	if !ok {
		return nil, nil
	}
	if err := e.alloc(product(int64(len(l.items)), product(n, wordBytes))); err != nil {
		return nil, err
	}
	if err := e.alloc(listBytes); err != nil {
		return nil, err
	}
	items := make([]Value, 0, len(l.items)*int(n))
	if len(l.items) > 0 {
		for range n {
			items = append(items, l.items...)
		}
	}
	return &List{items: items, tuple: l.tuple}, nil
}

// product is the product of two sizes, or -1 if it overflows.
func product(a, b int64) int64 {
	if a < 0 || b < 0 {
		return -1
	}
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	if hi != 0 || lo > math.MaxInt64 {
		return -1
	}
	return int64(lo)
}

func (e *interp) intOp(op string, i, j int64) (Value, error) {
	switch op {
	case "+":
		if r := i + j; (r > i) == (j > 0) {
			return Int(r), nil
		}
		return nil, e.overflow()
	case "-":
		if r := i - j; (r < i) == (j > 0) {
			return Int(r), nil
		}
		return nil, e.overflow()
	case "*":
		return e.intMul(i, j)
	case "**":
		return e.intPow(i, j)
	}
	if j == 0 {
		return nil, e.fail(ErrValue, "division by zero")
	}
	if i == math.MinInt64 && j == -1 && op == "//" {
		return nil, e.overflow()
	}
	switch op {
	case "//":
		q := i / j
		if i%j != 0 && (i < 0) != (j < 0) {
			q--
		}
		return Int(q), nil
	case "%":
		if j == -1 {
			return Int(0), nil
		}
		r := i % j
		if r != 0 && (r < 0) != (j < 0) {
			r += j
		}
		return Int(r), nil
	}
	return e.intDiv(i, j)
}

func (e *interp) intMul(i, j int64) (Value, error) {
	if i == 0 || j == 0 {
		return Int(0), nil
	}
	r := i * j
	if r/j != i || (j == -1 && i == math.MinInt64) || (i == -1 && j == math.MinInt64) {
		return nil, e.overflow()
	}
	return Int(r), nil
}

// exactFloat is the bound of the ints that are all floats too.
const exactFloat = 1 << 53

// intDiv is i / j, which Python rounds once.
func (e *interp) intDiv(i, j int64) (Value, error) {
	if max(i, -i) > exactFloat || max(j, -j) > exactFloat || i == math.MinInt64 || j == math.MinInt64 {
		return e.bigDiv(i, j)
	}
	return Float(float64(i) / float64(j)), nil
}

// bigDiv rounds the quotient of two ints that are no floats once.
func (e *interp) bigDiv(i, j int64) (Value, error) {
	f, _ := new(big.Rat).SetFrac64(i, j).Float64()
	return Float(f), nil
}

func (e *interp) intPow(i, j int64) (Value, error) {
	if j < 0 {
		if i == 0 {
			return nil, e.fail(ErrValue, "zero to a negative power")
		}
		return Float(math.Pow(float64(i), float64(j))), nil
	}
	result := Value(Int(1))
	base := Value(Int(i))
	for {
		var err error
		if j&1 == 1 {
			if result, err = e.intMul(int64(result.(Int)), int64(base.(Int))); err != nil {
				return nil, err
			}
		}
		if j >>= 1; j == 0 {
			return result, nil
		}
		if base, err = e.intMul(int64(base.(Int)), int64(base.(Int))); err != nil {
			return nil, err
		}
	}
}

func (e *interp) floatOp(op string, f, g float64) (Value, error) {
	switch op {
	case "+":
		return Float(f + g), nil
	case "-":
		return Float(f - g), nil
	case "*":
		return Float(f * g), nil
	case "**":
		return e.floatPow(f, g)
	}
	if g == 0 {
		return nil, e.fail(ErrValue, "division by zero")
	}
	if op == "/" {
		return Float(f / g), nil
	}
	// The sign of the remainder is that of the divisor, also when it is zero.
	r := math.Mod(f, g)
	q := (f - r) / g
	if r == 0 {
		r = math.Copysign(0, g)
	} else if (r < 0) != (g < 0) {
		r += g
		q--
	}
	if op == "%" {
		return Float(r), nil
	}
	if q == 0 {
		return Float(math.Copysign(0, f/g)), nil
	}
	floor := math.Floor(q)
	if q-floor > 0.5 {
		floor++
	}
	return Float(floor), nil
}

func (e *interp) floatPow(f, g float64) (Value, error) {
	if f == 0 && g < 0 {
		return nil, e.fail(ErrValue, "zero to a negative power")
	}
	if f < 0 && g != math.Trunc(g) && !math.IsInf(f, 0) {
		return nil, e.fail(ErrUnsupported, "complex number")
	}
	r := math.Pow(f, g)
	if math.IsInf(r, 0) && !math.IsInf(f, 0) && !math.IsInf(g, 0) {
		return nil, e.fail(ErrValue, "float result out of range")
	}
	return Float(r), nil
}

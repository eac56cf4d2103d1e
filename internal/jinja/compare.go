package jinja

import (
	"cmp"
	"math"
	"strings"
)

func (e *interp) compare(op string, x, y Value) (bool, error) {
	switch op {
	case "==":
		return e.equal(x, y)
	case "!=":
		eq, err := e.equal(x, y)
		return !eq, err
	case "in":
		return e.contains(y, x)
	case "not in":
		in, err := e.contains(y, x)
		return !in, err
	}
	c, ordered, err := e.order(x, y)
	if err != nil || !ordered {
		return false, err
	}
	switch op {
	case "<":
		return c < 0, nil
	case "<=":
		return c <= 0, nil
	case ">":
		return c > 0, nil
	}
	return c >= 0, nil
}

// equal is Python's x == y.
func (e *interp) equal(x, y Value) (bool, error) {
	if err := e.enter(); err != nil {
		return false, err
	}
	defer e.leave()
	if s, ok := toText(x); ok {
		t, ok := toText(y)
		if !ok || len(s) != len(t) {
			return false, nil
		}
		return s == t, e.scan(len(s))
	}
	if c, ok := compareNumbers(x, y); ok {
		return c == 0, nil
	}
	switch x := x.(type) {
	case none:
		return y == None, nil
	case *undefined:
		_, ok := y.(*undefined)
		return ok, nil
	case *List:
		y, ok := y.(*List)
		if !ok || x.tuple != y.tuple {
			return false, nil
		}
		return e.equalItems(x.items, y.items)
	case *Dict:
		y, ok := y.(*Dict)
		if !ok {
			return false, nil
		}
		return e.equalDicts(x, y)
	case *rangeValue:
		y, ok := y.(*rangeValue)
		return ok && x.len == y.len &&
			(x.len == 0 || x.start == y.start && (x.len == 1 || x.step == y.step)), nil
	case *view:
		if y, ok := y.(*view); ok && x.what != "values" && x.what == y.what {
			return false, e.fail(ErrUnsupported, "comparison of %s", x.typeName())
		}
		return false, nil
	case Bool, Int, Float, *function:
		return false, nil
	}
	return x == y, nil // identity: the rest are pointers
}

func (e *interp) equalItems(a, b []Value) (bool, error) {
	if len(a) != len(b) {
		return false, nil
	}
	for i := range a {
		if same(a[i], b[i]) {
			continue
		}
		if eq, err := e.equal(a[i], b[i]); err != nil || !eq {
			return false, err
		}
	}
	return true, nil
}

func (e *interp) equalDicts(a, b *Dict) (bool, error) {
	if a.Len() != b.Len() {
		return false, nil
	}
	for h, i := range a.index {
		w, ok := b.get(h)
		if !ok {
			return false, nil
		}
		if same(a.vals[i], w) {
			continue
		}
		if eq, err := e.equal(a.vals[i], w); err != nil || !eq {
			return false, err
		}
	}
	return true, nil
}

// same is Python's x is y, as far as it is defined: equal scalars of one type
// count as one.
func same(x, y Value) bool {
	if f, ok := x.(Float); ok && f != f {
		g, ok := y.(Float)
		return ok && g != g
	}
	if _, ok := x.(*undefined); ok {
		_, ok := y.(*undefined)
		return ok
	}
	return x == y // pointers, or comparable scalars
}

// compareNumbers compares ints, bools and floats exactly; a NaN is less than
// and equal to nothing, which 2 stands for.
func compareNumbers(x, y Value) (int, bool) {
	i, xInt := toInt(x)
	j, yInt := toInt(y)
	if xInt && yInt {
		return cmp.Compare(i, j), true
	}
	f, ok := toFloat(x)
	if !ok {
		return 0, false
	}
	g, ok := toFloat(y)
	if !ok {
		return 0, false
	}
	switch {
	case math.IsNaN(f) || math.IsNaN(g):
		return 2, true
	case xInt:
		return compareIntFloat(i, g), true
	case yInt:
		return -compareIntFloat(j, f), true
	}
	return cmp.Compare(f, g), true
}

func compareIntFloat(i int64, f float64) int {
	if f >= 1<<63 {
		return -1
	}
	if f < -1<<63 {
		return 1
	}
	t := math.Trunc(f)
	if c := cmp.Compare(i, int64(t)); c != 0 {
		return c
	}
	return cmp.Compare(t, f)
}

// order compares values that have an order; ordered is false for a NaN.
func (e *interp) order(x, y Value) (c int, ordered bool, err error) {
	if err := e.enter(); err != nil {
		return 0, false, err
	}
	defer e.leave()
	if c, ok := compareNumbers(x, y); ok {
		return c, c != 2, nil
	}
	if s, ok := toText(x); ok {
		if t, ok := toText(y); ok {
			return strings.Compare(s, t), true, e.scan(min(len(s), len(t)))
		}
	}
	for _, v := range [2]Value{x, y} {
		if u, ok := v.(*undefined); ok {
			return 0, false, e.useUndefined(u)
		}
	}
	l, ok := x.(*List)
	m, ok2 := y.(*List)
	if !ok || !ok2 || l.tuple != m.tuple {
		return 0, false, e.fail(ErrValue, "no order between '%s' and '%s'", x.typeName(), y.typeName())
	}
	for i := range min(len(l.items), len(m.items)) {
		a, b := l.items[i], m.items[i]
		if same(a, b) {
			continue
		}
		eq, err := e.equal(a, b)
		if err != nil {
			return 0, false, err
		}
		if !eq {
			return e.order(a, b)
		}
	}
	return cmp.Compare(len(l.items), len(m.items)), true, nil
}

// contains is Python's x in container.
func (e *interp) contains(container, x Value) (bool, error) {
	switch c := container.(type) {
	case String, markup:
		s, _ := toText(c)
		sub, ok := toText(x)
		if !ok {
			return false, e.fail(ErrValue, "'in <string>' requires string as left operand, not %s", x.typeName())
		}
		return strings.Contains(s, sub), e.scan(len(s))
	case *Dict:
		h, err := e.hash(x)
		if err != nil {
			return false, err
		}
		_, ok := c.get(h)
		return ok, nil
	case *view:
		if c.what == "keys" {
			return e.contains(c.dict, x)
		}
	}
	next, err := e.iterate(container)
	if err != nil {
		return false, err
	}
	for {
		item, ok, err := next()
		if err != nil || !ok {
			return false, err
		}
		if same(item, x) {
			return true, nil
		}
		if eq, err := e.equal(item, x); err != nil || eq {
			return eq, err
		}
	}
}

// sorted is a stable merge sort that stops at the first error; less compares
// items by their index.
func (e *interp) sorted(n int, less func(i, j int) (bool, error)) ([]int, error) {
	if err := e.alloc(wordBytes * int64(n)); err != nil {
		return nil, err
	}
	from, to := make([]int, n), make([]int, n)
	for i := range from {
		from[i] = i
	}
	for width := 1; width < n; width *= 2 {
		for lo := 0; lo < n; lo += 2 * width {
			mid, hi := min(lo+width, n), min(lo+2*width, n)
			a, b := lo, mid
			for k := lo; k < hi; k++ {
				takeB := a == mid
				if !takeB && b < hi {
					var err error
					if takeB, err = less(from[b], from[a]); err != nil {
						return nil, err
					}
				}
				if takeB {
					to[k] = from[b]
					b++
				} else {
					to[k] = from[a]
					a++
				}
			}
		}
		from, to = to, from
	}
	return from, nil
}

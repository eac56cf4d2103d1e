package jinja

import "math"

// maxRange is the longest range that the sandbox allows.
const maxRange = 100_000

// globals are the functions templates may call by name; a nil one is refused.
var globals = map[string]*function{
	"range":           {"range", params{"start", "stop?", "step?"}, globalRange},
	"namespace":       {"namespace", params{"*", "**"}, globalNamespace},
	"dict":            {"dict", params{"*", "**"}, globalDict},
	"raise_exception": {"raise_exception", params{"message"}, globalRaise},
	"strftime_now":    {"strftime_now", params{"format"}, globalNow},
	"cycler":          nil,
	"joiner":          nil,
	"lipsum":          nil,
	"self":            nil,
}

func globalRange(e *interp, a args) (Value, error) {
	var n [3]int64
	for i, v := range a.v {
		if v == nil {
			continue
		}
		if u, ok := v.(*undefined); ok {
			return nil, e.useUndefined(u)
		}
		var ok bool
		if n[i], ok = toInt(v); !ok {
			return nil, e.fail(ErrValue, "range: '%s' is no integer", v.typeName())
		}
	}
	r := &rangeValue{start: n[0], stop: n[1], step: 1}
	if a.v[1] == nil {
		r.start, r.stop = 0, n[0]
	}
	if a.v[2] != nil {
		r.step = n[2]
	}
	if r.step == 0 {
		return nil, e.fail(ErrValue, "range: the step must not be zero")
	}
	// Counted in unsigned numbers, which hold any distance.
	var distance, step uint64
	if r.step > 0 && r.start < r.stop {
		distance, step = uint64(r.stop)-uint64(r.start), uint64(r.step)
	} else if r.step < 0 && r.stop < r.start {
		distance, step = uint64(r.start)-uint64(r.stop), -uint64(r.step)
	}
	if distance > 0 {
		n := (distance-1)/step + 1
		if n > maxRange || n > math.MaxInt64 {
			return nil, e.exceeded(RangeItems, maxRange)
		}
		r.len = int64(n)
	}
	return r, e.alloc(listBytes)
}

// makeDict is dict(*a.rest, **a.named).
func (e *interp) makeDict(a args) (*Dict, error) {
	d := a.named
	if len(a.rest) == 0 {
		return d, e.alloc(listBytes)
	}
	if len(a.rest) > 1 {
		return nil, e.fail(ErrValue, "dict takes at most 1 argument, %d given", len(a.rest))
	}
	d = NewDict()
	if from, ok := a.rest[0].(*Dict); ok {
		for k, v := range from.All() {
			if err := e.set(d, k, v); err != nil {
				return nil, err
			}
		}
	} else if err := e.setPairs(d, a.rest[0]); err != nil {
		return nil, err
	}
	for k, v := range a.named.All() {
		if err := e.set(d, k, v); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (e *interp) setPairs(d *Dict, pairs Value) error {
	next, err := e.iterate(pairs)
	if err != nil {
		return err
	}
	for {
		item, ok, err := next()
		if err != nil || !ok {
			return err
		}
		pair, err := e.collect(item)
		if err != nil {
			return err
		}
		if len(pair) != 2 {
			return e.fail(ErrValue, "dict: expected pairs, got %d items", len(pair))
		}
		if err := e.set(d, pair[0], pair[1]); err != nil {
			return err
		}
	}
}

func globalDict(e *interp, a args) (Value, error) { return e.makeDict(a) }

func globalNamespace(e *interp, a args) (Value, error) {
	d, err := e.makeDict(a)
	return &namespace{attrs: d}, err
}

func globalRaise(e *interp, a args) (Value, error) {
	s, err := e.str(a.v[0])
	if err != nil {
		return nil, err
	}
	return nil, &Error{Kind: ErrRaised, Line: e.line, Detail: s}
}

func globalNow(e *interp, a args) (Value, error) {
	layout, ok := toText(a.v[0])
	if !ok {
		return nil, e.fail(ErrValue, "strftime_now: the format must be a string")
	}
	return e.strftime(layout)
}

package jinja

import (
	"errors"
	"fmt"
)

// What can be wrong with a template, found by [Parse].
var (
	// ErrSyntax is a text that is no template.
	ErrSyntax = errors.New("syntax error")
	// ErrUnsupported is a tag, filter, test, method or directive that exists
	// in Jinja or Python, or might, but not here; the detail names it.
	// Rendering can return it too.
	ErrUnsupported = errors.New("unsupported")
)

// What can end a rendering.
var (
	// ErrBudget is a limit of [Limits] reached; [Error.Resource] says which.
	// Parsing can return it too.
	ErrBudget = errors.New("budget exceeded")
	// ErrUndefined is the use of an undefined value for more than printing,
	// testing or looping over it.
	ErrUndefined = errors.New("undefined value")
	// ErrRaised is the template's own raise_exception; [Error.Detail] is its
	// message, word for word.
	ErrRaised = errors.New("raised by the template")
	// ErrValue is an operation that its operands don't allow: what Python
	// raises TypeError, ValueError, ZeroDivisionError and the like for.
	ErrValue = errors.New("invalid operation")
)

// Resource is one of the things that [Limits] bounds.
type Resource string

// The bounded resources.
const (
	SourceBytes Resource = "source bytes"
	Nesting     Resource = "nesting"
	Depth       Resource = "depth"
	Steps       Resource = "steps"
	MemoryBytes Resource = "memory bytes"
	OutputBytes Resource = "output bytes"
	RangeItems  Resource = "items of a range" // fixed by the sandbox, at 100000
)

// Error is why a template could not be parsed or rendered.
type Error struct {
	Kind     error    // a sentinel of this package, or the context's error
	Line     int      // line of the template, from 1; 0 if there is none
	Detail   string   // what exactly; for ErrRaised the template's message
	Resource Resource // for ErrBudget: which limit
}

// Error gives the line, the kind and the detail.
func (e *Error) Error() string {
	s := "jinja: "
	if e.Line > 0 {
		s += fmt.Sprintf("line %d: ", e.Line)
	}
	s += e.Kind.Error()
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// Unwrap gives the kind to errors.Is.
func (e *Error) Unwrap() error { return e.Kind }

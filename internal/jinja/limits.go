package jinja

import (
	"context"
	"fmt"
)

// Limits bounds what one template may cost. A zero field stands for its value
// in [DefaultLimits].
type Limits struct {
	SourceBytes int64 // length of a template's text
	Nesting     int   // blocks, brackets and operators inside one another, in the text
	Depth       int   // statements, expressions, macro calls and values inside one another, while rendering
	Steps       int64 // work of one rendering, about 50 ns each
	MemoryBytes int64 // all values that one rendering makes; what it drops again is not given back
	OutputBytes int64 // length of the rendered text
}

// DefaultLimits is ample for real templates over prompts of some megabytes and
// ends the worst template within about a second.
var DefaultLimits = Limits{
	SourceBytes: 1 << 20,
	Nesting:     200,
	Depth:       1000,
	Steps:       10_000_000,
	MemoryBytes: 256 << 20,
	OutputBytes: 64 << 20,
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits
	if l.SourceBytes != 0 {
		d.SourceBytes = l.SourceBytes
	}
	if l.Nesting != 0 {
		d.Nesting = l.Nesting
	}
	if l.Depth != 0 {
		d.Depth = l.Depth
	}
	if l.Steps != 0 {
		d.Steps = l.Steps
	}
	if l.MemoryBytes != 0 {
		d.MemoryBytes = l.MemoryBytes
	}
	if l.OutputBytes != 0 {
		d.OutputBytes = l.OutputBytes
	}
	return d
}

// pollSteps is how many steps pass between two looks at the context: far below
// a millisecond.
const pollSteps = 2048

// scanBytes is how many bytes of text cost as much as a step to look at.
const scanBytes = 32

// meter counts what a rendering uses.
type meter struct {
	ctx    context.Context // of the one Render call that owns the meter
	limits Limits
	steps  int64
	memory int64
	output int64
	depth  int
	poll   int64 // the number of steps at which the context is looked at next
	line   int   // of the statement being rendered
}

func (m *meter) fail(kind error, format string, args ...any) error {
	return &Error{Kind: kind, Line: m.line, Detail: fmt.Sprintf(format, args...)}
}

func (m *meter) exceeded(r Resource, limit int64) error {
	return &Error{Kind: ErrBudget, Line: m.line, Resource: r, Detail: fmt.Sprintf("more than %d %s", limit, r)}
}

// step pays for n units of work.
func (m *meter) step(n int64) error {
	if n > m.limits.Steps-m.steps {
		return m.exceeded(Steps, m.limits.Steps)
	}
	m.steps += n
	if m.steps >= m.poll {
		m.poll = m.steps + pollSteps
		if err := m.ctx.Err(); err != nil {
			return &Error{Kind: err, Line: m.line}
		}
	}
	return nil
}

// scan pays for looking at n bytes.
func (m *meter) scan(n int) error { return m.step(1 + int64(n)/scanBytes) }

// alloc pays for a value of n bytes before it is made. A negative n stands for
// a product that overflowed.
func (m *meter) alloc(n int64) error {
	if n < 0 || n > m.limits.MemoryBytes-m.memory {
		return m.exceeded(MemoryBytes, m.limits.MemoryBytes)
	}
	m.memory += n
	return m.step(1 + n/scanBytes)
}

// enter goes one level deeper; each enter that succeeded needs a leave.
func (m *meter) enter() error {
	if m.depth >= m.limits.Depth {
		return m.exceeded(Depth, int64(m.limits.Depth))
	}
	if err := m.step(1); err != nil {
		return err
	}
	m.depth++
	return nil
}

func (m *meter) leave() { m.depth-- }

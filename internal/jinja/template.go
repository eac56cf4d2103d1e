package jinja

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Template is a parsed template. It is immutable and safe for concurrent use.
type Template struct {
	body   []stmt
	limits Limits
	now    func() time.Time
}

// Parse parses a template within limits, which also hold for every rendering of
// it.
func Parse(src string, limits Limits) (*Template, error) {
	limits = limits.withDefaults()
	if int64(len(src)) > limits.SourceBytes {
		return nil, &Error{
			Kind: ErrBudget, Resource: SourceBytes,
			Detail: fmt.Sprintf("%d of %d %s", len(src), limits.SourceBytes, SourceBytes),
		}
	}
	tokens, err := lex(src)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens, maxNesting: limits.Nesting}
	body, err := p.template()
	if err != nil {
		return nil, err
	}
	return &Template{body: body, limits: limits, now: time.Now}, nil
}

// WithClock returns the template with another clock for strftime_now than
// [time.Now].
func (t *Template) WithClock(now func() time.Time) *Template {
	c := *t
	c.now = now
	return &c
}

// WithLimits returns the template with other limits for its renderings.
func (t *Template) WithLimits(limits Limits) *Template {
	c := *t
	c.limits = limits.withDefaults()
	return &c
}

// Render renders the template with the given variables. A failed or cancelled
// rendering returns no text.
func (t *Template) Render(ctx context.Context, vars map[string]Value) (string, error) {
	var out strings.Builder
	e := &interp{
		meter: meter{ctx: ctx, limits: t.limits},
		out:   &out,
		now:   t.now,
		vars:  vars,
		scope: &scope{},
	}
	if err := e.step(1); err != nil { // looks at the context even if the template is empty
		return "", err
	}
	if _, err := e.block(t.body); err != nil {
		return "", err
	}
	return out.String(), nil
}

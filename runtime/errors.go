package runtime

import (
	"context"
	"errors"
	"fmt"
)

// Code is the kind of an [*Error]: a small closed set that callers can branch
// on and that a network surface maps to its own.
type Code uint8

// The kinds of errors.
const (
	CodeInternal          Code = iota // a fault of dunlin's own
	CodeInvalidRequest                // a field of the request can't be used
	CodeContextLength                 // the prompt doesn't fit the context; see [ContextLengthError]
	CodeUnsupported                   // understood, but not supported by this generator
	CodeInvalidModel                  // the model's file is damaged or isn't a model
	CodeModelNotFound                 // there is no such model
	CodeModelChanged                  // the model's file was changed or cut under its mapping
	CodeNumerics                      // the model computed NaN or infinity
	CodeResourceExhausted             // the memory budget has no room for it
	CodeOverloaded                    // the queue is full: try again later
	CodeCanceled                      // the caller ended it
	CodeDeadline                      // the caller's deadline passed
	CodeClosed                        // the model or the stream was closed
)

var codeNames = [...]string{
	"internal error", "invalid request", "context length exceeded", "unsupported", "invalid model", "model not found",
	"model file changed", "numeric error", "resource exhausted", "overloaded", "canceled", "deadline exceeded", "closed",
}

// String is the code in words.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("code %d", uint8(c))
}

// Error is an error of this package. Find it with errors.As, and what it
// wraps, such as context.Canceled or a [ContextLengthError], with errors.Is
// and errors.As.
type Error struct {
	Code Code
	// Field is the request's field at fault, in its JSON spelling, if one is.
	Field string
	// Err says what happened, in one line.
	Err error
}

// Error is the cause's text, one line.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// NewError wraps err with a code. An err that already carries an [*Error]
// keeps that one's code; the ends of a context become [CodeCanceled] and
// [CodeDeadline] whatever code is given.
func NewError(code Code, err error) error {
	var own *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return err
	case errors.Is(err, context.Canceled):
		code = CodeCanceled
	case errors.Is(err, context.DeadlineExceeded):
		code = CodeDeadline
	}
	return &Error{Code: code, Err: err}
}

// CodeOf is the code of err, [CodeInternal] where it has none.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}

// ContextLengthError says by how much a request is too long.
type ContextLengthError struct {
	Prompt int // tokens of the prompt; a lower bound where AtLeast is set
	Limit  int // tokens that the context holds
	// AtLeast says that counting stopped early because the text could not fit.
	AtLeast bool
}

// Error gives both numbers.
func (e *ContextLengthError) Error() string {
	atLeast := ""
	if e.AtLeast {
		atLeast = "at least "
	}
	text := fmt.Sprintf("the prompt has %s%d tokens, the context holds %d", atLeast, e.Prompt, e.Limit)
	if e.Prompt == e.Limit {
		text += " and must leave room for one more"
	}
	return text
}

func invalid(field, format string, args ...any) error {
	return &Error{Code: CodeInvalidRequest, Field: field, Err: fmt.Errorf(format, args...)}
}

// needContext reports a context that is nil, which would panic further down.
func needContext(ctx context.Context) error {
	if ctx == nil {
		return &Error{Code: CodeInvalidRequest, Err: errors.New("the context is nil")}
	}
	return nil
}

package models

import "errors"

// Errors when a model is made from a file.
var (
	// ErrUnsupported is returned for an architecture, a weight format or a
	// feature that dunlin doesn't run. The text names it.
	ErrUnsupported = errors.New("not supported")
	// ErrInvalid is returned for a file whose metadata or tensors contradict
	// each other.
	ErrInvalid = errors.New("not a usable model")
)

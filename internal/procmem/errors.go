package procmem

import "errors"

var (
	// ErrFormat is returned for text that isn't what Linux writes.
	ErrFormat = errors.New("procmem: not the kernel's format")
	// ErrTooMany is returned for a process with more mappings of files than are read.
	ErrTooMany = errors.New("procmem: too many mappings")
)

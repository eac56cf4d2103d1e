package pool

import "errors"

// Errors when a file is opened.
var (
	// ErrNotRegular is returned for directories, devices and pipes.
	ErrNotRegular = errors.New("not a regular file")
	// ErrEmpty is returned for a file without a byte in it.
	ErrEmpty = errors.New("the file is empty")
)

// Errors while a file is mapped.
var (
	// ErrChanged is returned when a mapped file has been cut, overwritten or
	// touched in place since it was opened.
	ErrChanged = errors.New("the file was changed while it was in use")
	// ErrFault is returned when mapped memory could not be read.
	ErrFault = errors.New("mapped memory could not be read: the file was cut or its disk failed")
)

// errNoRoom ends a warm-up that would cost others their pages.
var errNoRoom = errors.New("no room")

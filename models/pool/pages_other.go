//go:build !linux

package pool

import (
	"errors"
	"os"
)

const recycles = false

func advise([]byte) {}

func release([]byte) {}

func reserve([]byte) error { return errors.ErrUnsupported }

func restore([]byte, *os.File) error { return errors.ErrUnsupported }

func populate(b []byte) error { return touch(b) }

//go:build !unix

package pool

import (
	"os"
	"time"
)

// stat asks for a file's size and time.
type stat struct{}

func (*stat) read(f *os.File) (size int64, modified time.Time, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, time.Time{}, err
	}
	return info.Size(), info.ModTime(), nil
}

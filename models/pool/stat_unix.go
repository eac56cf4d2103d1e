//go:build unix

package pool

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// stat asks for a file's size and time into the same memory again and again:
// it is asked after every step.
type stat struct {
	mu  sync.Mutex
	buf unix.Stat_t
}

func (s *stat) read(f *os.File) (size int64, modified time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		err = unix.Fstat(int(f.Fd()), &s.buf)
		if err != unix.EINTR { // a plain Errno
			break
		}
	}
	if err != nil {
		return 0, time.Time{}, os.NewSyscallError("fstat", err)
	}
	return s.buf.Size, time.Unix(s.buf.Mtim.Unix()), nil
}

package hub

import (
	"os"

	"golang.org/x/sys/unix"
)

// evict takes a written file out of the page cache: small writes leave it there
// in small pieces, the mapping of a model reads it back in huge pages.
func evict(f *os.File) { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }

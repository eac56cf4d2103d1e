// Package procmem is a stub.
package procmem

import (
	"errors"
	"os"
	"strconv"
	"strings"
)

type Usage struct{ Rss, Pss, SharedClean, SharedDirty, PrivateClean, PrivateDirty, Swap int64 }
type Mapping struct {
	Start, End    uintptr
	Path          string
	Device, Inode uint64
	Deleted       bool
	Usage         Usage
	FilePmdMapped int64
}
type Resident struct{ Anon, File, Shmem int64 }

func Mappings(pid int) ([]Mapping, error) { return nil, errors.ErrUnsupported }
func Self() (Resident, error) {
	b, err := os.ReadFile("/proc/self/status")
	var r Resident
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 3 {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			n <<= 10
			switch f[0] {
			case "RssAnon:":
				r.Anon = n
			case "RssFile:":
				r.File = n
			case "RssShmem:":
				r.Shmem = n
			}
		}
	}
	return r, err
}

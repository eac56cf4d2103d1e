package budget

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
)

// Process is the budget of the process. Its limit is half of what is [Available]
// when it is asked for first, until another one is set.
var Process = sync.OnceValue(func() *Budget { return New(Available() / 2) })

// unknownMemory is assumed where the system doesn't tell how much it has.
const unknownMemory = 4 << 30

// Available is how many bytes the process may use: the smallest of GOMEMLIMIT,
// the limits of its cgroups and the machine's memory.
func Available() int64 {
	limit := int64(math.MaxInt64)
	if n := debug.SetMemoryLimit(-1); n > 0 {
		limit = n
	}
	return min(limit, Physical())
}

// cgroupLimit is the smallest memory limit of the process's cgroup and those
// above it, version 2 or 1, mounted at root; the largest int64 where there is
// none.
func cgroupLimit(root, self string) int64 {
	limit := int64(math.MaxInt64)
	b, err := os.ReadFile(self)
	if err != nil {
		return limit
	}
	for line := range strings.Lines(string(b)) {
		// hierarchy:controllers:path; version 2 has no controllers.
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		dir, file := root, "memory.max"
		if parts[1] == "memory" {
			dir, file = filepath.Join(root, "memory"), "memory.limit_in_bytes"
		} else if parts[1] != "" {
			continue
		}
		for path := filepath.Clean("/" + parts[2]); ; path = filepath.Dir(path) {
			if b, err := os.ReadFile(filepath.Join(dir, path, file)); err == nil {
				if n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil {
					limit = min(limit, n)
				}
			}
			if path == "/" {
				break
			}
		}
	}
	return limit
}

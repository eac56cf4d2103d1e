package procmem

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// Rollup sums up all mappings of a process, the caller's own for 0.
func Rollup(pid int) (Usage, error) { return read(pid, "smaps_rollup", parseRollup) }

// Mappings lists the mappings of files of a process, the caller's own for 0. It
// takes the kernel a walk over all pages that the process has.
func Mappings(pid int) ([]Mapping, error) { return read(pid, "smaps", parseMappings) }

// Self is what the caller has in RAM. The kernel keeps these counts, some pages
// late, so asking is cheap.
func Self() (Resident, error) { return read(0, "status", parseStatus) }

// Command is the name of the program of a process, of which Linux keeps 15 bytes.
func Command(pid int) (string, error) {
	return read(pid, "comm", func(r io.Reader) (string, error) {
		b, err := io.ReadAll(io.LimitReader(r, maxLine))
		return strings.TrimSuffix(string(b), "\n"), err
	})
}

func read[T any](pid int, name string, parse func(io.Reader) (T, error)) (v T, err error) {
	dir := "self"
	if pid != 0 {
		dir = strconv.Itoa(pid)
	}
	f, err := os.Open("/proc/" + dir + "/" + name)
	if err != nil {
		return v, err
	}
	defer f.Close()
	if v, err = parse(f); err != nil {
		return v, fmt.Errorf("/proc/%s/%s: %w", dir, name, err)
	}
	return v, nil
}

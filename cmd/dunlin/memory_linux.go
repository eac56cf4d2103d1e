package main

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
)

// memory is what a process holds in RAM, in bytes.
type memory struct {
	private int64 // its own: what it wrote to
	shared  int64 // pages of files, which every process that maps them has in common
}

// processMemory reads this process's memory. A file's page counts as shared
// also while no other process happens to map it: it costs nobody twice.
func processMemory() (memory, bool) {
	data, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		return memory{}, false
	}
	return parseSmaps(data)
}

func parseSmaps(data []byte) (m memory, ok bool) {
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		f := bytes.Fields(lines.Bytes())
		if len(f) < 2 {
			continue
		}
		kB, err := strconv.ParseInt(string(f[1]), 10, 64)
		if err != nil {
			continue
		}
		switch string(f[0]) {
		case "Private_Dirty:":
			m.private, ok = kB<<10, true
		case "Shared_Clean:", "Shared_Dirty:", "Private_Clean:":
			m.shared += kB << 10
		}
	}
	return m, ok
}

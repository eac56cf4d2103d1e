//go:build !linux

package main

// memory is what a process holds in RAM, in bytes.
type memory struct{ private, shared int64 }

// processMemory is not known here: the system doesn't tell file pages apart.
func processMemory() (memory, bool) { return memory{}, false }

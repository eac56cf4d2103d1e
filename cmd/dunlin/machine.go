package main

import (
	"os"
	goruntime "runtime"
	"strings"

	"github.com/dunlin-go/dunlin/tensor"
)

// machine says what measurements were made on.
type machine struct {
	CPU        string `json:"cpu"`
	Processors int    `json:"processors"`
	OS         string `json:"os"`
	Arch       string `json:"arch"`
	Go         string `json:"go"`
	Kernels    string `json:"kernels"` // the instruction set in use
}

func thisMachine() machine {
	return machine{cpuName(), goruntime.NumCPU(), goruntime.GOOS, goruntime.GOARCH, goruntime.Version(), tensor.InstructionSet()}
}

// cpuName is what Linux calls the processor; elsewhere, or where it doesn't
// say, the architecture.
func cpuName() string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return goruntime.GOARCH
	}
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return goruntime.GOARCH
}

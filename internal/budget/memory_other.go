//go:build !linux && !darwin

package budget

func machineMemory() int64 { return 0 }

//go:build !linux

package pool

func advise([]byte) {}

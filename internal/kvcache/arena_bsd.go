//go:build unix && !linux

package kvcache

const noReserve = 0

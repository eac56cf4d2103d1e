package kvcache

import "golang.org/x/sys/unix"

const noReserve = unix.MAP_NORESERVE

const adviseFree = unix.MADV_DONTNEED

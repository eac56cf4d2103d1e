package pool

import "golang.org/x/sys/unix"

// advise asks for huge pages in the page cache, so that a pass over the weights
// needs one translation of addresses for 2 MB instead of 4 KB. They are made when
// the file is read from the disk, where its file system can (ext4 since Linux 6.16,
// XFS, Btrfs); whatever lies in the cache already stays as it is. Every process
// that maps the file has them. Refusals don't matter.
func advise(b []byte) { _ = unix.Madvise(b, unix.MADV_HUGEPAGE) }

package pool

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// recycles says that pages can be given back and files unmapped and mapped again
// at the same address.
const recycles = true

// advise asks for huge pages in the page cache, so that a pass over the weights
// needs one translation of addresses for 2 MB instead of 4 KB. They are made when
// the file is read from the disk, where its file system can (ext4 since Linux 6.16,
// XFS, Btrfs); whatever lies in the cache already stays as it is. Every process
// that maps the file has them. Refusals don't matter.
func advise(b []byte) { _ = unix.Madvise(b, unix.MADV_HUGEPAGE) }

// release takes a mapping's pages out of the process. They stay in the page cache
// as long as the system has no better use for them.
func release(b []byte) { _ = unix.Madvise(b, unix.MADV_DONTNEED) }

// reserve replaces a mapping by an address range that nothing is in.
func reserve(b []byte) error {
	_, err := unix.MmapPtr(-1, 0, unsafe.Pointer(unsafe.SliceData(b)), uintptr(len(b)), unix.PROT_NONE,
		unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_FIXED|unix.MAP_NORESERVE)
	return os.NewSyscallError("mmap", err)
}

// restore maps a file where reserve was. The range is this package's until the
// last handle goes, so MAP_FIXED replaces nothing of others.
func restore(b []byte, f *os.File) error {
	_, err := unix.MmapPtr(int(f.Fd()), 0, unsafe.Pointer(unsafe.SliceData(b)), uintptr(len(b)), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_FIXED)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	advise(b)
	return nil
}

// populate reads pages in and maps them. A file that was cut, or a disk that
// failed, is an error and no fault.
func populate(b []byte) error {
	for {
		switch err := unix.Madvise(b, unix.MADV_POPULATE_READ); {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EINVAL): // before Linux 5.14
			return touch(b)
		case errors.Is(err, unix.EFAULT), errors.Is(err, unix.EHWPOISON):
			return ErrFault
		default:
			return os.NewSyscallError("madvise", err)
		}
	}
}

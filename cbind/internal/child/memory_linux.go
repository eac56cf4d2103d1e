package child

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dunlin-go/dunlin/cbind/internal/device"
)

// memoryBytes is the size of the shared memory. Pages take room when they are written
// and, but for the first, are given back when what lies there is released.
const memoryBytes = 16 << 30

// keptBytes is how much of the memory keeps its pages when what lies there is released, from its
// beginning, which is used first: new pages take 20 times as long as copying does.
const keptBytes = 16 << 20

// memory is mapped by both processes. The parent says what lies where.
type memory struct {
	file  *os.File
	bytes []byte

	mu     sync.Mutex
	used   []span // by their place
	closed bool   // to be unmapped when nothing is used
}

// newMemory makes the memory. It is sealed, so that no process can cut it under the
// other.
func newMemory() (*memory, error) {
	fd, err := unix.MemfdCreate("dunlin-bridge", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("shared memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "dunlin-bridge")
	err = f.Truncate(memoryBytes)
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	}
	if err != nil {
		_ = f.Close() // the reason for giving up says more
		return nil, fmt.Errorf("shared memory: %w", err)
	}
	return mapMemory(f)
}

func mapMemory(f *os.File) (*memory, error) {
	b, err := unix.Mmap(int(f.Fd()), 0, memoryBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("shared memory: %w", err)
	}
	return &memory{file: f, bytes: b}, nil
}

// take finds room, the first there is, of whole pages: others couldn't be given back.
func (m *memory) take(size int64) (span, error) {
	page := int64(os.Getpagesize())
	size = (max(size, 1) + page - 1) &^ (page - 1)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return span{}, device.ErrClosed
	}
	at, i := int64(0), 0
	for ; i < len(m.used) && m.used[i].At-at < size; i++ {
		at = m.used[i].At + m.used[i].Size
	}
	if size > memoryBytes-at {
		return span{}, &device.Error{Status: device.NoMemory, Message: fmt.Sprintf("a tensor of %d bytes doesn't fit the memory shared with the child", size)}
	}
	s := span{at, size}
	m.used = slices.Insert(m.used, i, s)
	return s, nil
}

// free gives a span back.
func (m *memory) free(s span) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.Index(m.used, s)
	if i < 0 {
		return
	}
	m.used = slices.Delete(m.used, i, i+1)
	if at, end := max(s.At, keptBytes), s.At+s.Size; at < end {
		_ = unix.Fallocate(int(m.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, end-at) // else it is kept
	}
	m.unmap()
}

// close unmaps the memory as soon as nothing of it is used.
func (m *memory) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.unmap()
}

// unmap is called with the lock held.
func (m *memory) unmap() {
	if !m.closed || len(m.used) > 0 || m.bytes == nil {
		return
	}
	_ = unix.Munmap(m.bytes) // the range is a mapping of its own
	_ = m.file.Close()
	m.bytes = nil
}

// view is a span's memory, which stays mapped until the span is freed.
func view[T any](m *memory, s span) ([]T, error) {
	var t T
	if s.At < 0 || s.Size < 0 || s.At > memoryBytes-s.Size || s.At%int64(unsafe.Alignof(t)) != 0 {
		return nil, fmt.Errorf("there is no place %d, %d in the shared memory", s.At, s.Size)
	}
	n := int(s.Size / int64(unsafe.Sizeof(t)))
	if n == 0 {
		return nil, nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&m.bytes[s.At])), n), nil
}

// address is where a place of the memory is in this process.
func (m *memory) address(at int64) uintptr { return uintptr(unsafe.Pointer(&m.bytes[at])) }

package pool

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/edsrzf/mmap-go"
)

// mappings are the files that this process has mapped now. A process has few,
// so they are searched one by one.
var mappings struct {
	sync.Mutex
	list []*mapping
}

// mapping is one mapped file. Its count is guarded by mappings.
type mapping struct {
	refs  int
	file  *os.File // kept open: stat through it sees this inode, whatever the path names now
	info  os.FileInfo
	bytes mmap.MMap
}

// Handle keeps one mapping. It is safe for concurrent use, but its Close must
// come after the last use of its bytes.
type Handle struct {
	m     *mapping // nil for wrapped bytes
	bytes []byte
	once  sync.Once
	stat  stat
}

// Open maps the file at path, read-only and shared with every process that
// maps it, or takes another reference to the mapping that exists. A file that
// was changed since it was mapped gets a mapping of its own.
func Open(path string) (*Handle, error) {
	// Opening a pipe waits for its writer, so look before.
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("open %s: %w", path, ErrNotRegular)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = fmt.Errorf("open %s: %w", path, ErrNotRegular)
	case info.Size() == 0:
		err = fmt.Errorf("open %s: %w", path, ErrEmpty)
	case int64(int(info.Size())) != info.Size():
		err = fmt.Errorf("open %s: %d bytes can't be addressed on this machine", path, info.Size())
	}
	if err != nil {
		_ = f.Close() // the error before it says more
		return nil, err
	}
	mappings.Lock()
	defer mappings.Unlock()
	for _, m := range mappings.list {
		if os.SameFile(m.info, info) && same(m.info, info) {
			m.refs++
			_ = f.Close() // the mapping has a file of its own
			return &Handle{m: m, bytes: m.bytes}, nil
		}
	}
	bytes, err := mmap.MapRegion(f, int(info.Size()), mmap.RDONLY, 0, 0)
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	advise(bytes)
	m := &mapping{refs: 1, file: f, info: info, bytes: bytes}
	mappings.list = append(mappings.list, m)
	return &Handle{m: m, bytes: bytes}, nil
}

// Wrap returns a handle to bytes on the heap, for models that are embedded in a
// program. The bytes must not be changed while the handle is open.
func Wrap(b []byte) *Handle { return &Handle{bytes: b} }

// Bytes is the whole file, valid until Close. Writing to it is a memory fault.
func (h *Handle) Bytes() []byte { return h.bytes }

// Check returns [ErrChanged] when the file's size or modification time is no
// longer what it was. It costs one system call and, on Unix, no allocation. A file that was replaced by
// rename or deleted is unchanged: the mapping keeps the old one.
func (h *Handle) Check() error {
	if h.m == nil {
		return nil
	}
	size, modified, err := h.stat.read(h.m.file)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrChanged, err)
	}
	if was := h.m.info; size != was.Size() || !modified.Equal(was.ModTime()) {
		return fmt.Errorf("%w: it had %d bytes of %s, now it has %d of %s", ErrChanged,
			was.Size(), was.ModTime().Format(time.RFC3339), size, modified.Format(time.RFC3339))
	}
	return nil
}

func same(a, b os.FileInfo) bool { return a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) }

// Close gives the handle back; the mapping goes with its last handle. It may
// be called more than once.
func (h *Handle) Close() error {
	var err error
	h.once.Do(func() {
		if h.m == nil {
			return
		}
		mappings.Lock()
		defer mappings.Unlock()
		if h.m.refs--; h.m.refs > 0 {
			return
		}
		for i, m := range mappings.list {
			if m == h.m {
				mappings.list = append(mappings.list[:i], mappings.list[i+1:]...)
				break
			}
		}
		err = h.m.bytes.Unmap()
		if cerr := h.m.file.Close(); err == nil {
			err = cerr
		}
	})
	return err
}

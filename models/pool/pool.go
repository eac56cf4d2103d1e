package pool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/edsrzf/mmap-go"
)

// mapping is one mapped file. What changes is guarded by residency.mu.
type mapping struct {
	path  string   // that it was first opened by
	file  *os.File // kept open: stat through it sees this inode, whatever the path names now
	info  os.FileInfo
	bytes mmap.MMap
	size  int64

	handles []*Handle
	users   int // between Use and Done
	state   state
	busy    bool      // its pages are being dropped
	broken  error     // why it couldn't be mapped or unmapped: nobody may touch its addresses
	used    uint64    // when it was used last, by residency.clock
	usedAt  time.Time // the same
}

// state is how much of a mapping may be in memory.
type state uint8

const (
	cold   state = iota // mapped, and none of it counts as resident
	warm                // mapped, and all of it may be resident
	parked              // not mapped: the address range is kept for it
)

// Handle keeps the mappings of one file, or of all parts of a model. It is safe
// for concurrent use, but its Close must come after the last use of its bytes.
type Handle struct {
	in        *residency
	maps      []*mapping // none for wrapped bytes
	parts     [][]byte
	stats     []stat
	once      sync.Once
	closed    bool          // guarded by residency.mu
	keepAlive time.Duration // 0 for no end
	pinned    bool
}

// Option changes what [Open] does.
type Option func(*Handle)

// KeepAlive unmaps the file when it hasn't been used for d. The next [Handle.Use]
// maps it again, at the same address. A file with several handles stays as long
// as the one that wants it longest; a handle without a time keeps it mapped until
// the limit of [SetResidentLimit] is met.
func KeepAlive(d time.Duration) Option { return func(h *Handle) { h.keepAlive = d } }

// Pinned keeps the file mapped and its pages where they are, whatever the limit:
// its bytes are valid without Use.
func Pinned() Option { return func(h *Handle) { h.pinned = true } }

// Open maps the file at path, read-only and shared with every process that
// maps it, or takes another reference to the mapping that exists. A file that
// was changed since it was mapped gets a mapping of its own.
func Open(path string, opts ...Option) (*Handle, error) { return OpenParts([]string{path}, opts...) }

// OpenParts is [Open] for a model in several files, which are used together.
func OpenParts(paths []string, opts ...Option) (*Handle, error) {
	return shared.open(paths, opts)
}

// Wrap returns a handle to bytes on the heap, for models that are embedded in a
// program. The bytes must not be changed while the handle is open.
func Wrap(b []byte) *Handle { return &Handle{parts: [][]byte{b}} }

// Bytes is the whole file, or the first of its parts, valid between Use and Done
// and in Read, or as long as the handle where it is [Pinned].
// Writing to it is a memory fault.
func (h *Handle) Bytes() []byte { return h.parts[0] }

// Parts is all files in the order they were opened in, each as Bytes.
func (h *Handle) Parts() [][]byte { return h.parts }

// Size is the number of bytes of all parts.
func (h *Handle) Size() int64 {
	var n int64
	for _, p := range h.parts {
		n += int64(len(p))
	}
	return n
}

// Residency tells how many of the handle's bytes are mapped, how many of those may
// be in the process's memory, and when they were used last.
func (h *Handle) Residency() (mapped, resident int64, used time.Time) {
	if h.maps == nil {
		return h.Size(), h.Size(), time.Time{}
	}
	h.in.mu.Lock()
	defer h.in.mu.Unlock()
	for _, m := range h.maps {
		if m.state != parked {
			mapped += m.size
		}
		if m.state == warm {
			resident += m.size
		}
		if m.usedAt.After(used) {
			used = m.usedAt
		}
	}
	return mapped, resident, used
}

// Check returns [ErrChanged] when a file's size or modification time is no
// longer what it was. It costs one system call a file and, on Unix, no
// allocation. A file that was replaced by rename or deleted is unchanged: the
// mapping keeps the old one.
func (h *Handle) Check() error {
	for i, m := range h.maps {
		size, modified, err := h.stats[i].read(m.file)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrChanged, err)
		}
		if size != m.size || !modified.Equal(m.info.ModTime()) {
			return fmt.Errorf("%w: it had %d bytes of %s, now it has %d of %s", ErrChanged,
				m.size, m.info.ModTime().Format(time.RFC3339), size, modified.Format(time.RFC3339))
		}
	}
	return nil
}

// Use maps what isn't mapped, and keeps the pages where they are until Done.
// Where the process has less room than the file takes, others that nobody uses
// give up their pages first, the least recently used first of all; where all
// are in use, Use waits for them or for ctx, in the order of the calls. A file
// that would never fit is let in alone. Whoever uses one file must not wait for
// another. After Close it is an error, [os.ErrClosed].
//
// Fresh reports that the pages may have gone since the last use.
func (h *Handle) Use(ctx context.Context) (fresh bool, err error) {
	if h.maps == nil {
		return false, nil
	}
	return h.in.enter(ctx, h)
}

// TryUse is Use where nobody has to leave, wait or map anything: where the pages have
// been in memory since the last use, and nobody else waits for room. After true there
// is a Done.
func (h *Handle) TryUse() bool { return h.maps == nil || h.in.tryEnter(h) }

// Done ends what Use began.
func (h *Handle) Done() {
	if h.maps != nil {
		h.in.leave(h.maps)
	}
}

// Read runs f, which reads a little of the file, such as its metadata: others needn't
// leave for it, and it doesn't wait. A memory fault in it is [ErrFault].
func (h *Handle) Read(f func() error) error {
	if h.maps != nil {
		if err := h.in.peek(h); err != nil {
			return err
		}
		defer h.Done()
	}
	return Guard(f)
}

// Close gives the handle back; a mapping goes with its last handle, or with the
// last Done after it. It may be called more than once.
func (h *Handle) Close() error {
	var err error
	h.once.Do(func() {
		if h.maps != nil {
			err = h.in.close(h)
		}
	})
	return err
}

func (h *Handle) gone() error { return fmt.Errorf("use %s: %w", h.maps[0].path, os.ErrClosed) }

// identify looks at the file that a path names, without opening it: opening a
// pipe waits for its writer.
func identify(path string) (os.FileInfo, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	return info, usable(path, info)
}

func usable(path string, info os.FileInfo) error {
	switch {
	case !info.Mode().IsRegular():
		return fmt.Errorf("open %s: %w", path, ErrNotRegular)
	case info.Size() == 0:
		return fmt.Errorf("open %s: %w", path, ErrEmpty)
	case int64(int(info.Size())) != info.Size():
		return fmt.Errorf("open %s: %d bytes can't be addressed on this machine", path, info.Size())
	}
	return nil
}

// is reports whether the mapping is of the very file that info describes.
func (m *mapping) is(info os.FileInfo) bool {
	return os.SameFile(m.info, info) && m.size == info.Size() && m.info.ModTime().Equal(info.ModTime())
}

// newMapping opens and maps a file.
func newMapping(path string) (*mapping, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = usable(path, info)
	}
	var bytes mmap.MMap
	if err == nil {
		if bytes, err = mmap.MapRegion(f, int(info.Size()), mmap.RDONLY, 0, 0); err != nil {
			err = fmt.Errorf("map %s: %w", path, err)
		}
	}
	if err != nil {
		_ = f.Close() // the error before it says more
		return nil, err
	}
	advise(bytes)
	return &mapping{path: path, file: f, info: info, bytes: bytes, size: info.Size(), usedAt: time.Now()}, nil
}

// unmap gives a mapping back, but for addresses of which nobody knows whose they
// are.
func (m *mapping) unmap() error {
	err := m.file.Close()
	if m.broken == nil {
		err = errors.Join(m.bytes.Unmap(), err)
	}
	return err
}

func (m *mapping) unused() bool { return m.users == 0 && !m.busy && m.broken == nil }

func (m *mapping) pinned() bool {
	return slices.ContainsFunc(m.handles, func(h *Handle) bool { return h.pinned })
}

// keepAlive is how long the mapping stays without being used, 0 for no end.
func (m *mapping) keepAlive() time.Duration {
	longest := time.Duration(0)
	for _, h := range m.handles {
		if h.keepAlive == 0 {
			return 0
		}
		longest = max(longest, h.keepAlive)
	}
	return longest
}

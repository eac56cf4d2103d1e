package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/internal/procmem"
)

// residency is the index of the files that this process has mapped, and decides
// whose pages may be in memory.
//
// It counts: a mapping that was used since its pages were dropped is counted
// with its whole size, and at most that much of it is resident. A use that would
// lift the count over the limit has the pages of others dropped before, so the
// limit holds at any moment, not only when somebody has looked. What else the
// process has in memory, the recycler measures now and then.
//
// Pages are dropped without the lock, while the mapping is busy: nobody enters,
// and it isn't taken away.
type residency struct {
	opening sync.Mutex // held while a file is looked up or opened: once, not twice
	mu      sync.Mutex
	list    []*mapping // a process has few: they are searched one by one
	limit   int64      // of the process's resident set
	other   int64      // resident bytes that belong to no mapping, as last measured
	counted int64      // bytes of the mappings that are warm
	clock   uint64     // counts uses
	waiting []chan struct{}
	stop    chan struct{} // ends the recycler; nil when it doesn't run
	wake    chan struct{} // has one token when the recycler's next look may be too late
	counts  Counts
	measure func() (procmem.Resident, error)
}

// defaultShare of the memory that there is may be resident.
const defaultShare = 0.75

func defaultLimit() int64 { return int64(defaultShare * float64(budget.Physical())) }

func newResidency(limit int64, measure func() (procmem.Resident, error)) *residency {
	return &residency{limit: limit, measure: measure, wake: make(chan struct{}, 1)}
}

// shared is the process's.
var shared = newResidency(defaultLimit(), procmem.Self)

// SetResidentLimit sets how many bytes the process's resident set should have at
// most, pages of files and its own memory together, and returns what was set
// before; a negative number only asks. It is for the whole process, as
// [runtime/debug.SetMemoryLimit] is. By default it is three quarters of what the
// cgroup and the machine have.
//
// Only pages of mapped files can be given up, and only on Linux; elsewhere the
// limit does nothing. A file that doesn't fit beside the process's own memory is
// used nevertheless, while no other is.
func SetResidentLimit(bytes int64) (previous int64) { return shared.setLimit(bytes) }

func (r *residency) setLimit(bytes int64) (previous int64) {
	r.mu.Lock()
	previous = r.limit
	if bytes >= 0 {
		r.limit = bytes
	}
	r.mu.Unlock()
	if bytes >= 0 {
		r.recycle(time.Now())
	}
	return previous
}

// open makes a handle of the mappings of some files.
func (r *residency) open(paths []string, opts []Option) (*Handle, error) {
	if len(paths) == 0 {
		return nil, errors.New("no file to open")
	}
	h := &Handle{in: r, stats: make([]stat, len(paths))}
	for _, o := range opts {
		o(h)
	}
	for _, path := range paths {
		m, err := r.refer(path, h)
		if err != nil {
			return nil, errors.Join(err, h.Close())
		}
		h.maps = append(h.maps, m)
		h.parts = append(h.parts, m.bytes)
	}
	return h, nil
}

// refer gives a handle the mapping of the file at path, which may exist.
func (r *residency) refer(path string, h *Handle) (*mapping, error) {
	info, err := identify(path) // which may wait for a file system that others don't wait for
	if err != nil {
		return nil, err
	}
	r.opening.Lock()
	defer r.opening.Unlock()
	if m, err := r.find(info, h); m != nil || err != nil {
		return m, err
	}
	m, err := newMapping(path)
	if err != nil {
		return nil, err
	}
	known, err := r.find(m.info, h)
	if known != nil || err != nil { // the path was given another file meanwhile
		_ = m.unmap() // it was never used
		return known, err
	}
	m.handles = append(m.handles, h)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, m)
	if r.stop == nil {
		r.stop = make(chan struct{})
		go r.watch(r.stop)
	}
	r.nudge()
	return m, nil
}

// find gives a handle the mapping of a file, if there is one.
func (r *residency) find(info os.FileInfo, h *Handle) (*mapping, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.list {
		if !m.is(info) || m.broken != nil {
			continue
		}
		if h.pinned { // its bytes are there without a use
			if err := r.mapAgain(m); err != nil {
				return nil, err
			}
		}
		m.handles = append(m.handles, h)
		return m, nil
	}
	return nil, nil
}

// close takes a handle from its mappings.
func (r *residency) close(h *Handle) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	h.closed = true
	var errs []error
	for _, m := range h.maps {
		m.handles = slices.DeleteFunc(m.handles, func(o *Handle) bool { return o == h })
		errs = append(errs, r.unmapUnused(m))
	}
	for _, turn := range r.waiting { // one of them may wait with this handle
		wake(turn)
	}
	return errors.Join(errs...)
}

// unmapUnused takes a mapping away that nobody has, uses or works on. The caller
// holds mu.
func (r *residency) unmapUnused(m *mapping) error {
	if len(m.handles) > 0 || m.users > 0 || m.busy {
		return nil
	}
	i := slices.Index(r.list, m)
	if i < 0 {
		return nil // a handle with the same part twice
	}
	r.list = slices.Delete(r.list, i, i+1)
	r.cool(m)
	if len(r.list) == 0 {
		close(r.stop)
		r.stop = nil
	}
	r.kick()
	return m.unmap()
}

// room is how many bytes the warm mappings may have. The caller holds mu.
func (r *residency) room() int64 {
	if !recycles {
		return math.MaxInt64
	}
	return max(r.limit-r.other, 0)
}

// cool marks a mapping whose pages have gone. The caller holds mu.
func (r *residency) cool(m *mapping) {
	if m.state == warm {
		m.state = cold
		r.counted -= m.size
	}
}

// enter lets a user in, see [Handle.Use].
func (r *residency) enter(ctx context.Context, h *Handle) (fresh bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var turn chan struct{}
	for {
		if h.closed {
			r.quit(turn)
			return false, h.gone()
		}
		if turn == nil && len(r.waiting) == 0 || turn != nil && r.waiting[0] == turn {
			fits, victims := r.admits(h.maps)
			if fits {
				r.quit(turn)
				fresh = slices.ContainsFunc(h.maps, func(m *mapping) bool { return m.state != warm })
				return fresh, r.admit(h.maps, true)
			}
			if len(victims) > 0 {
				r.drop(victims)
				continue
			}
		}
		if turn == nil {
			turn = make(chan struct{}, 1)
			r.waiting = append(r.waiting, turn)
			r.counts.Waited++
		}
		r.mu.Unlock()
		select {
		case <-turn:
			r.mu.Lock()
		case <-ctx.Done():
			r.mu.Lock()
			r.quit(turn)
			return false, ctx.Err()
		}
	}
}

// quit takes somebody who waits out of the queue. The caller holds mu.
func (r *residency) quit(turn chan struct{}) {
	if turn == nil {
		return
	}
	r.waiting = slices.DeleteFunc(r.waiting, func(c chan struct{}) bool { return c == turn })
	r.kick()
}

// kick has the first one who waits look again. The caller holds mu.
func (r *residency) kick() {
	if len(r.waiting) > 0 {
		wake(r.waiting[0])
	}
}

func wake(turn chan struct{}) {
	select {
	case turn <- struct{}{}:
	default:
	}
}

// admits reports whether a set fits now, or what could make room for it; with
// neither, it has to wait. The caller holds mu.
func (r *residency) admits(set []*mapping) (fits bool, victims []*mapping) {
	need, used := int64(0), false
	for i, m := range set {
		switch {
		case m.broken != nil:
			return true, nil // to hear of it
		case m.busy:
			return false, nil
		case m.state != warm && !slices.Contains(set[:i], m):
			need += m.size
		}
	}
	if need == 0 || r.counted+need <= r.room() {
		return true, nil
	}
	for _, m := range r.list {
		used = used || !slices.Contains(set, m) && (m.users > 0 || m.busy)
	}
	victims = r.victims(r.counted+need-r.room(), set)
	return len(victims) == 0 && !used, victims
}

// victims are the least recently used mappings whose pages make up n bytes, or as
// many as there are. The caller holds mu.
func (r *residency) victims(n int64, but []*mapping) []*mapping {
	var list []*mapping
	for _, m := range r.list {
		if m.state == warm && m.unused() && !m.pinned() && !slices.Contains(but, m) {
			list = append(list, m)
		}
	}
	slices.SortFunc(list, func(a, b *mapping) int { return cmp.Compare(a.used, b.used) })
	for i, m := range list {
		if n -= m.size; n <= 0 {
			return list[:i+1]
		}
	}
	return list
}

// admit counts a user of each mapping of a set, and their pages if all may be used.
// The caller holds mu.
func (r *residency) admit(set []*mapping, all bool) error {
	for _, m := range set {
		if err := r.mapAgain(m); err != nil {
			return err
		}
	}
	r.clock++
	now := time.Now()
	for _, m := range set {
		if all && m.state == cold {
			m.state = warm
			r.counted += m.size
			r.nudge()
		}
		m.users++
		m.used, m.usedAt = r.clock, now
	}
	return nil
}

// mapAgain maps what is parked. The caller holds mu.
func (r *residency) mapAgain(m *mapping) error {
	if m.state == parked && m.broken == nil {
		if m.broken = restore(m.bytes, m.file); m.broken == nil {
			m.state = cold
			r.counts.Restored++
		}
	}
	if m.broken != nil {
		return fmt.Errorf("map %s again: %w", m.path, m.broken)
	}
	return nil
}

// tryEnter is enter where all is warm.
func (r *residency) tryEnter(h *Handle) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range h.maps {
		if m.busy || m.state != warm {
			return false
		}
	}
	return !h.closed && len(r.waiting) == 0 && r.admit(h.maps, true) == nil
}

// peek lets somebody in who uses a little of a file, see [Handle.Read]: what that
// brings into memory counts as the process's own.
func (r *residency) peek(h *Handle) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h.closed {
		return h.gone()
	}
	return r.admit(h.maps, false)
}

// enterIfRoom is enter for somebody who makes nobody leave or wait.
func (r *residency) enterIfRoom(h *Handle, m *mapping) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h.closed || m.busy || m.state != warm && (len(r.waiting) > 0 || r.counted+m.size > r.room()) {
		return false
	}
	return r.admit([]*mapping{m}, true) == nil
}

// leave ends what enter began.
func (r *residency) leave(set []*mapping) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for _, m := range set {
		m.users--
		m.usedAt = now
		_ = r.unmapUnused(m) // its handle was closed before, who got no error to look at
	}
	r.kick()
}

// nudge has the recycler look soon.
func (r *residency) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// drop gives the pages of mappings back that nobody uses. The caller holds mu,
// which is released meanwhile.
func (r *residency) drop(victims []*mapping) {
	for _, m := range victims {
		m.busy = true
	}
	r.mu.Unlock()
	for _, m := range victims {
		release(m.bytes)
	}
	r.mu.Lock()
	for _, m := range victims {
		m.busy = false
		r.cool(m)
		r.counts.Dropped++
		_ = r.unmapUnused(m)
	}
	r.kick()
}

package pool

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// How often the recycler looks: while files are being used and the room for them is
// half full, and otherwise.
const (
	lookEvery       = time.Second
	lookEverySeldom = 10 * time.Second
)

// parkAfter is how long a mapping whose pages were dropped stays mapped, in case that
// it is used again soon. All that it takes then is its page tables, a five-hundredth
// of its size.
const parkAfter = 10 * time.Second

// watch recycles until stop is closed.
func (r *residency) watch(stop chan struct{}) {
	t := time.NewTimer(lookEvery)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-r.wake:
		case <-t.C:
		}
		t.Reset(r.look())
	}
}

// look is recycle for a goroutine that nobody is to hear a panic of.
func (r *residency) look() (next time.Duration) {
	defer func() {
		if recover() != nil {
			next = lookEverySeldom
		}
	}()
	return r.recycle(time.Now())
}

// recycle measures, drops the pages of what was used least recently until the
// rest fits, and unmaps what has been idle for long enough. It returns how long
// that will do.
func (r *residency) recycle(now time.Time) time.Duration {
	resident, err := r.measure()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !recycles {
		return lookEverySeldom
	}
	if err == nil {
		// Pages of files beyond those that are counted are the program's own. While a
		// counted file is being read that is too few, at most by the program's code.
		r.other = resident.Anon + resident.Shmem + max(resident.File-r.counted, 0)
	}
	if over := r.counted - r.room(); over > 0 {
		r.drop(r.victims(over, r.inUse(now)))
	}
	next := lookEverySeldom
	for _, m := range slices.Clone(r.list) {
		left := m.parksIn(now)
		if left <= 0 {
			r.park(m)
			continue
		}
		next = min(next, left)
		if now.Sub(m.usedAt) < lookEvery && r.counted > r.room()/2 {
			next = min(next, lookEvery)
		}
	}
	r.kick()
	return max(next, time.Millisecond)
}

// inUse are the mappings, one or those of a model's parts, that were used last, if that
// was just now. They may be too large for the limit, and between two steps.
func (r *residency) inUse(now time.Time) (list []*mapping) {
	last := uint64(0)
	for _, m := range r.list {
		last = max(last, m.used)
	}
	for _, m := range r.list {
		if m.used == last && now.Sub(m.usedAt) < parkAfter {
			list = append(list, m)
		}
	}
	return list
}

// parksIn is how long the mapping stays mapped at least.
func (m *mapping) parksIn(now time.Time) time.Duration {
	after := m.keepAlive()
	switch {
	case m.pinned() || m.state == parked || m.broken != nil:
		return math.MaxInt64
	case !m.unused():
		return cmp.Or(after, math.MaxInt64)
	case m.state == cold && (after == 0 || after > parkAfter):
		after = parkAfter
	case after == 0:
		return math.MaxInt64
	}
	return after - now.Sub(m.usedAt)
}

// park unmaps a mapping that nobody uses, and keeps its addresses. The caller
// holds mu, which may be released meanwhile.
func (r *residency) park(m *mapping) {
	if m.state == warm {
		r.drop([]*mapping{m})
	}
	if m.state != cold || !m.unused() || m.pinned() || !slices.Contains(r.list, m) {
		return // somebody came in between
	}
	if m.broken = reserve(m.bytes); m.broken == nil {
		m.state = parked
		r.counts.Parked++
	}
}

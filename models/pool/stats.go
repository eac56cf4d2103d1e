package pool

import (
	"time"
	"unsafe"

	"github.com/dunlin-go/dunlin/internal/procmem"
)

// Counts are what has happened to mappings so far.
type Counts struct {
	Dropped  int64 // whose pages were given back, to make room or for being idle
	Parked   int64 // that were unmapped, as nobody used them
	Restored int64 // that were mapped again
	Waited   int64 // calls of Use that waited for room
}

// Stats are the process's mappings at one moment.
type Stats struct {
	Counts
	Limit    int64 // see [SetResidentLimit]
	Other    int64 // resident bytes of the process that are no mapping's, as the recycler last measured
	Counted  int64 // bytes of mappings that may be resident, which room was made for
	Mappings []MappingStats
}

// MappingStats are the figures of a mapped file.
type MappingStats struct {
	Path    string    // that it was first opened by
	Bytes   int64     // of the file
	Handles int       // that keep it
	Users   int       // between Use and Done
	Mapped  bool      // not unmapped for being idle
	Pinned  bool      // by a handle
	LastUse time.Time // or when it was opened
	// Resident and Private are bytes in this process's memory, and those of them
	// that no other process has; -1 where the system doesn't tell.
	Resident, Private int64
}

// ReadStats reports on all mappings. It reads the process's memory map, which
// takes milliseconds for models of gigabytes.
func ReadStats() Stats { return shared.stats() }

func (r *residency) stats() Stats {
	maps, err := procmem.Mappings(0)
	at := make(map[uintptr]procmem.Usage, len(maps))
	for _, m := range maps {
		at[m.Start] = m.Usage
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Stats{Counts: r.counts, Limit: r.limit, Other: r.other, Counted: r.counted}
	for _, m := range r.list {
		ms := MappingStats{
			Path: m.path, Bytes: m.size, Handles: len(m.handles), Users: m.users, Mapped: m.state != parked, Pinned: m.pinned(),
			LastUse: m.usedAt, Resident: -1, Private: -1,
		}
		if err == nil {
			use := at[uintptr(unsafe.Pointer(unsafe.SliceData(m.bytes)))] // none where it isn't mapped
			ms.Resident, ms.Private = use.Rss, use.PrivateClean+use.PrivateDirty
		}
		s.Mappings = append(s.Mappings, ms)
	}
	return s
}

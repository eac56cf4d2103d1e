package procmem

// Usage is memory in RAM, and swapped out of it, in bytes. Rss is the sum of the
// four that are shared or private, clean or dirty.
type Usage struct {
	Rss int64 // what is in RAM
	Pss int64 // of that, each page divided by the number of processes that map it

	SharedClean, SharedDirty int64 // pages that other processes map too
	// PrivateClean also has pages of a file that only this process has mapped:
	// they would be shared with the next.
	PrivateClean int64
	// PrivateDirty also has pages of a file that was written lately and isn't on
	// the disk yet.
	PrivateDirty int64
	// Anonymous is what no file has: heap, stacks, and what a process wrote to a
	// private mapping. It is in RAM once for each process, and counted above too.
	Anonymous int64
	Swap      int64
}

// Private is what only this process has.
func (u Usage) Private() int64 { return u.PrivateClean + u.PrivateDirty }

// Shared is what other processes have mapped too.
func (u Usage) Shared() int64 { return u.SharedClean + u.SharedDirty }

// Add adds v to u.
func (u *Usage) Add(v Usage) {
	u.Rss += v.Rss
	u.Pss += v.Pss
	u.SharedClean += v.SharedClean
	u.SharedDirty += v.SharedDirty
	u.PrivateClean += v.PrivateClean
	u.PrivateDirty += v.PrivateDirty
	u.Anonymous += v.Anonymous
	u.Swap += v.Swap
}

// Mapping is a range of a process's addresses that has a file behind it.
type Mapping struct {
	Start, End uintptr
	// Path is the file's as the process sees it. Linux doesn't tell a file whose
	// name ends in " (deleted)" from one that was deleted.
	Path          string
	Device, Inode uint64 // as stat gives them, save on Btrfs and some overlays
	Deleted       bool
	Exec          bool // holds code: a program or a library
	Usage         Usage
	FilePmdMapped int64 // bytes in huge pages of the page cache
}

// Resident is what a process has in RAM, in bytes, by what is behind it.
type Resident struct {
	Anon  int64 // nothing: heap, stacks, and what was written to private mappings
	File  int64 // files
	Shmem int64 // files that live in memory only
}

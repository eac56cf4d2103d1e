// Package procmem tells how much memory a process has, and of which files.
//
// [Rollup] sums up a process, [Mappings] lists the files that it has mapped, and
// [Self] is a cheap look at the caller, for once a second. Pss divides a page by
// the number of processes that have it mapped, so the sum of Pss over processes
// is what they take together.
//
// The figures are Linux's own, from /proc. Elsewhere every function returns
// [errors.ErrUnsupported]. A process that ended gives [io/fs.ErrNotExist], or
// ESRCH while nobody has waited for it, as does a thread of the kernel: both have
// no memory. One of another user gives [io/fs.ErrPermission].
package procmem

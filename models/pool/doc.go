// Package pool maps model files into memory and hands out counted handles.
//
// # Basics
//
// [Open] maps a file read-only, or finds the mapping that the process already
// has of the same file (device and inode, not path). Each [Handle] keeps its
// mapping; the last Close unmaps it. [Wrap] gives a handle to bytes that are in
// memory already.
//
// # Caveats
//
// A slice from [Handle.Bytes] is valid until that handle is closed, and not a
// moment longer: whatever keeps a view keeps the handle. Where the file is cut
// under the mapping, touching the lost pages is a memory fault. Code that reads
// a mapping runs inside [Guard] or inside an executor's step, which turn the
// fault into an error. [Handle.Check] reports a file that was changed in place.
package pool

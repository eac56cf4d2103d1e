// Package pool maps model files into memory, hands out counted handles and decides
// whose pages stay there.
//
// # Basics
//
// [Open] maps a file read-only, or finds the mapping that the process already
// has of the same file (device, inode, size and time of change, not path). Each
// [Handle] keeps its mapping; the last Close unmaps it. [OpenParts] is one handle
// to all files of a model. [Wrap] gives a handle to bytes that are in memory already.
//
// Whoever computes with the bytes does so between [Handle.Use] and [Handle.Done];
// whoever reads a little of them, in [Handle.Read]. In between, on Linux, a file's
// pages may be given up for those of others ([SetResidentLimit]) and the file be
// unmapped for being idle ([KeepAlive]). It comes back at the same address, so views
// stay what they are. [Handle.Warm] reads ahead. [ReadStats] shows what is where.
//
// # Caveats
//
// A slice from [Handle.Bytes] outside of Use and Read may be of a range of addresses
// that nothing is in: touching it is a memory fault. After Close it may be anything:
// whatever keeps a view keeps the handle. Where the file is cut under the mapping,
// touching the lost pages is a fault too. Code that reads a mapping runs inside [Guard],
// [Handle.Read] or an executor's step, which turn the fault into an error.
// [Handle.Check] reports a file that was changed in place.
package pool

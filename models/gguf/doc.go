// Package gguf reads and writes GGUF, the format of model weights, their metadata
// and their vocabulary in one file, or in several.
//
// # Basics
//
// [Parse] reads a file that lies in memory, as a rule a memory map. It checks
// everything the file claims before it believes it, copies what the file says
// (keys, values, names, vocabulary) into a few compact heap blocks and leaves
// the tensor data where they are. [File.String], [File.Uint], [File.Strings]
// and their like read metadata; [File.Lookup] and [File.Tensors] describe
// tensors; [File.Data] is a tensor's bytes. [Writer] builds a file. The layout
// is drawn in docs/gguf.md.
//
// A large model may lie in several files: [PartPaths] names them by one of them,
// [ParseParts] reads them as one File, and [Writer.Split] makes such files.
//
// Versions 2 and 3 are read, little-endian. A tensor whose type this build
// doesn't know is listed as "type N" and refused only when its data are asked
// for, so that a newer file can at least be inspected.
//
// # Caveats
//
// What [File.Data] returns is a view of the slice given to Parse, or of one of
// those given to ParseParts, and lives only as long as that mapping. Everything else is the File's own memory and stays
// valid after the mapping is gone.
//
// Parse touches the mapping, so a file that another process truncates at that
// moment faults: the caller arms debug.SetPanicOnFault and recovers, as for any
// other reader of a mapping. A file rewritten meanwhile gives wrong values but
// no wrong memory access, because no length is read twice.
//
// The lease given to Parse belongs to it from then on: it is closed on an error,
// and by [File.Close] otherwise.
package gguf

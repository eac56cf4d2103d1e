// Package kvcache is the paged cache of keys and values: one arena off the Go
// heap, cut into fixed pages that sequences hold together.
//
// # Basics
//
// [New] reserves address space for a number of pages; the operating system
// commits memory as pages are written, and [Cache.Trim] gives that of free ones
// back. A [Sequence] begins with [Cache.Start], on the pages that others have
// computed for the same tokens, takes pages as it grows, publishes those that it
// has filled and releases all when it ends. Published pages stay until their
// memory is needed, the least recently used first. Layers that see only a window
// have pages of their own, which a sequence gives back when no later token sees them.
//
// # Caveats
//
// A cache has one owner: the goroutine that runs the engine's steps. Its views
// end with [Cache.Close]. A model all of whose layers have a window keeps all.
package kvcache

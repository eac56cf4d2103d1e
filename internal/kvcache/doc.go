// Package kvcache is the paged cache of keys and values: one arena off the Go
// heap, cut into fixed pages that sequences borrow.
//
// # Basics
//
// [New] reserves address space for a number of pages; the operating system
// commits memory as pages are written. A sequence first takes a [Lease] for the
// most pages it can come to need, so that it never fails half way, then takes
// the pages one by one as it grows.
//
// # Caveats
//
// A cache has one owner: the goroutine that runs the engine's steps. Its views
// end with [Cache.Close].
package kvcache

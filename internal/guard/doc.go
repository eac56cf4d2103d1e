// Package guard gives tests memory that faults on the first byte outside it.
//
// # Basics
//
// A [Region] is pages of memory between two pages that can't be touched.
// [Region.End] returns a slice whose last byte is the region's last,
// [Region.Start] one whose first byte is its first: code that reads or writes
// past the slice (which the race detector can't see in assembly) dies at once.
//
// # Caveats
//
// For tests only. The slices of one region overlap each other. Where memory
// can't be protected (Windows here) they are plain slices and catch nothing;
// [Protected] tells.
package guard

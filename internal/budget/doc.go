// Package budget is the byte ledger of a process: every allocation whose size
// comes from a file or a request is priced here before it is made.
//
// # Basics
//
// A [Budget] has a limit and a total; a [Lease] gathers the reservations of one
// owner (an open file, a model, a request) so that they end together. Go can't
// recover from running out of memory, so a size that doesn't fit is refused
// with an [ExceededError] instead of being tried.
//
// [Process] is the one that all models of a process take from. A model that has a
// limit of its own has a child of it.
//
// # Caveats
//
// The ledger counts what it is told. It doesn't measure the heap, and memory
// mapped files aren't charged: they are the page cache's, and models/pool counts
// them. docs/memory.md lists what is priced, and what is bounded instead.
package budget

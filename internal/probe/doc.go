// Package probe measures what a machine can do at most: its clock, the peak of
// its integer and float multipliers, and how fast it reads memory. A speed of
// the engine means little without them.
//
// # Basics
//
// [Clock] times a chain of additions that each wait for the one before. [Int8]
// and [Float32] keep the multipliers of some threads busy with instructions that
// wait for nothing else, [Read] reads bytes and does nothing with them. A [Peak]
// also has what the CPU's design says: operations a cycle times the clock.
//
// # Caveats
//
// The loops are assembly of their own, not the engine's kernels, so that a
// mistake there doesn't hide itself. They exist for amd64 with AVX2; elsewhere
// the rates are zero. What a cycle can do is known for some designs only.
// Everything is measured for some milliseconds: on a machine that others use too
// take the largest of several.
package probe

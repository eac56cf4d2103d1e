// Package kernel holds the inner loops of the runtime: products of weight rows
// with activations, the pieces of attention, and the elementwise operations
// between them, in portable Go and in assembly for the instruction sets that
// pay.
//
// # Basics
//
// A [Set] is one implementation of all operations: "generic" is portable Go and
// always there, "avx2" and "avx512" are assembly for amd64. [Sets] lists what
// this CPU can run, [Select] picks one. Weights are rows of blocks in one of the
// formats of [Format], read where they lie. [Acts] are the activations of a
// batch quantised to int8, the other side of [Set.MulQ]; [Set.MulF] takes
// float32 activations instead. [Scratch] is the working memory of one worker,
// [Queries] its attention to one block of keys after the other.
//
// Same bits: each output element has one order of accumulation, whatever the
// number of tokens, the rows of the call and the place of the element in a
// slice. [Set.Quantize], [Set.MulQ], [Set.Dequantize], the float16 conversions,
// the gates and other activations, [Set.LayerNorm], [Set.Add], [Set.Argmax], the weights of the
// softmax and the rotations give the same bits in every set; [Set.MulF], the
// attention's products and [Set.RMSNorm] fuse multiply and add in assembly and
// don't in portable Go, so they agree between sets only within rounding.
//
// The assembly is written by the generators in _asm, a module of its own: edit
// them, then run go generate.
//
// # Caveats
//
// Lengths are checked and a mismatch panics, as an index out of range would.
// Weights may end at the last byte of a mapping: no kernel reads past them.
// An assembly call can't be preempted, so each is kept well under 100
// microseconds. Nothing here starts goroutines or looks at the environment.
package kernel

//go:generate go -C _asm run .

// Package tensor holds the data types, block formats and views of model
// weights, and the operations that models are written in.
//
// # Basics
//
// A [DType] is an element or block format as GGUF numbers them. A [Tensor] is a
// dtype, a shape and the bytes where they lie, usually inside a memory mapped
// file: nothing is copied or repacked. Operations take plain float32 slices for
// activations and write into memory that the caller owns.
//
// # Caveats
//
// A view is only valid while the mapping behind it is held. Operations panic on
// shapes that don't match (a fault of the program, not of its input): models
// check the shapes of a file once, when they load it.
package tensor

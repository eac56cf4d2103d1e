// Package ffi is the transformers backend in this process: libtransformers, called
// through purego. Nothing here runs before the first [Start].
//
// # Caveats
//
// Slices over memory of torch's are valid until their tensor is released, which keeps
// that memory alive, also when its model is closed. Memory of Go's is lent for the
// length of a call and pinned meanwhile. Weights that torch uses where they are mapped
// stay mapped until torch has given up the last of them.
//
// Code in C can fault, and that ends the process: package isolated keeps it in a child.
package ffi

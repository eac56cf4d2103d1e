// Package models has the architectures that dunlin runs, one file each, and
// their registry.
//
// # Basics
//
// [New] reads the architecture's name from a parsed file, binds the weights
// where they lie in the mapping and prices the working memory. A [Model] then
// computes batches with Forward. An architecture is one file: its
// configuration, its weights as a struct whose fields are tagged with their
// names in GGUF and in Hugging Face checkpoints, and one straight-line forward
// pass; a line in init registers it.
//
// # Caveats
//
// A model keeps views of the mapping it was made from: the mapping must be held
// until the last Forward. What a file has and an architecture doesn't use is
// refused by name, because a model that ignores part of its weights answers
// wrongly without a word.
package models

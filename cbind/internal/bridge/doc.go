// Package bridge makes a [runtime.Generator] of a model of Hugging Face
// Transformers, wherever that runs: requests, sampling, stop strings, streams and
// errors are dunlin's, the forward pass and the tokenizer are Transformers'.
//
// # Basics
//
// A [Model] has one goroutine, its loop. In each turn one step extends all
// sequences that decode by a token, and one computes a chunk of prompts. Keys and
// values stay with torch; logits are a view of its memory, from which the sampler
// takes the next tokens before they are released.
//
// # Caveats
//
// A padded batch rounds otherwise than a sequence alone: where two tokens are as
// good as equal, an answer may depend on what runs beside it.
package bridge

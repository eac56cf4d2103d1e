// Package tokenizer turns text into the token ids a model was trained on, and
// token ids back into text.
//
// # Basics
//
// [New] reads a vocabulary from the metadata of a model file, seen through the
// small interface [Source]; [FromVocab] takes one that is already in hand. A
// [Tokenizer] is immutable and safe for concurrent use. [Tokenizer.Encode]
// appends ids to a slice, [Tokenizer.Decode] appends bytes, and a
// [StreamDecoder] is fed one id at a time and gives text that never ends inside
// a character.
//
// A vocabulary names its algorithm (tokenizer.ggml.model) and, for byte-level
// BPE, the rule that cuts text into pieces before merging
// (tokenizer.ggml.pre). Both are looked up in a table: an algorithm is one file
// and one line of models, a rule is one line of pretokenizers.json, with the
// regular expressions of the models' own tokenizers. The reference for ids is
// Hugging Face's tokenizers.
//
// # Caveats
//
// A name that the tables don't hold is refused with [ErrUnsupported], and so is
// a byte-level vocabulary that doesn't say how to cut (no name, or "default"):
// llama.cpp warns and uses a rule of its own there, which gives many models
// other ids than they were trained on.
//
// Some vocabularies have no token for some bytes. Those bytes vanish from the
// ids, as they do in Hugging Face's tokenizers; [Tokenizer.Lossless] tells.
// With a lossless vocabulary Decode(Encode(x)) is x for any bytes, valid UTF-8
// or not: an invalid byte counts as a symbol.
//
// Letters, numbers and white space are those of Unicode 16.0, as in Hugging
// Face's tokenizers 0.23. Characters that a later version assigns are symbols
// (there, rules that take digits apart know thirteen numbers of 17.0 too).
//
// GGUF doesn't carry the flags of Hugging Face's added tokens (lstrip, rstrip,
// single_word, normalized); special tokens are matched as plain text, the
// longest at the leftmost place.
package tokenizer

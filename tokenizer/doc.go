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
// A vocabulary names its algorithm (tokenizer.ggml.model):
//
//   - "gpt2" is byte-level BPE. The vocabulary also names the rule that cuts text
//     into pieces before merging (tokenizer.ggml.pre).
//   - "llama" is SentencePiece's BPE, with a score for each token.
//   - "t5" is SentencePiece's unigram model.
//   - "bert" is WordPiece.
//
// Algorithms and rules are looked up in tables: an algorithm is one file and one
// line of models, a rule is one line of pretokenizers.json, with the regular expressions
// of the models' own tokenizers. The reference for ids is Hugging Face's tokenizers; where they normalise text for
// a unigram model, it is SentencePiece.
//
// SentencePiece and WordPiece put a space before a text, where the vocabulary
// wants it, and also behind each special token, as llama.cpp does. Decoding
// takes it away again, at the beginning only: see [DecodeOptions.Continue] and
// [Tokenizer.StreamAfter].
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
// The other algorithms are never lossless: SentencePiece takes a text's own "▁"
// for a space, and may normalise; WordPiece drops case, accents and spaces, and
// gives words back with a space between them. A byte that isn't UTF-8 is the
// byte's token in SentencePiece's BPE, U+FFFD in a unigram model, and nothing in
// WordPiece.
//
// Letters, numbers and white space are those of Unicode 16.0, as in Hugging
// Face's tokenizers 0.23. Characters that a later version assigns are symbols
// (there, rules that take digits apart know thirteen numbers of 17.0 too).
// WordPiece has the older and newer tables that their BertNormalizer mixes.
//
// GGUF doesn't carry the flags of Hugging Face's added tokens (lstrip, rstrip,
// single_word, normalized); special tokens are matched as plain text, the
// longest at the leftmost place.
package tokenizer

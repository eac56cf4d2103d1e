// Package loadsim replays a trace of requests against something that generates
// text and says how it kept up, for `dunlin bench --serve-sim`.
//
// # Basics
//
// [Read] reads a [Trace]: when each request arrives, how long its prompt and its
// answer are, and which blocks of the prompt it shares with others. [Run] sends the
// requests to a [Target], [Native] inside the process or [Client] over HTTP, and
// gives [Figures], which mean the same for both. [Chat] and [Retrieval] are the
// synthetic traces of docs/traces.
//
// # Caveats
//
// Traces have lengths, not texts: prompts are made of words that most
// vocabularies hold as one token each, so that their length is right within a few
// percent and the same text goes to every target. What a model answered is not part
// of a later prompt; a trace says by equal blocks what a conversation repeats.
package loadsim

//go:generate go run ./gentraces ../../docs/traces

// Command dunlin runs language models from GGUF files: it answers prompts,
// serves OpenAI's HTTP API, measures and inspects.
//
// # Basics
//
//	dunlin pull smollm2
//	dunlin run smollm2 "What is a dunlin?"
//	dunlin serve --addr 127.0.0.1:8080 smollm2
//
// A model is named by the path of its file, by its name in the catalogue or, for one that
// Hugging Face Transformers computes, by transformers: and its directory. Only
// pull fetches anything. `dunlin COMMAND --help` explains each command.
//
// # Caveats
//
// What a command answers goes to standard output, alone, and with --json it is
// one JSON value; figures, progress and errors go to standard error. An error is
// one line and exit code 1; the exit code is 130 when the command was interrupted.
package main

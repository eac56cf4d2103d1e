// Package cbind runs models of Hugging Face Transformers in this process, without
// cgo and without serialising a tensor: token ids are read where Go has them, logits are
// a view of torch's memory. Architectures that dunlin has no engine for are served like the
// others, and native ones can be held to the reference.
//
// Importing the package registers the scheme "transformers":
//
//	import _ "github.com/dunlin-go/dunlin/cbind"
//
//	g, err := runtime.Open(ctx, "transformers:DIR") // a Hugging Face directory, or a GGUF file
//
// `make bridge` makes what it needs: a virtual environment with torch for the
// CPU and the library over it. Tensors of CUDA devices are out of scope.
//
// # Basics
//
// [Open] gives a [Model], which is a [runtime.Generator] with a tokenizer, a chat
// template and scores. [Model.Infer] gives the logits of a whole text, the same bits as
// Transformers gives; [Model.AsyncInfer] does so without waiting.
//
// # Caveats
//
// One thread owns the interpreter, so calls of all models take turns. A fault in
// torch's code ends the process: with [Isolated] it ends a child instead, and the same is
// had without linking any FFI from package isolated. A slice from
// [Output.Values] must not be used after [Output.Release]. The interpreter is
// started once and can't be started again after [Shutdown].
package cbind

// Package runtime is dunlin's public API: it loads a model file by memory map
// and generates text inside the calling process.
//
// # Basics
//
// A [Generator] turns a [Request] into a [Stream] of [Event] values. [Load]
// gives the native one, a [*Model]; [Open] gives whatever a registered scheme
// names. [Generate] collects a whole answer and [All] ranges over the events:
// both are functions over Start, so they work with every generator. What else a
// generator can do (tokenize, apply a chat template, score) is found with [As].
//
//	m, err := runtime.Load(ctx, "SmolLM2-135M-Instruct.Q4_1.gguf")
//	if err != nil { ... }
//	defer m.Close()
//	res, err := runtime.Generate(ctx, m, runtime.Request{
//		Messages:  []runtime.Message{{Role: "user", Content: "Hello!"}},
//		MaxTokens: 64,
//	})
//
// A model serves any number of goroutines at once; their steps are batched. Its
// [Model.Stats] are what to watch of it, and an [Observer] follows each request.
//
// # Caveats
//
// The package has the standard library's name: import that one as goruntime
// where both are needed. Every error that this package returns is, or wraps, an
// [*Error] whose [Code] says what kind it is. A file that is changed in place
// while it is mapped ends the requests that are running with
// [CodeModelChanged]; it never ends the process.
package runtime

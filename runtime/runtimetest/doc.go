// Package runtimetest tests programs that generate text, without a model, and
// holds generators to one behaviour.
//
// # Basics
//
// [New] gives a [*Fake]: a deterministic generator in memory that opens no file
// and computes next to nothing. It stands wherever a [runtime.Generator] does:
//
//	gen := runtimetest.New(runtimetest.WithReply(func(prompt string) string {
//		return "The answer is 42."
//	}))
//	defer gen.Close()
//
// A [Gate] makes it take its steps one by one, so that a test of cancellation or
// streaming needs no sleeps. [Conformance] is the suite that every generator
// passes: the native model, the fake, a router, a remote endpoint.
//
// # Caveats
//
// A token of the fake is a byte, so its usage figures count bytes. Its answers
// are made of words, not of sense, and may change between releases: a test that
// compares text scripts it with [WithReply].
package runtimetest

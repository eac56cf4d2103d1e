// Package jinja renders the chat templates that model files carry: the part of
// Jinja2 that Hugging Face templates use, with the settings transformers
// renders them with (an immutable sandbox, trim_blocks, lstrip_blocks, loop
// controls, and transformers' own tojson, raise_exception, strftime_now and
// generation block).
//
// # Basics
//
// [Parse] turns a template's text into a [Template], which is immutable and
// safe for concurrent use; [Template.Render] renders it with a map of values.
// Values come from [FromJSON], which keeps the order of keys and tells ints
// from floats, or are built from [Bool], [Int], [Float], [String], [NewList]
// and [NewDict].
//
// The template comes from an untrusted file and the values from an untrusted
// request, so both run on [Limits]: bytes of source, nesting of the syntax,
// depth of evaluation, steps, bytes of values, bytes of output. Every recursion
// in the package counts its depth, every loop its steps, and every value its
// size before it is made; steps also poll the context. What ends a rendering is
// always an [*Error] whose Kind is one of the package's sentinels or the
// context's error.
//
// What is not implemented is refused by name with [ErrUnsupported], while
// parsing where the text alone tells (tags; filters and tests that stand in no
// branch), and otherwise when it is reached (methods, attributes, and as in Jinja
// filters and tests in a branch). Nothing is skipped in silence.
//
// Filters, tests, methods and global functions are tables: adding one is adding
// a line to filters.go, tests.go, methods.go or globals.go and a function.
//
// # Caveats
//
// Integers have 64 bits; a result outside them is [ErrValue] where Python would
// go on. A generator (what map, select and the like return) can't be printed,
// as its text in Python is an address. The strings that safe and escape return
// escape what is added to them with +, as in Python; other operations than
// adding, slicing, stripping and changing case make them ordinary strings.
// Templates can't
// include, import or extend others, and loops can't be recursive.
package jinja

// Package child puts the transformers backend into a process of its own, so that a
// crash of torch isn't one of the host.
//
// # Basics
//
// Each model has a child, the program dunlin-bridge, a socket to it and a piece of
// shared memory (memfd). Messages are lines of JSON, one call at a time; token
// ids and logits lie in the shared memory, where the parent says. The parent's half is a
// [device.Device], the child's half calls one.
//
// A child that dies fails the call that runs with a [device.CrashError]. The next
// call starts another, after a pause that grows if it keeps dying. A child ends
// when its socket does, whatever it is at.
package child

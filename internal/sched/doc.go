// Package sched decides which sequences take part in a step: who waits, who
// runs, who computes how many tokens, and who gives way when pages run out.
//
// # Basics
//
// A [Scheduler] is a state machine without a clock, a goroutine or a lock: the
// same calls give the same plans. Its owner adds sequences, and in each round
// drops those that have ended, admits, plans, computes the step and advances
// the sequences in it.
//
// # Caveats
//
// A scheduler belongs to one goroutine, together with its cache.
package sched

// Package exec runs the operations of a model step on the CPUs of a process
// that belongs to somebody else.
//
// # Basics
//
// There is one [Executor] for the whole process, [Default], however many models
// are loaded. An engine takes its turn on it with [Executor.Step]; within the
// step each operation is a [Task] that [Step.Do] spreads over the threads and
// waits for:
//
//	err := exec.Default().Step(ctx, threads, func(s *exec.Step) error {
//		s.Do(&quantise, tokens, 1)
//		s.Do(&matmul, rows, 16)
//		return nil
//	})
//
// The goroutine that calls Step is thread 0 and does its part of the work. The
// other threads are goroutines that start with the first step that wants them,
// wait for the next operation by spinning for some microseconds, then sleep, and
// end after five idle seconds or with the last [Executor.Release].
//
// The step is also the boundary at which panics end: whatever panics in f or in a
// task, on any thread, comes back as the error of Step. A read of a mapping
// whose file was truncated is a [FaultError], every other panic a [PanicError].
//
// # Caveats
//
// Threads are never more than GOMAXPROCS at the moment the step begins. Since Go
// 1.25 the runtime derives GOMAXPROCS from the CPU affinity and from the CPU quota
// of the process's cgroup, version 1 or 2, rounded up and at least 2, and keeps
// it up to date; a program that sets GOMAXPROCS itself has decided otherwise,
// and is obeyed.
//
// Steps of one executor run one after another. A step that waits, inside f, for
// another goroutine's step waits forever or until its context ends. A Step called
// directly inside a step or a task panics instead, and so does a Do inside a task.
//
// A task can't be interrupted between the looks that Do takes for it, one before
// each chunk. A chunk has at least grain items: choose the grain so that it is some
// microseconds of work.
//
// A worker inherits the profiler labels of the goroutine whose step started it.
package exec

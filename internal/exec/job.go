package exec

import "sync/atomic"

// Task is an operation on the items [0, n), such as the rows of a matrix.
//
// Do computes the items [lo, hi) and nothing else; which thread is asked for which
// items, in which order and in how many calls is not defined. lo is a multiple of
// the grain given to [Step.Do] and so is hi, unless it is n. worker, below
// [Step.Threads], is a different number for every concurrent call: the index for
// scratch memory.
//
// Do keeps each single call of assembly below 100 microseconds; the runtime can't
// stop a goroutine inside of one, and a garbage collection waits for it. A task is
// a pointer to a struct that outlives the step, so that Do allocates nothing.
type Task interface {
	Do(worker, lo, hi int)
}

// chunksPerShare is how finely a share is cut where the grain allows. More chunks
// give a finer takeover and an earlier stop; fewer give longer walks over memory,
// which the kernels' prefetch wants, and fewer claims of about five nanoseconds.
const chunksPerShare = 16

const (
	indexBits = 16 // of a cursor; the rest is the job's sequence number
	indexMask = 1<<indexBits - 1
)

// job is one Do. The turn holder writes it while no worker is in a job; see
// [Executor] for who may read it when.
type job struct {
	task             Task
	n, grain, grains int
	parts            int // shares, and the threads that have one
	seq              uint64
	step             uint64 // id of the step
}

// share is the part of a job that thread i begins with, in grains: chunks of size
// grains from lo to hi, the last one perhaps smaller.
func (j *job) share(i int) (lo, hi, size int) {
	each, more := j.grains/j.parts, j.grains%j.parts
	lo = each*i + min(i, more)
	hi = each*(i+1) + min(i+1, more)
	return lo, hi, max(1, (hi-lo+chunksPerShare-1)/chunksPerShare)
}

// claim takes the next chunk of a share that has this many, or returns -1. A
// cursor holds the sequence number of the job it was last moved in, so one that
// was left behind by an earlier job counts as zero and nobody has to reset it.
// A share that is used up is only read, never written.
func claim(cursor *atomic.Uint64, seq uint64, chunks int) int {
	for {
		old := cursor.Load()
		i := 0
		if old>>indexBits == seq {
			i = int(old & indexMask)
		}
		if i >= chunks {
			return -1
		}
		if cursor.CompareAndSwap(old, seq<<indexBits|uint64(i+1)) {
			return i
		}
	}
}

// walk does thread me's share of the job, then what is left of the others', in the
// order of their numbers. done, which only the caller's thread watches, stops the
// step.
func (e *Executor) walk(me int, done <-chan struct{}) {
	j := &e.job
	for k := range j.parts {
		i := me + k
		if i >= j.parts {
			i -= j.parts
		}
		lo, hi, size := j.share(i)
		chunks := (hi - lo + size - 1) / size
		for cursor := &e.slots[i].cursor; ; {
			select {
			case <-done:
				e.stop(j.step)
			default:
			}
			if e.stopped.Load() >= j.step {
				return
			}
			c := claim(cursor, j.seq, chunks)
			if c < 0 {
				break
			}
			from := lo + c*size
			to := min(from+size, hi)
			j.task.Do(me, from*j.grain, min(to*j.grain, j.n))
		}
	}
}

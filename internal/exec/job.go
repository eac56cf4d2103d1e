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

// Idler is a Task that has use for a worker whose part of the job is done, such
// as fetching what it will read next. Idle is called again and again while the
// worker would spin, until it returns false or the next job begins. It may run
// after Do has returned, so it uses nothing that the step's goroutine writes.
type Idler interface {
	Task
	Idle(worker int) (more bool)
}

// A share is walked in chunks of a quarter of it, and towards its end of half of
// what is left, down to one grain. So the walks over memory are few and long, as
// the kernels' prefetch wants (decode has shares of some microseconds), and when
// one thread takes over the rest of another's share both end at about the same time.
const (
	chunksPerShare = 4
	chunksOfRest   = 2
)

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

// split cuts the items into grains and those into shares.
func (j *job) split(threads int) {
	for {
		j.grains = j.n / j.grain
		if j.grains*j.grain < j.n {
			j.grains++
		}
		j.parts = max(1, min(threads, j.grains))
		if j.grains/j.parts < indexMask {
			return
		}
		j.grain *= 2 // or a cursor couldn't count them
	}
}

// share is the part of a job that thread i begins with, in grains: from lo to hi.
func (j *job) share(i int) (lo, hi int) {
	each, more := j.grains/j.parts, j.grains%j.parts
	return each*i + min(i, more), each*(i+1) + min(i+1, more)
}

// chunk is the size of the one that begins after done of a share's grains.
func chunk(done, share int) int {
	return max(1, min(share/chunksPerShare, (share-done)/chunksOfRest))
}

// claim takes the next chunk of a share of so many grains: those from lo to hi,
// none if lo is not below hi. A cursor holds the number of grains taken and the
// sequence number of the job it was last moved in, so one that was left behind by
// an earlier job counts as zero and nobody has to reset it. A share that is used
// up is only read, never written.
func claim(cursor *atomic.Uint64, seq uint64, share int) (lo, hi int) {
	for {
		old := cursor.Load()
		lo = 0
		if old>>indexBits == seq {
			lo = int(old & indexMask)
		}
		if lo >= share {
			return lo, lo
		}
		hi = lo + chunk(lo, share)
		if cursor.CompareAndSwap(old, seq<<indexBits|uint64(hi)) {
			return lo, hi
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
		first, end := j.share(i)
		for cursor := &e.slots[i].cursor; ; {
			select {
			case <-done:
				e.stop(j.step)
			default:
			}
			if e.stopped.Load() >= j.step {
				return
			}
			lo, hi := claim(cursor, j.seq, end-first)
			if lo >= hi {
				break
			}
			j.task.Do(me, (first+lo)*j.grain, min((first+hi)*j.grain, j.n))
		}
	}
}

package probe

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/dunlin-go/dunlin/models/pool"
)

// Peak is the rate of one instruction on all threads together.
type Peak struct {
	Instruction string  // "" where there is no probe for this machine
	PerSecond   float64 // operations: a multiplication and an addition are two
	// Design is what the CPU's design allows at the measured clock, 0 where
	// that isn't known.
	Design float64
}

// Share is how much of the design's rate was measured, 0 where it isn't known.
func (p Peak) Share() float64 {
	if p.Design == 0 {
		return 0
	}
	return p.PerSecond / p.Design
}

// kind is a multiplier that can be probed.
type kind struct {
	name string
	ops  int         // operations of a call's iteration
	run  func(n int) // n iterations
	// perCycle is the operations of a core in a cycle, by design.
	perCycle map[design]float64
}

// design names a line of CPU cores.
type design string

// Clock is the rate of a chain of additions in Hz, one a cycle; 0 where there
// is no probe for this machine.
func Clock() float64 {
	if chain == nil {
		return 0
	}
	return best(1, chainOps, chain)
}

// Int8 is the peak of products of int8 that are summed up.
func Int8(threads int) Peak { return peak(int8Kind(), threads) }

// Float32 is the peak of fused multiplications and additions.
func Float32(threads int) Peak { return peak(floatKind(), threads) }

func peak(k *kind, threads int) Peak {
	if k == nil {
		return Peak{}
	}
	p := Peak{Instruction: k.name, PerSecond: best(threads, k.ops, k.run)}
	if per, ok := k.perCycle[thisDesign()]; ok {
		p.Design = per * Clock() * float64(threads)
	}
	return p
}

const (
	rounds = 5
	// A call can't be preempted, so it is kept to some tens of microseconds.
	iterations = 4096
	calls      = 64
)

// best is the largest of some measured rates: whatever else runs on the
// machine only makes them smaller.
func best(threads, ops int, run func(n int)) float64 {
	most := 0.0
	for range rounds {
		took := together(threads, func(int) {
			for range calls {
				run(iterations)
			}
		})
		most = max(most, float64(threads)*calls*iterations*float64(ops)/took.Seconds())
	}
	return most
}

// Read is how many bytes a second so many threads read of b, each its own part,
// front to back; 0 where there is no probe for this machine, or b is a mapping
// whose file has become shorter.
func Read(threads int, b []byte) float64 {
	if read == nil || len(b) < threads*readUnit {
		return 0
	}
	const call = 128 << 10
	part := len(b) / threads / readUnit * readUnit
	var faults atomic.Int64
	took := together(threads, func(i int) {
		mine := b[i*part : (i+1)*part]
		if pool.Guard(func() error {
			for len(mine) > 0 {
				n := min(call, len(mine))
				read(&mine[0], n)
				mine = mine[n:]
			}
			return nil
		}) != nil {
			faults.Add(1)
		}
	})
	if faults.Load() > 0 {
		return 0
	}
	return float64(part*threads) / took.Seconds()
}

// readUnit is what read takes at once.
const readUnit = 256

// together runs f on so many goroutines and returns how long all took.
func together(threads int, f func(i int)) time.Duration {
	var wg sync.WaitGroup
	begin := time.Now()
	for i := 1; i < threads; i++ {
		wg.Go(func() { f(i) })
	}
	f(0)
	wg.Wait()
	return time.Since(begin)
}

package runtime

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"time"
)

// Stats are a generator's figures at one moment. What counts something "so
// far" only grows. Zero values also mean that a generator doesn't know.
type Stats struct {
	Running int   // sequences that take part in steps
	Waiting int   // requests in the queue
	Steps   int64 // forward passes so far

	PromptTokens     int64 // prompt tokens computed so far, those of preempted sequences once more
	CompletionTokens int64 // tokens generated so far
	LookedUpTokens   int64 // prompt tokens that were looked up in the cache of prefixes so far
	CachedTokens     int64 // prompt tokens that were found there, and not computed

	// PromptRate and CompletionRate are tokens per second, the mean over the
	// last 5 seconds.
	PromptRate, CompletionRate float64

	Preemptions int64 // how often a sequence gave up its pages for another and was computed anew

	// Queued counts the requests that were let into the queue so far. Ended
	// counts, by [Outcome], those that have left since and those that were
	// refused: a moment after the caller sees the end, when the engine has let go.
	Queued int64
	Ended  [NumOutcomes]int64

	QueueTime         Histogram // from Start to the first step, once a request
	TimeToFirstToken  Histogram // from Start to the first token, once an answer
	TimeBetweenTokens Histogram // of an answer, but where it waited for its own reader

	KVPages, KVPagesUsed int   // pages of the KV cache, and those that sequences hold; where layers have windows, 32 tokens take several
	KVPagesCached        int   // pages that are kept only for prompts that begin like earlier ones
	KVBytes              int64 // bytes of the pages that sequences hold

	// BudgetLimit and BudgetUsed are the bytes that may be reserved and that are:
	// by the model where it has [WithMemoryLimit], else by all of the process.
	BudgetLimit, BudgetUsed int64
	Budget                  BudgetStats // what this model has reserved, by purpose
	ProcessBudget           BudgetStats // what all models of the process have reserved

	WeightsBytes    int64     // bytes of the model's files
	WeightsMapped   int64     // of them those that are mapped: none while the model is unloaded, see [WithKeepAlive]
	WeightsResident int64     // at most so many of them are in the process's memory; [ReadWeights] tells it exactly
	WeightsUsed     time.Time // when a step used them last, or when the file was opened; zero for LoadBytes

	ObserversDropped int64 // observers that panicked or were stuck; see [WithObserver]
}

// StatsReader is the capability to report figures.
type StatsReader interface{ Stats() Stats }

// Outcome is how a request ended: an index of [Stats.Ended].
type Outcome uint8

// The outcomes. The first three are those of a good end.
const (
	OutcomeStop         Outcome = iota // the model ended its answer, or a stop string did
	OutcomeLength                      // MaxTokens or the context's end was reached
	OutcomeScored                      // a [Scorer] was done
	OutcomeCanceled                    // the caller's context was cancelled
	OutcomeDeadline                    // the caller's deadline passed
	OutcomeClosed                      // the reader closed the stream, or broke out of its loop
	OutcomeDropped                     // nobody referenced the stream any more
	OutcomeStalled                     // the stream wasn't read for [WithStallLimit] while others waited
	OutcomeInvalid                     // refused: the request can't be used, or is too long
	OutcomeOverloaded                  // refused: the queue was full
	OutcomeExhausted                   // the memory budget or the KV cache had no room for it
	OutcomeModelClosed                 // the model was closed
	OutcomeModelChanged                // the model's file was changed or cut under its mapping
	OutcomeNumerics                    // the model computed NaN or infinity
	OutcomeInternal                    // a fault of dunlin's own

	NumOutcomes = iota // how many there are
)

var outcomeNames = [NumOutcomes]string{
	"stop", "length", "scored", "canceled", "deadline", "closed", "dropped", "stalled", "invalid", "overloaded", "exhausted",
	"model_closed", "model_changed", "numerics", "internal",
}

// String is the outcome as a label for metrics.
func (o Outcome) String() string {
	if int(o) < NumOutcomes {
		return outcomeNames[o]
	}
	return fmt.Sprintf("outcome_%d", uint8(o))
}

// OutcomeOf is the outcome that an error of a request stands for. A context may end with a
// cause that has any code, so it is asked for first.
func OutcomeOf(err error) Outcome {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return OutcomeDeadline
	case errors.Is(err, context.Canceled):
		return OutcomeCanceled
	case errors.Is(err, errStreamClosed):
		return OutcomeClosed
	case errors.Is(err, errStreamDropped):
		return OutcomeDropped
	case errors.Is(err, errStalled):
		return OutcomeStalled
	}
	switch CodeOf(err) {
	case CodeInvalidRequest, CodeContextLength, CodeUnsupported:
		return OutcomeInvalid
	case CodeOverloaded:
		return OutcomeOverloaded
	case CodeResourceExhausted:
		return OutcomeExhausted
	case CodeClosed:
		return OutcomeModelClosed
	case CodeModelChanged:
		return OutcomeModelChanged
	case CodeNumerics:
		return OutcomeNumerics
	}
	return OutcomeInternal
}

// HistogramBuckets is the number of buckets of a [Histogram].
const HistogramBuckets = 42

// histogramUnit is the upper bound of a histogram's first bucket.
const histogramUnit = 100 * time.Microsecond

// Histogram counts durations in fixed buckets: up to 100 µs times 1, 1.5, 2,
// 3, 4, 6, 8, 12 and so on to 2^20, which is 105 s, and one for all above.
type Histogram struct {
	// Buckets has in place i those of at most HistogramBound(i) and above the
	// bound before it.
	Buckets [HistogramBuckets]int64
	Sum     time.Duration
}

// HistogramBound is the upper bound of bucket i, the largest duration there is
// for the last one and beyond, 0 before the first one.
func HistogramBound(i int) time.Duration {
	switch {
	case i >= HistogramBuckets-1:
		return math.MaxInt64
	case i < 0:
		return 0
	}
	if i%2 == 1 {
		return histogramUnit << (i / 2) * 3 / 2
	}
	return histogramUnit << (i / 2)
}

// bucketOf is the bucket that a duration belongs to.
func bucketOf(d time.Duration) int {
	if d <= histogramUnit {
		return 0
	}
	octave := bits.Len64(uint64((d - 1) / histogramUnit)) // d is in (unit<<(octave-1), unit<<octave]
	i := 2*octave - 1
	if d > HistogramBound(i) {
		i++
	}
	return min(i, HistogramBuckets-1)
}

// Count is how many durations there are.
func (h *Histogram) Count() int64 {
	n := int64(0)
	for _, b := range h.Buckets {
		n += b
	}
	return n
}

// Quantile estimates the duration that a share q of all don't exceed, such as
// 0.5 or 0.99, as if those of a bucket lay evenly in it. It is 0 where there
// are none, and the highest finite bound for those above all.
func (h *Histogram) Quantile(q float64) time.Duration {
	left := q * float64(h.Count())
	below := time.Duration(0)
	for i, n := range h.Buckets[:HistogramBuckets-1] {
		bound := HistogramBound(i)
		if n > 0 && float64(n) >= left {
			return below + time.Duration(float64(bound-below)*max(left, 0)/float64(n))
		}
		left -= float64(n)
		below = bound
	}
	if h.Count() == 0 {
		return 0
	}
	return below
}

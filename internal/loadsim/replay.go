package loadsim

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// Target is what requests are sent to. It is safe for concurrent use.
type Target interface {
	// Do runs one request to its end and calls piece whenever text of the answer
	// arrives. It returns soon after ctx has ended. An error that isn't a
	// [*RequestError] is counted as "internal error".
	Do(ctx context.Context, req Request, piece func()) (Usage, error)
}

// Request is what a [Target] is asked.
type Request struct {
	Text      string // the user's message
	MaxTokens int    // of the answer
	IgnoreEOS bool   // go on past the model's end-of-generation tokens
}

// Usage is what a target says that a request took.
type Usage struct {
	Prompt, Output int  // tokens
	Cached         int  // prompt tokens that it did not have to compute
	Told           bool // Prompt and Output are known
	CachedTold     bool // Cached is known
}

// RequestError is why a request failed.
type RequestError struct {
	Cause string // a few words, the same for equal failures
	Err   error
}

// Error has the cause and the details.
func (f *RequestError) Error() string { return f.Cause + ": " + f.Err.Error() }

// Unwrap gives the details.
func (f *RequestError) Unwrap() error { return f.Err }

// Options say how [Run] sends the requests of a trace.
type Options struct {
	// Speed divides the time between arrivals; 0 means 1, the trace's own.
	Speed float64
	// Rate, where it isn't 0, sets the speed such that so many requests arrive each
	// second in the mean, as evenly or unevenly as in the trace.
	Rate float64
	// Concurrency, where it isn't 0, ignores the arrivals: so many clients each send
	// the trace's next request when they have the answer to their last.
	Concurrency int
	// Seed chooses the words of the prompts.
	Seed uint64
	// Timeout is how long a request may take; 0 means 10 minutes.
	Timeout time.Duration
	// IgnoreEOS makes each answer as long as the trace says.
	IgnoreEOS bool
	// Objectives are what a good answer keeps to.
	Objectives Objectives
}

const defaultTimeout = 10 * time.Minute

// Causes of failures that [Run] itself finds.
const (
	causeInterrupted = "interrupted"
	causeTimeout     = "timeout"
	causeMemory      = "no memory for the request"
	causeInternal    = "internal error"
)

// ArrivalRate is the mean number of requests of t that arrive each second under
// these options, 0 where they arrive at once or when others are answered. It refuses
// options that contradict each other.
func (o *Options) ArrivalRate(t *Trace) (float64, error) {
	speed, err := o.speed(t)
	if err != nil || o.Concurrency > 0 {
		return 0, err
	}
	return t.Rate() * speed, nil
}

// speed is by what arrivals are divided.
func (o *Options) speed(t *Trace) (float64, error) {
	switch {
	case o.Rate != 0 && o.Speed != 0:
		return 0, errors.New("--rate and --speed can't be used together")
	case o.Concurrency != 0 && (o.Rate != 0 || o.Speed != 0):
		return 0, errors.New("--concurrency has no arrivals: --rate and --speed can't be used with it")
	case !(o.Rate >= 0 && o.Rate <= maxRate) || !(o.Speed >= 0 && o.Speed <= maxRate):
		return 0, fmt.Errorf("--rate and --speed must lie in [0, %g]", float64(maxRate))
	case o.Concurrency < 0 || o.Concurrency > maxClients:
		return 0, fmt.Errorf("--concurrency must lie in [0, %d]", maxClients)
	case o.Speed != 0:
		return o.Speed, nil
	case o.Rate == 0:
		return 1, nil
	}
	own := t.Rate()
	if own == 0 {
		return 0, errors.New("all requests of the trace arrive at once, which no rate can stretch")
	}
	return o.Rate / own, nil
}

const (
	maxRate    = 1e9
	maxClients = 1 << 16
)

// outcome is what became of one request. Times count from when it was due.
type outcome struct {
	sent   bool
	late   time.Duration // until it was sent
	pieces int           // of text that came
	first  time.Duration // until the first piece
	last   time.Duration // until the last piece
	end    time.Duration
	gaps   []time.Duration // between pieces
	usage  Usage
	err    *RequestError
}

// replay is one run.
type replay struct {
	target  Target
	trace   *Trace
	opt     Options
	memory  *budget.Budget
	kept    *budget.Lease // until the figures are made
	begin   time.Time
	results []outcome

	inFlight, peak atomic.Int64
}

// Run replays the trace. First it sends one small request that isn't counted: where
// that fails, so does Run. When ctx ends, the requests that are under way are
// cancelled, no more are sent, and the figures are those of what was done. What is
// held for prompts and answers is reserved in memory.
func Run(ctx context.Context, target Target, t *Trace, opt Options, memory *budget.Budget) (*Figures, error) {
	speed, err := opt.speed(t)
	if err != nil {
		return nil, err
	}
	if opt.Timeout <= 0 {
		opt.Timeout = defaultTimeout
	}
	kept := memory.Lease()
	defer kept.Close()
	if err := kept.ReserveItems(budget.Request, uint64(len(t.Entries)), 256); err != nil {
		return nil, err
	}
	r := &replay{target: target, trace: t, opt: opt, memory: memory, kept: kept, results: make([]outcome, len(t.Entries))}
	if err := r.warmUp(ctx); err != nil {
		return nil, err
	}
	r.begin = time.Now()
	if opt.Concurrency > 0 {
		r.closedLoop(ctx)
	} else {
		r.openLoop(ctx, speed)
	}
	return figures(t, r.results, time.Since(r.begin), opt.Objectives, int(r.peak.Load())), nil
}

// warmUp has the target answer once.
func (r *replay) warmUp(ctx context.Context) error {
	const tokens = 8
	one := &Trace{BlockTokens: 1, Entries: []Entry{{Input: tokens, Output: tokens}}}
	ctx, cancel := context.WithTimeout(ctx, r.opt.Timeout)
	defer cancel()
	_, err := r.target.Do(ctx, Request{Text: one.text(0, ^r.opt.Seed), MaxTokens: tokens, IgnoreEOS: r.opt.IgnoreEOS}, func() {})
	return err
}

// openLoop sends each request when it is due, however the target keeps up.
func (r *replay) openLoop(ctx context.Context, speed float64) {
	var requests sync.WaitGroup
	defer requests.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	from := r.trace.Entries[0].Arrival
	for i := range r.trace.Entries {
		offset := min(float64(r.trace.Entries[i].Arrival-from)/speed, float64(maxArrival))
		due := r.begin.Add(time.Duration(offset))
		req, price, fail := r.request(i) // before it is due, so that it costs no time then
		timer.Reset(time.Until(due))
		select {
		case <-ctx.Done():
			r.memory.Release(budget.Request, price)
			return
		case <-timer.C:
		}
		if fail != nil {
			r.results[i] = outcome{sent: true, err: fail}
			continue
		}
		requests.Go(func() {
			defer r.memory.Release(budget.Request, price)
			r.results[i] = r.do(ctx, req, due)
		})
	}
}

// closedLoop sends the next request when one has its answer.
func (r *replay) closedLoop(ctx context.Context) {
	var clients sync.WaitGroup
	var next atomic.Int64
	for range min(r.opt.Concurrency, len(r.results)) {
		clients.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(r.results) {
					return
				}
				req, price, fail := r.request(i)
				if fail != nil {
					r.results[i] = outcome{sent: true, err: fail}
					continue
				}
				r.results[i] = r.do(ctx, req, time.Now())
				r.memory.Release(budget.Request, price)
			}
		})
	}
	clients.Wait()
}

// request makes a request and reserves what it holds while it runs, its text and
// twice that for the body of an HTTP request, and what is kept of its answer.
func (r *replay) request(i int) (req Request, price int64, fail *RequestError) {
	e := &r.trace.Entries[i]
	price = 4 * maxWordBytes * int64(e.Input)
	err := r.memory.Reserve(budget.Request, price)
	if err == nil {
		// A gap between two pieces, once more while the list grows, and for sorting.
		if err = r.kept.ReserveItems(budget.Request, uint64(maxPieces(e.Output)), 3*8); err != nil {
			r.memory.Release(budget.Request, price)
		}
	}
	if err != nil {
		return req, 0, &RequestError{Cause: causeMemory, Err: err}
	}
	return Request{Text: r.trace.text(i, r.opt.Seed), MaxTokens: e.Output, IgnoreEOS: r.opt.IgnoreEOS}, price, nil
}

// do sends a request that was due at that time and measures the answer.
func (r *replay) do(ctx context.Context, req Request, due time.Time) (o outcome) {
	for now, peak := r.inFlight.Add(1), r.peak.Load(); now > peak && !r.peak.CompareAndSwap(peak, now); {
		peak = r.peak.Load()
	}
	defer r.inFlight.Add(-1)
	within, cancel := context.WithTimeout(ctx, r.opt.Timeout)
	defer cancel()
	o.sent, o.late = true, time.Since(due)
	most := maxPieces(req.MaxTokens)
	usage, err := r.target.Do(within, req, func() {
		now := time.Since(due)
		if o.pieces++; o.pieces == 1 {
			o.first = now
		} else if o.pieces <= most {
			o.gaps = append(o.gaps, now-o.last)
		}
		o.last = now
	})
	o.end, o.usage = time.Since(due), usage
	var failure *RequestError
	switch {
	case err == nil:
	case ctx.Err() != nil:
		o.err = &RequestError{Cause: causeInterrupted, Err: err}
	case within.Err() != nil:
		o.err = &RequestError{Cause: causeTimeout, Err: err}
	case errors.As(err, &failure):
		o.err = failure
	default:
		o.err = &RequestError{Cause: causeInternal, Err: err}
	}
	return o
}

// maxPieces bounds what is kept of an answer of so many tokens: a few more pieces
// may come than tokens, such as for the bytes of one character.
func maxPieces(tokens int) int { return tokens + 64 }

package runtime

import (
	"sync/atomic"
	"time"
)

// meters are what an engine counts. The loop writes them, but for queued and
// refusals, and anybody reads them.
type meters struct {
	running, pages, kept, preempted, cached atomic.Int64 // published once a turn
	steps, prompt, lookedUp, completion     atomic.Int64
	queued, observersDropped                atomic.Int64
	ended                                   [NumOutcomes]atomic.Int64
	queueTime, firstToken, between          meter
}

// meter is a [Histogram] that is being written.
type meter struct {
	buckets [HistogramBuckets]atomic.Int64
	sum     atomic.Int64
}

func (m *meter) add(d time.Duration) {
	m.buckets[bucketOf(d)].Add(1)
	m.sum.Add(int64(d))
}

func (m *meter) histogram() Histogram {
	h := Histogram{Sum: time.Duration(m.sum.Load())}
	for i := range h.Buckets {
		h.Buckets[i] = m.buckets[i].Load()
	}
	return h
}

// count publishes the loop's figures.
func (e *engine) count() {
	e.counts.running.Store(int64(len(e.sched.Running())))
	e.counts.pages.Store(int64(e.cache.Used()))
	e.counts.kept.Store(int64(e.cache.Kept()))
	e.counts.preempted.Store(e.sched.Preemptions())
	e.counts.cached.Store(e.sched.Cached())
}

// countToken notes that a sequence has got its newest token.
func (e *engine) countToken(s *sequence) {
	e.counts.completion.Add(1)
	switch {
	case s.generated == 1:
		e.counts.firstToken.add(s.firstToken.Sub(s.started))
		e.tellFirstToken(s)
	case !s.heldUp:
		e.counts.between.add(s.gap)
	}
	s.heldUp = false
}

// refused counts a request that was not let in, and gives its error back.
func (e *engine) refused(err error) error {
	e.counts.ended[OutcomeOf(err)].Add(1)
	return err
}

func (e *engine) stats() Stats {
	c := &e.counts
	s := Stats{
		Running: int(c.running.Load()), Steps: c.steps.Load(), LookedUpTokens: c.lookedUp.Load(), CachedTokens: c.cached.Load(),
		Preemptions: c.preempted.Load(), Queued: c.queued.Load(), ObserversDropped: c.observersDropped.Load(),
		QueueTime: c.queueTime.histogram(), TimeToFirstToken: c.firstToken.histogram(), TimeBetweenTokens: c.between.histogram(),
		KVPages: e.cache.Pages(), KVPagesUsed: int(c.pages.Load()), KVPagesCached: int(c.kept.Load()),
	}
	s.KVBytes = int64(s.KVPagesUsed) * e.cache.PageBytes()
	for i := range s.Ended {
		s.Ended[i] = c.ended[i].Load()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s.Waiting = e.waiting + len(e.arrivals)
	now := e.totals(time.Now())
	s.PromptTokens, s.CompletionTokens = now.prompt, now.completion
	s.PromptRate, s.CompletionRate = e.rates.last(now)
	return s
}

// totals is the tokens until now. The caller holds mu, so that samples never
// have more than those after them.
func (e *engine) totals(now time.Time) rateSample {
	return rateSample{now, e.counts.prompt.Load(), e.counts.completion.Load()}
}

// Rates are means over rateWindow, from totals that are about rateGap apart.
const (
	rateWindow = 5 * time.Second
	rateGap    = rateWindow / 10
)

// rates remembers totals, so that nothing is counted twice: what came since a
// moment is the total now less the total then, which lies on the line between the
// two samples around it. The last sample moves on as long as it stays near the
// one before it. One is taken before the engine sleeps and one when it wakes, so
// the line is level while nothing happens.
type rates struct {
	ring [2*rateWindow/rateGap + 4]rateSample // two neighbouring gaps are rateGap at least
	n    int                                  // samples there were so far, the last one in place n-1 of the ring
}

type rateSample struct {
	at                 time.Time
	prompt, completion int64
}

func (r *rates) at(i int) *rateSample { return &r.ring[i%len(r.ring)] }

func (r *rates) add(s rateSample) {
	if r.n < 2 || s.at.Sub(r.at(r.n-2).at) >= rateGap {
		r.n++
	}
	*r.at(r.n - 1) = s
}

// last is how many tokens a second there were until now.
func (r *rates) last(now rateSample) (prompt, completion float64) {
	from := now.at.Add(-rateWindow)
	before, after, along := now, now, 0.0
	for i := r.n - 1; i >= max(0, r.n-len(r.ring)); i-- {
		before = *r.at(i)
		if d := after.at.Sub(before.at); !before.at.After(from) && d > 0 {
			along = float64(from.Sub(before.at)) / float64(d)
			break
		}
		after = before
	}
	rate := func(now, before, after int64) float64 {
		return (float64(now-before) - along*float64(after-before)) / rateWindow.Seconds()
	}
	return rate(now.prompt, before.prompt, after.prompt), rate(now.completion, before.completion, after.completion)
}

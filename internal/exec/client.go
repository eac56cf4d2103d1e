package exec

import (
	"context"
	"time"
)

// Stepper runs steps: an [Executor] or a [Client] of one.
type Stepper interface {
	Step(ctx context.Context, threads int, f func(*Step) error) error
}

// Client is one of several parties, such as models, that share an executor by
// their weights: while all of them want steps, each gets time for them in
// proportion to its own. Step, Idle and Close are for one goroutine at a time.
type Client struct {
	e *Executor

	// Under the turn's mu.
	weight  float64
	virtual float64   // seconds of steps by weight
	asking  int       // steps that wait or run
	present bool      // it asks, or will before long
	late    bool      // between steps, and not waited for
	slow    bool      // was, the last time that somebody looked
	timed   bool      // others were there when its last step ended
	left    time.Time // when that was
}

// NewClient returns a client with weight 1, and retains the executor.
func (e *Executor) NewClient() *Client {
	e.Retain()
	return &Client{e: e, weight: 1}
}

// Step is [Executor.Step], in the client's turn.
func (c *Client) Step(ctx context.Context, threads int, f func(*Step) error) error {
	return c.e.run(ctx, c, threads, f)
}

// Idle says that the client won't want a step for a while. Without it others wait for
// the client, about a millisecond, and find their share the smaller for it.
func (c *Client) Idle() { c.e.turn.idle(c) }

// SetWeight sets the client's weight, which is above zero, from its next step on.
func (c *Client) SetWeight(weight float64) {
	t := &c.e.turn
	t.mu.Lock()
	defer t.mu.Unlock()
	c.weight = weight
}

// Share is the client's part in the weights of all that aren't idle, itself
// among them: 1 if it is alone.
func (c *Client) Share() float64 {
	t := &c.e.turn
	t.mu.Lock()
	defer t.mu.Unlock()
	all := c.weight
	for _, other := range t.present {
		if other != c {
			all += other.weight
		}
	}
	return c.weight / all
}

// Close ends the client and releases the executor.
func (c *Client) Close() {
	c.Idle()
	c.e.Release()
}

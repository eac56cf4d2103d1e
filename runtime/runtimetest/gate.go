package runtimetest

import "sync"

// Gate holds a [Fake] back: each of its tokens needs one step. A gate may serve
// several generators and requests; they take steps in no particular order.
type Gate struct {
	mu      sync.Mutex
	steps   int
	open    bool
	changed chan struct{} // closed and replaced when there may be something to take
}

// NewGate makes a gate that is shut.
func NewGate() *Gate { return &Gate{changed: make(chan struct{})} }

// Step lets n more tokens pass.
func (g *Gate) Step(n int) { g.change(func() { g.steps += n }) }

// Open lets everything pass from now on.
func (g *Gate) Open() { g.change(func() { g.open = true }) }

func (g *Gate) change(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
	close(g.changed)
	g.changed = make(chan struct{})
}

// take takes a step if there is one, or returns what to wait on.
func (g *Gate) take() (bool, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open {
		return true, nil
	}
	if g.steps > 0 {
		g.steps--
		return true, nil
	}
	return false, g.changed
}

package guard

import "testing"

// Region is memory with an inaccessible page on either side, or plain memory
// where Protected is false.
type Region struct {
	mem    []byte // what End and Start slice
	margin int    // bytes of the inaccessible pages on each side
	all    []byte // margin, mem, margin
}

// New returns a region of at least n bytes that lasts until the test ends.
func New(tb testing.TB, n int) *Region {
	tb.Helper()
	all, margin := pages(tb, n)
	return &Region{all[margin : len(all)-margin], margin, all}
}

// End returns the last n bytes of the region.
func (r *Region) End(n int) []byte {
	at := len(r.mem) - n
	return r.mem[at:len(r.mem):len(r.mem)]
}

// Start returns the first n bytes of the region.
func (r *Region) Start(n int) []byte { return r.mem[:n:n] }

package guard

import (
	"runtime/debug"
	"testing"
)

func TestRegion(t *testing.T) {
	r := New(t, 100)
	end, start := r.End(100), r.Start(100)
	if len(end) != 100 || len(start) != 100 {
		t.Fatalf("lengths %d and %d, want 100", len(end), len(start))
	}
	for i := range end {
		end[i], start[i] = 1, 1
	}
	if !Protected {
		t.Skip("memory can't be protected on this system")
	}
	if !faults(r.all, len(r.all)-r.margin) {
		t.Error("the byte after End's slice can be read")
	}
	if !faults(r.all, r.margin-1) {
		t.Error("the byte before Start's slice can be read")
	}
}

// faults reports whether reading b[i] faults.
func faults(b []byte, i int) (fault bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { fault = recover() != nil }()
	sink = b[i]
	return false
}

var sink byte

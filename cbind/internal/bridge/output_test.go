package bridge

import (
	"errors"
	"math"
	goruntime "runtime"
	"testing"
	"time"

	"github.com/dunlin-go/dunlin/cbind/internal/device"
	"github.com/dunlin-go/dunlin/internal/budget"
)

// freed makes an output over Go's memory that tells when it is given back.
func freed() (out *Output, values []float32, free chan struct{}) {
	values, free = []float32{1, 2, 3}, make(chan struct{})
	t := &device.Tensor{Data: values, Free: func() { close(free) }}
	lease := budget.New(1 << 20).Lease()
	return newOutput(t, lease), values, free
}

// TestReleasePoisons: where it is looked for, a view that is used after its release is
// full of NaN.
func TestReleasePoisons(t *testing.T) {
	out, _, free := freed()
	v, err := out.Values()
	if err != nil {
		t.Fatal(err)
	}
	out.Release()
	<-free
	if isNaN := math.IsNaN(float64(v[1])); isNaN != poison {
		t.Errorf("after its release the view has %v, poisoned: %v", v, poison)
	}
	if _, err := out.Values(); !errors.Is(err, ErrReleased) {
		t.Errorf("after its release the output gave %v", err)
	}
}

// TestNobodyTookIt: an output that nobody looked at is released by the garbage collector;
// one whose values somebody has is not.
func TestNobodyTookIt(t *testing.T) {
	_, _, free := freed()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		goruntime.GC()
		select {
		case <-free:
		default:
			if time.Now().Before(deadline) {
				continue
			}
			t.Fatal("it was not released")
		}
		break
	}
	out, _, free := freed()
	v, err := out.Values()
	if err != nil {
		t.Fatal(err)
	}
	out = nil // the collector is to see that it is gone
	for range 5 {
		goruntime.GC()
		time.Sleep(time.Millisecond)
	}
	select {
	case <-free:
		t.Error("it was released while somebody had its values")
	default:
	}
	if v[0] != 1 {
		t.Errorf("the values are %v", v)
	}
}

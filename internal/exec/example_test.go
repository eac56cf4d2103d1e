package exec_test

import (
	"context"
	"fmt"

	"github.com/dunlin-go/dunlin/internal/exec"
)

// scale is an operation: a struct that is made once and used in every step.
type scale struct {
	by    float32
	items []float32
}

func (s *scale) Do(_, lo, hi int) {
	for i := range s.items[lo:hi] {
		s.items[lo+i] *= s.by
	}
}

func ExampleExecutor_Step() {
	e := exec.Default()
	e.Retain()
	defer e.Release() // the last one ends the worker goroutines

	double := &scale{by: 2, items: []float32{1, 2, 3, 4, 5}}
	err := e.Step(context.Background(), 2, func(s *exec.Step) error {
		s.Do(double, len(double.items), 2)
		s.Do(double, len(double.items), 2)
		return nil
	})
	fmt.Println(double.items, err)
	// Output: [4 8 12 16 20] <nil>
}

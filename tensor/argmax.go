package tensor

import "github.com/dunlin-go/dunlin/tensor/internal/kernel"

// Argmax is the index of the largest element of x, the lowest among equals; ok is
// false where x is empty or has a NaN or an infinity. It may be called at any time,
// from any goroutine.
func Argmax(x []float32) (best int, ok bool) {
	set, err := instructionSet()
	if err != nil {
		set = kernel.Sets()[0] // a wrong name in the environment is NewCompute's to tell
	}
	return set.Argmax(x)
}

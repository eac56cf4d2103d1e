package tensor

// Argmax is the index of the largest element of x, the lowest among equals; ok is
// false where x is empty or has a NaN or an infinity. It may be called at any time,
// from any goroutine.
func Argmax(x []float32) (best int, ok bool) {
	set, err := instructionSet()
	if err != nil {
		return 0, false // no Compute could be made either
	}
	return set.Argmax(x)
}

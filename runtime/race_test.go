//go:build race

package runtime_test

// raceDetector says that memory and time are not what they are without it.
const raceDetector = true

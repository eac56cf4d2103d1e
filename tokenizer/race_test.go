//go:build race

package tokenizer

// The race detector makes sync.Pool drop items at random.
const raceEnabled = true

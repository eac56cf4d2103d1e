//go:build !amd64 || purego

package kernel

// archCandidates lists no set: this build has portable code only.
func archCandidates() []candidate { return nil }

// archScratch is nothing: portable code needs no operand structs.
type archScratch struct{}

// archQueries is nothing, either.
type archQueries struct{}

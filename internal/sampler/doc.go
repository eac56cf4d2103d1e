// Package sampler chooses the next token from a row of logits.
//
// # Basics
//
// A [Sampler] belongs to one sequence. Temperature is applied first, then
// top-k, then top-p; what is left is sampled with the sequence's own random
// numbers, one draw a token, so a seed gives the same tokens whatever runs
// beside it. A temperature of 0 is greedy: the highest logit, the lowest id
// among equals.
//
// # Caveats
//
// Logits that hold a NaN, or nothing finite, are refused with [ErrNotFinite]:
// no token is made up.
package sampler

//go:build !linux && !darwin

package guard

import "testing"

// Protected reports whether touching a byte outside a region faults.
const Protected = false

func pages(_ testing.TB, n int) (all []byte, margin int) { return make([]byte, max(n, 1)), 0 }

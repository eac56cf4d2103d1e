package testmodel

import (
	"os"
	"path/filepath"
	"testing"
)

// Bridge is where `make bridge-models` has put one of the models of the bridge to
// Transformers. Without them the test is skipped.
func Bridge(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("DUNLIN_TEST_BRIDGE")
	if dir == "" {
		t.Skip("DUNLIN_TEST_BRIDGE is not set: `make test-bridge` makes the bridge and its models, and sets it")
	}
	return filepath.Join(dir, name)
}

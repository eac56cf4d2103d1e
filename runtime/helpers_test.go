package runtime_test

import (
	"strings"
	"testing"

	"github.com/dunlin-go/dunlin/runtime"
)

var waitFor = runtime.WaitFor

func contains(err error, text string) bool { return err != nil && strings.Contains(err.Error(), text) }

// oneLine reports an error text that isn't one clear line.
func oneLine(t testing.TB, err error) {
	t.Helper()
	if s := err.Error(); s == "" || len(s) > 500 || strings.ContainsAny(s, "\n\r") {
		t.Errorf("the error is not one clear line: %q", s)
	}
}

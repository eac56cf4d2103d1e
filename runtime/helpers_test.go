package runtime_test

import (
	"strings"
	"testing"
	"time"
)

// waitFor polls for something that another goroutine brings about.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 20000 {
		if ok() {
			return
		}
		<-tick.C
	}
	t.Fatalf("waited in vain for %s", what)
}

func contains(err error, text string) bool { return err != nil && strings.Contains(err.Error(), text) }

// oneLine reports an error text that isn't one clear line.
func oneLine(t testing.TB, err error) {
	t.Helper()
	if s := err.Error(); s == "" || len(s) > 500 || strings.ContainsAny(s, "\n\r") {
		t.Errorf("the error is not one clear line: %q", s)
	}
}

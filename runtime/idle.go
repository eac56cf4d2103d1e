package runtime

import (
	"time"

	"github.com/dunlin-go/dunlin/internal/kvcache"
)

// idleness is since when an engine has nothing to do, zero before it was asked,
// and how much it has given back: first the memory of free pages, much later the
// prefixes too.
type idleness struct {
	since time.Time
	stage int
}

// trimAfter is how long free pages keep their memory for the next request.
const trimAfter = 2 * time.Second

// next is how long it takes to the next stage, false if there is none.
func (i *idleness) next(now time.Time, prefixes time.Duration) (left time.Duration, ok bool) {
	if i.since.IsZero() {
		i.since = now
	}
	switch i.stage {
	case 0:
		left = min(trimAfter, prefixes)
	case 1:
		left = prefixes
	default:
		return 0, false
	}
	return left - now.Sub(i.since), true
}

// giveBack does what a stage is for.
func (i *idleness) giveBack(c *kvcache.Cache) {
	if i.stage > 0 {
		c.Forget()
	}
	_ = c.Trim() // where the system doesn't take it, it stays ours
	i.stage++
}

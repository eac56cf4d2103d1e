package runtime

import (
	"time"

	"github.com/dunlin-go/dunlin/internal/kvcache"
)

// idleness is how much an engine that has nothing to do has given back: first
// the memory of free pages, much later the prefixes too.
type idleness struct{ stage int }

// trimAfter is how long free pages keep their memory for the next request.
const trimAfter = 2 * time.Second

// next is how long to wait for the next stage, 0 if there is none.
func (i idleness) next(prefixes time.Duration) time.Duration {
	switch i.stage {
	case 0:
		return trimAfter
	case 1:
		return prefixes
	}
	return 0
}

// giveBack does what a stage is for.
func (i *idleness) giveBack(c *kvcache.Cache) {
	if i.stage > 0 {
		c.Forget()
	}
	_ = c.Trim() // where the system doesn't take it, it stays ours
	i.stage++
}

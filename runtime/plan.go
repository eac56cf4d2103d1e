package runtime

import (
	"time"

	"github.com/dunlin-go/dunlin/internal/sched"
	"github.com/dunlin-go/dunlin/models"
)

// plan fills the batch for the next step with what the scheduler chooses. It
// returns false where no sequence can go on: their readers have to take
// something first.
func (e *engine) plan() bool {
	e.batch.Reset()
	e.step, e.rows = e.step[:0], e.rows[:0]
	e.price = e.pace.price()
	e.exec.SetWeight(e.weight * float64(max(e.sched.Ready(), 1)))
	var step []*sched.Sequence
	step, e.prefills = e.sched.Plan(sched.Room{Tokens: e.limits.Tokens, Rows: e.limits.Logits, Unit: stepUnit, Prefill: e.prefillWork, Work: e.work})
	for _, r := range step {
		e.include(owner(r))
	}
	return len(step) > 0
}

// prefillWork is how much work on prompts fits a step beside that of those that are
// decoding: as much at least as these have tokens, or a crowd of answers on a slow
// machine would keep all others from their first token.
func (e *engine) prefillWork(decoding int, work float64) float64 {
	return max(e.pace.work(e.target(decoding))-work, float64(decoding), minPrefill)
}

// work is what a token costs at a position, in those that attend to nothing.
func (e *engine) work(position int) float64 {
	return 1 + e.price*float64(e.attends.pairs(position))
}

// attends is how many layers attend to all positions, and how many to a window.
type attends struct{ full, windowed, window int }

func attendsOf(cfg *models.Config) attends {
	a := attends{full: cfg.Layers, window: cfg.Window}
	for _, w := range cfg.Windowed {
		if w {
			a.full--
			a.windowed++
		}
	}
	return a
}

// pairs is how many positions the layers attend to for a token at one.
func (a attends) pairs(position int) int { return a.full*position + a.windowed*min(position, a.window) }

// target is how long a step with prompts is meant to take. Beside other models it
// is this one's share of stepTime, as somebody else may be decoding there and waits
// for the steps of all; not less than a quarter, or little but weights is read.
func (e *engine) target(decoding int) time.Duration {
	share := e.exec.Share()
	switch {
	case share < 1:
		return max(time.Duration(share*float64(stepTime)), stepTime/4)
	case decoding == 0:
		return stepTimeAlone
	}
	return stepTime
}

// stepUnit is what the size of a step with prompts is a multiple of where it is
// larger than a few: products take so many tokens at once.
const stepUnit = 16

// include puts the planned tokens of a sequence into the batch; the last rows of
// them need logits.
func (e *engine) include(s *sequence) {
	b := &e.batch
	s.firstRow = len(b.Logits)
	for i, id := range s.Tokens[s.Done:][:s.Planned] {
		if i >= s.Planned-s.Rows {
			b.Logits = append(b.Logits, int32(b.Len()))
			e.rows = append(e.rows, s)
		}
		b.Tokens = append(b.Tokens, id)
		b.Positions = append(b.Positions, int32(s.Done+i))
		b.Seqs = append(b.Seqs, int32(len(b.Tables)))
	}
	b.Tables = append(b.Tables, s.Table())
	e.step = append(e.step, s)
}

// forget lets go of the last step's sequences.
func (e *engine) forget() {
	clear(e.step[:cap(e.step)])
	clear(e.rows[:cap(e.rows)])
	clear(e.batch.Tables[:cap(e.batch.Tables)])
	e.sched.Forget()
}

package bridge

import (
	"time"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/runtime"
)

// sequence is one request. All but its stream belongs to the loop once it was
// submitted.
type sequence struct {
	*runtime.Answer

	id       uint64
	prompt   []int32
	done     int      // tokens that torch has keys and values of
	next     [1]int32 // the newest token, which it hasn't
	limit    int      // most tokens of the answer
	priority int
	writer   *runtime.StreamWriter
	lease    *budget.Lease
	held     time.Time // since when its reader leaves no room, zero if it does

	started, firstStep, firstToken, newest time.Time
}

// prefilling reports whether a part of the prompt is left.
func (s *sequence) prefilling() bool { return s.done < len(s.prompt) }

// chunk is what the next step computes of it.
func (s *sequence) chunk(most int) []int32 {
	if s.prefilling() {
		return s.prompt[s.done:min(len(s.prompt), s.done+most)]
	}
	s.next[0] = s.Token()
	return s.next[:]
}

// take gives the sequence the logits after its newest token; ended says that the answer
// is complete. The stream has room for two events.
func (s *sequence) take(logits []float32, now time.Time) (ended bool, err error) {
	s.Choose(logits)
	ev, err := s.Accept(s.Generated()+1 >= s.limit)
	if err != nil {
		return true, err
	}
	if s.Generated() == 1 {
		s.firstToken = now
	}
	s.newest = now
	s.writer.TrySend(ev)
	if s.Finished() == 0 {
		return false, nil
	}
	end := s.Finish()
	end.Usage.PromptTokens = len(s.prompt)
	end.Timing = runtime.Timing{
		Queue: s.firstStep.Sub(s.started), TimeToFirstToken: s.firstToken.Sub(s.started),
		Prefill: s.firstToken.Sub(s.firstStep), Decode: s.newest.Sub(s.firstToken),
	}
	s.writer.TrySend(end)
	return true, nil
}

// progress tells a reader who keeps up how much of the prompt is done.
func (s *sequence) progress(stage runtime.Stage) {
	const kept = 4 // for what comes after
	if s.writer.Room(kept) >= kept {
		s.writer.TrySend(runtime.Event{Kind: runtime.EventProgress, Progress: runtime.Progress{Stage: stage, Done: s.done, Total: len(s.prompt)}})
	}
}

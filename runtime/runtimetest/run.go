package runtimetest

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/dunlin-go/dunlin/runtime"
)

// run is one request of a [Fake]. Its goroutine belongs to the fake, which
// waits for it in Close.
type run struct {
	f      *Fake
	req    runtime.Request
	prompt []int32
	answer string // without its end-of-generation token
	w      *runtime.StreamWriter
	wake   chan struct{} // there is room, or nobody reads any more
	begin  time.Time
}

func (r *run) setRequest(req runtime.Request) {
	r.req = req
	var seed uint64
	if req.Temperature > 0 && req.TopK != 1 {
		if req.Seed != nil {
			seed = *req.Seed
		} else {
			seed = rand.Uint64()
		}
	}
	var text []byte
	for _, id := range r.prompt {
		if id != BOS {
			text = append(text, r.f.TokenBytes(id)...)
		}
	}
	r.answer = r.f.reply(string(text), seed)
}

func (r *run) notify() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *run) loop() {
	defer r.f.running.Add(-1)
	total := len(r.prompt)
	r.f.promptTokens.Add(int64(total))
	for _, p := range []runtime.Progress{
		{Stage: runtime.StageQueue, Total: total},
		{Stage: runtime.StagePrefill, Done: total, Total: total},
	} {
		if !r.send(runtime.Event{Kind: runtime.EventProgress, Progress: p}) {
			return
		}
	}

	limit := r.f.context - total
	if r.req.MaxTokens > 0 {
		limit = min(limit, r.req.MaxTokens)
	}
	speak := newSpeaker(r.req.Stop)
	queue, first := time.Since(r.begin), time.Time{}
	for n := 1; ; n++ {
		if r.f.runErr != nil && n > r.f.runErrAfter {
			r.w.Finish(r.f.runErr)
			return
		}
		if !r.step() {
			return
		}
		if n == 1 {
			first = time.Now()
		}
		id := r.token(n - 1)
		ev := runtime.Event{Kind: runtime.EventToken, Token: id}
		if r.req.Logprobs {
			ev.Logprob, ev.TopLogprobs = logprobs(id, r.req.TopLogprobs)
		}
		ended := id == EOS && !r.req.IgnoreEOS
		stopped := false
		if id != EOS {
			ev.Text, stopped = speak.push(r.f.TokenBytes(id))
		}
		r.f.completion.Add(1)
		if !r.send(ev) {
			return
		}
		if !ended && !stopped && n < limit {
			continue
		}
		fin := runtime.Event{Kind: runtime.EventFinish, Text: speak.rest(), Finish: runtime.FinishStop}
		if !ended && !stopped {
			fin.Finish = runtime.FinishLength
		}
		fin.Usage = runtime.Usage{PromptTokens: total, CompletionTokens: n}
		fin.Timing = runtime.Timing{
			Queue: queue, TimeToFirstToken: first.Sub(r.begin), Prefill: first.Sub(r.begin) - queue, Decode: time.Since(first),
		}
		r.send(fin)
		return
	}
}

// token is the n-th token of the answer. Past its end-of-generation token,
// which only IgnoreEOS reaches, the answer begins again.
func (r *run) token(n int) int32 {
	if n %= len(r.answer) + 1; n < len(r.answer) {
		return int32(r.answer[n])
	}
	return EOS
}

// logprobs gives the chosen token half of the probability, the next one a
// quarter, and so on.
func logprobs(id int32, top int) (float32, []runtime.TokenLogprob) {
	var all []runtime.TokenLogprob
	for k := range top {
		all = append(all, runtime.TokenLogprob{ID: (id + int32(k)) % vocabulary, Logprob: float32(-math.Ln2 * float64(k+1))})
	}
	return -math.Ln2, all
}

// step waits for the gate, if there is one; false says that the run is over.
func (r *run) step() bool {
	r.f.steps.Add(1)
	for {
		select {
		case <-r.f.done:
			r.w.Finish(errClosed)
			return false
		default:
		}
		if r.w.Ended() {
			return false
		}
		if r.f.gate == nil {
			return true
		}
		ok, changed := r.f.gate.take()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-r.wake:
		case <-r.f.done:
		}
	}
}

// send waits for room in the stream; false says that the run is over.
func (r *run) send(ev runtime.Event) bool {
	for !r.w.TrySend(ev) {
		if r.w.Ended() {
			return false
		}
		select {
		case <-r.wake:
		case <-r.f.done:
			r.w.Finish(errClosed)
			return false
		}
	}
	return true
}

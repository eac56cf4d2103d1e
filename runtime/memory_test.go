package runtime_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/models/gguf"
	"github.com/dunlin-go/dunlin/runtime"
	"github.com/dunlin-go/dunlin/runtime/runtimetest"
)

// withProcessLimit sets the limit of the process until the test ends.
func withProcessLimit(t *testing.T, bytes int64) {
	t.Helper()
	before := runtime.ProcessMemory().Limit
	setLimit(t, bytes)
	t.Cleanup(func() { setLimit(t, before) })
}

func setLimit(t *testing.T, bytes int64) {
	if err := runtime.SetMemoryLimit(bytes); err != nil {
		t.Error(err)
	}
}

// exhausted is the refusal that err has to be.
func exhausted(t *testing.T, err error) *runtime.MemoryError {
	t.Helper()
	var e *runtime.MemoryError
	if runtime.CodeOf(err) != runtime.CodeResourceExhausted || !errors.As(err, &e) {
		t.Fatalf("%v, want a refusal with its numbers", err)
	}
	return e
}

// TestSetMemoryLimit: the limit of the process is lowered and raised while a model
// is loaded.
func TestSetMemoryLimit(t *testing.T) {
	m := tiny(t, testmodel.Config{})
	used := m.Stats().ProcessBudget.Used
	withProcessLimit(t, used/2)
	for _, n := range []int64{0, -1, math.MinInt64} {
		if err := runtime.SetMemoryLimit(n); runtime.CodeOf(err) != runtime.CodeInvalidRequest {
			t.Errorf("a limit of %d bytes: %v", n, err)
		}
	}
	if got := runtime.ProcessMemory(); got.Limit != used/2 || got.Used != used {
		t.Errorf("%+v, want a limit of %d", got, used/2)
	}
	if s := m.Stats(); s.ProcessBudget.Used != used || s.BudgetUsed != used || s.BudgetLimit != used/2 || s.Budget.Limit != math.MaxInt64 {
		t.Errorf("with less than is used: %+v", s)
	}
	_, err := m.Start(t.Context(), runtime.Request{Prompt: "hello"})
	if e := exhausted(t, err); e.Purpose != runtime.PurposeRequest || e.Asked == 0 || e.Left != 0 || e.Limit != used/2 || e.Own {
		t.Errorf("a request: %+v", e)
	}
	_, err = runtime.LoadBytes(t.Context(), testmodel.Llama(testmodel.Config{}), runtime.WithMemoryLimit(1<<30))
	if e := exhausted(t, err); e.Left != 0 || e.Own {
		t.Errorf("another model: %+v", e)
	}
	setLimit(t, used+16<<20)
	if _, err := runtime.Generate(t.Context(), m, runtime.Request{Prompt: "hello", MaxTokens: 3}); err != nil {
		t.Errorf("after it was raised: %v", err)
	}
}

// TestStatsOfMemory: each model's bytes are told apart by purpose, and together
// they are the process's.
func TestStatsOfMemory(t *testing.T) {
	before := tiny(t, testmodel.Config{}).Stats()
	own, err := runtime.LoadBytes(t.Context(), testmodel.Llama(testmodel.Config{}), runtime.WithMemoryLimit(64<<20))
	if err != nil {
		t.Fatal(err)
	}
	s := own.Stats()
	if s.BudgetLimit != 64<<20 || s.BudgetUsed != s.Budget.Used || s.Budget.Limit != s.BudgetLimit {
		t.Errorf("a limit of its own: %+v", s)
	}
	sum := int64(0)
	for p := range runtime.Purpose(runtime.NumPurposes) {
		sum += s.Budget.By[p]
		if got, want := s.ProcessBudget.By[p], before.ProcessBudget.By[p]+s.Budget.By[p]; got != want {
			t.Errorf("%v: the process has %d bytes, want %d", p, got, want)
		}
	}
	if sum != s.Budget.Used {
		t.Errorf("the purposes have %d bytes, all %d", sum, s.Budget.Used)
	}
	for _, p := range []runtime.Purpose{runtime.PurposeVocabulary, runtime.PurposeKVCache, runtime.PurposeScratch} {
		if s.Budget.By[p] == 0 {
			t.Errorf("no bytes of %v", p)
		}
	}
	if _, err = runtime.LoadBytes(t.Context(), testmodel.Llama(testmodel.Config{}), runtime.WithMemoryLimit(1000)); err != nil {
		if e := exhausted(t, err); !e.Own || e.Limit != 1000 {
			t.Errorf("%+v", e)
		}
	}
	if err := own.Close(); err != nil {
		t.Fatal(err)
	}
	if got := before.ProcessBudget; own.Stats().ProcessBudget != got {
		t.Errorf("%+v after it was closed, want %+v", own.Stats().ProcessBudget, got)
	}
}

// TestLimitsAtOnce: requests of two models run while the limits move. They are
// answered or refused, and everything is given back.
func TestLimitsAtOnce(t *testing.T) {
	shared, own := tiny(t, testmodel.Config{}), tiny(t, testmodel.Config{}, runtime.WithMemoryLimit(64<<20))
	idle := shared.Stats().ProcessBudget
	withProcessLimit(t, idle.Limit)
	var requests, limits sync.WaitGroup
	stop := make(chan struct{})
	limits.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				setLimit(t, idle.Used+4096)
				setLimit(t, idle.Limit)
			}
		}
	})
	for _, m := range []*runtime.Model{shared, own, shared, own} {
		requests.Go(func() {
			for range 20 {
				_, err := runtime.Generate(t.Context(), m, runtime.Request{Prompt: "hello", MaxTokens: 2})
				if err != nil && runtime.CodeOf(err) != runtime.CodeResourceExhausted {
					t.Error(err)
				}
			}
		})
	}
	requests.Wait()
	close(stop)
	limits.Wait()
	waitFor(t, "the memory of the requests", func() bool { return shared.Stats().ProcessBudget.Used == idle.Used })
}

// TestLimitBelowWhatRuns: a limit below what is in use ends nothing. Streams and
// answers that are being gathered go on to their ends, new ones are refused, and
// when the model is closed it has nothing left.
func TestLimitBelowWhatRuns(t *testing.T) {
	before := runtime.ProcessMemory()
	m := tiny(t, testmodel.Config{})
	gate := runtimetest.NewGate()
	fake := runtimetest.New(runtimetest.WithGate(gate), runtimetest.WithReply(func(string) string { return "a few words that are gathered" }))
	defer fake.Close()
	gathered := make(chan error, 1)
	go func() {
		res, err := runtime.Generate(t.Context(), fake, runtime.Request{Prompt: "hello", MaxTokens: 100})
		if err == nil && res.Finish != runtime.FinishStop {
			err = fmt.Errorf("it ended with %v", res.Finish)
		}
		gathered <- err
	}()
	gate.Step(1)
	waitFor(t, "the answer to begin", func() bool { return fake.Stats().Running > 0 })
	s, err := m.Start(t.Context(), runtime.Request{Prompt: "hello", MaxTokens: 300, IgnoreEOS: true, TopLogprobs: 3, Logprobs: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	withProcessLimit(t, 1)
	for _, g := range []runtime.Generator{m, fake} {
		_, err = runtime.Generate(t.Context(), g, runtime.Request{Prompt: "hello"})
		if e := exhausted(t, err); e.Limit != 1 || e.Left != 0 || e.Asked < 1 || e.Own {
			t.Errorf("a new request: %+v", e)
		}
	}
	_, err = m.Tokenize(t.Context(), strings.Repeat("hello ", 100_000), runtime.TokenizeOptions{})
	exhausted(t, err)
	var last runtime.Event
	for ev, err := range s.All() {
		if err != nil {
			t.Fatal(err)
		}
		last = ev
	}
	if last.Finish != runtime.FinishLength || last.Usage.CompletionTokens != 300 {
		t.Errorf("the stream ended with %+v", last)
	}
	gate.Open()
	if err := <-gathered; err != nil {
		t.Errorf("the answer that was being gathered: %v", err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if got := m.Stats().Budget; got != (runtime.BudgetStats{Limit: math.MaxInt64}) {
		t.Errorf("the closed model has %+v", got)
	}
	if got := runtime.ProcessMemory(); got.Used != before.Used || got.By != before.By {
		t.Errorf("%+v, want what was there before: %+v", got, before)
	}
}

// TestAnswerOutgrowsTheLimit: an answer that is gathered beyond what was reserved for
// it ends where the limit has no room, with what there is.
func TestAnswerOutgrowsTheLimit(t *testing.T) {
	const most = 1 << 20
	fake := runtimetest.New(runtimetest.WithReply(func(string) string { return strings.Repeat("word ", 2*most) }), runtimetest.WithContextLength(8*most))
	defer fake.Close()
	used := runtime.ProcessMemory().Used
	withProcessLimit(t, used+most)
	res, err := runtime.Generate(t.Context(), fake, runtime.Request{Prompt: "hello"})
	if e := exhausted(t, err); e.Purpose != runtime.PurposeRequest || e.Left >= e.Asked {
		t.Errorf("%+v", e)
	}
	if res == nil || len(res.Text) == 0 || len(res.Text) > most {
		t.Errorf("the answer so far: %+v", res)
	}
	if got := runtime.ProcessMemory().Used; got != used {
		t.Errorf("%d bytes used, want %d", got, used)
	}
	if _, err := runtime.Generate(t.Context(), fake, runtime.Request{Prompt: "hello", MaxTokens: -1}); runtime.CodeOf(err) != runtime.CodeInvalidRequest {
		t.Errorf("-1 tokens: %v", err)
	}
}

// TestLongTokensArePriced: where a token has a long text, so may each event that a
// stream holds.
func TestLongTokensArePriced(t *testing.T) {
	const long = 16 << 10
	f, err := gguf.Parse(testmodel.Llama(testmodel.Config{}), budget.New(1<<30).Lease())
	if err != nil {
		t.Fatal(err)
	}
	list, _ := f.Strings("tokenizer.ggml.tokens")
	var tokens []string
	for _, text := range list.All() {
		tokens = append(tokens, text)
	}
	tokens[len(tokens)-1] = strings.Repeat("x", long)
	m := tiny(t, testmodel.Config{Keys: map[string]any{"tokenizer.ggml.tokens": tokens}})
	idle := m.Stats().Budget.By[runtime.PurposeRequest]
	s, err := m.Start(t.Context(), runtime.Request{Prompt: "hello", MaxTokens: 200, IgnoreEOS: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := m.Stats().Budget.By[runtime.PurposeRequest] - idle; got < 64*long {
		t.Errorf("a stream of 64 events has %d bytes", got)
	}
}

// TestCloseGivesAllBack: also what requests have that run, wait or were dropped when
// the model is closed, and what a model has that is refused half way.
func TestCloseGivesAllBack(t *testing.T) {
	before := runtime.ProcessMemory()
	m := tiny(t, testmodel.Config{}, runtime.WithMaxSequences(1))
	var streams []*runtime.Stream
	for range 6 {
		s, err := m.Start(t.Context(), runtime.Request{Prompt: "hello", MaxTokens: 400, IgnoreEOS: true})
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, s)
	}
	if _, err := streams[0].Recv(); err != nil {
		t.Fatal(err)
	}
	streams[5].Close()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if got := m.Stats().Budget; got.Used != 0 || got.By != (runtime.BudgetStats{}).By {
		t.Errorf("the closed model has %+v", got)
	}
	refused := 0
	for limit := int64(1); limit < 1<<26; limit = limit*3/2 + 1 {
		m, err := runtime.LoadBytes(t.Context(), testmodel.Llama(testmodel.Config{}), runtime.WithMemoryLimit(limit))
		if err == nil {
			err = m.Close()
		} else if e := exhausted(t, err); e.Asked <= e.Left || !e.Own {
			t.Errorf("with %d bytes: %+v", limit, e)
		} else {
			refused++
			err = nil
		}
		if err != nil {
			t.Error(err)
		}
		if got := runtime.ProcessMemory(); got.Used != before.Used || got.By != before.By {
			t.Fatalf("with %d bytes: %+v, want %+v", limit, got, before)
		}
	}
	if refused < 10 {
		t.Errorf("%d were refused", refused)
	}
}

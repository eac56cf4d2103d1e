package runtimetest

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/dunlin-go/dunlin/runtime"
)

// patience bounds every wait of the suite: a generator that needs longer for a
// few tokens has stalled.
const patience = 60 * time.Second

// prompt is what the suite asks for where the text doesn't matter.
const prompt = "Once upon a time, there was a little girl who"

// Conformance holds a generator to the behaviour that [runtime.Generator]
// promises. open gives one that nothing else uses and closes it with t.Cleanup;
// it is called once for each subtest, and the suite asks for short answers
// only. A context of 256 to a few thousand tokens suits it best. What a
// generator lacks the capability for is skipped by name.
func Conformance(t *testing.T, open func(t *testing.T) runtime.Generator) {
	t.Helper()
	for _, tc := range []struct {
		name string
		test func(*testing.T, runtime.Generator)
	}{
		{"Info", testInfo},
		{"Events", testEvents},
		{"MaxTokens", testMaxTokens},
		{"IgnoreEOS", testIgnoreEOS},
		{"Stop", testStop},
		{"Logprobs", testLogprobs},
		{"Greedy", testGreedy},
		{"Seed", testSeed},
		{"Messages", testMessages},
		{"Invalid", testInvalid},
		{"Extreme", testExtreme},
		{"ContextLength", testContextLength},
		{"CancelBefore", testCancelBefore},
		{"CancelDuring", testCancelDuring},
		{"CancelWhileReading", testCancelWhileReading},
		{"CancelAfter", testCancelAfter},
		{"Deadline", testDeadline},
		{"Close", testClose},
		{"Break", testBreak},
		{"SlowReader", testSlowReader},
		{"Dropped", testDropped},
		{"Tokenizer", testTokenizer},
		{"Templater", testTemplater},
		{"Score", testScore},
		{"ScorePanic", testScorePanic},
		{"ScoreCancel", testScoreCancel},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.test(t, open(t)) })
	}
}

// limited is the test's context, with the suite's patience.
func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// unsupported skips the test where err says that the generator can't do it.
func unsupported(t *testing.T, what string, err error) {
	t.Helper()
	if runtime.CodeOf(err) == runtime.CodeUnsupported {
		t.Skipf("%s: the generator doesn't support it: %v", what, err)
	}
}

func start(ctx context.Context, t *testing.T, g runtime.Generator, req runtime.Request) *runtime.Stream {
	t.Helper()
	s, err := g.Start(ctx, req)
	if err != nil {
		t.Fatalf("Start(%+v): %v", req, err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func generate(t *testing.T, g runtime.Generator, req runtime.Request) *runtime.Result {
	t.Helper()
	res, err := runtime.Generate(limited(t), g, req)
	if err != nil {
		t.Fatalf("Generate(%+v): %v", req, err)
	}
	return res
}

// recvToken reads up to the first token.
func recvToken(t *testing.T, s *runtime.Stream) {
	t.Helper()
	for {
		ev, err := s.Recv()
		if err != nil {
			t.Fatalf("the stream ended before its first token: %v", err)
		}
		if ev.Kind == runtime.EventToken {
			return
		}
	}
}

// endOf reads a stream to its end; finished says that it had a finish event.
func endOf(s *runtime.Stream) (finished bool, err error) {
	for {
		ev, err := s.Recv()
		if err != nil {
			return finished, err
		}
		finished = finished || ev.Kind == runtime.EventFinish
	}
}

// quiet waits until nothing runs any more.
func quiet(t *testing.T, g runtime.Generator) {
	t.Helper()
	r, ok := runtime.As[runtime.StatsReader](g)
	if !ok {
		return
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		st := r.Stats()
		if st.Running == 0 && st.Waiting == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d sequences still run and %d wait", st.Running, st.Waiting)
		}
	}
}

// endless is a request that goes on until the context is full.
func endless() runtime.Request { return runtime.Request{Prompt: prompt, IgnoreEOS: true} }

func testInfo(t *testing.T, g runtime.Generator) {
	info := g.Info()
	if info.ID == "" {
		t.Error("Info has no ID")
	}
	if info.ContextLength < 0 || info.Vocabulary < 0 || info.Parameters < 0 || info.FileBytes < 0 {
		t.Errorf("Info has negative figures: %+v", info)
	}
	if again := g.Info(); again != info {
		t.Errorf("Info differs from call to call: %+v, %+v", info, again)
	}
}

func testEvents(t *testing.T, g runtime.Generator) {
	req := runtime.Request{Prompt: prompt, MaxTokens: 12}
	s := start(limited(t), t, g, req)
	var text strings.Builder
	var finish runtime.Event
	last, tokens := runtime.EventProgress, 0
	for {
		ev, err := s.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("Recv: %v", err)
		}
		if ev.Kind == runtime.EventHeartbeat { // may come anywhere
			continue
		}
		if ev.Kind < last || last == runtime.EventFinish {
			t.Fatalf("an event of kind %d came after one of kind %d", ev.Kind, last)
		}
		last = ev.Kind
		if !utf8.ValidString(ev.Text) {
			t.Errorf("the text of an event isn't UTF-8: %q", ev.Text)
		}
		if ev.Choice != 0 {
			t.Errorf("the only choice is number %d", ev.Choice)
		}
		text.WriteString(ev.Text)
		switch ev.Kind {
		case runtime.EventProgress:
			if p := ev.Progress; p.Done < 0 || p.Done > p.Total {
				t.Errorf("progress is %+v", p)
			}
			if ev.Text != "" {
				t.Errorf("progress has the text %q", ev.Text)
			}
		case runtime.EventToken:
			tokens++
		case runtime.EventFinish:
			finish = ev
		default:
			t.Fatalf("there is no event kind %d", ev.Kind)
		}
	}
	for range 3 {
		if ev, err := s.Recv(); !errors.Is(err, io.EOF) || ev.Kind != 0 {
			t.Errorf("after the end Recv gave %+v, %v", ev, err)
		}
	}
	var dst [4]runtime.Event
	if n, err := s.Drain(dst[:]); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("after the end Drain gave %d, %v", n, err)
	}
	if last != runtime.EventFinish {
		t.Fatalf("the last event is of kind %d", last)
	}
	if finish.Finish != runtime.FinishStop && finish.Finish != runtime.FinishLength {
		t.Errorf("the finish reason is %v", finish.Finish)
	}
	u := finish.Usage
	if u.CompletionTokens != tokens || u.PromptTokens < 1 || u.CachedTokens < 0 || u.CachedTokens > u.PromptTokens {
		t.Errorf("%d token events, usage %+v", tokens, u)
	}
	if tm := finish.Timing; min(tm.Queue, tm.TimeToFirstToken, tm.Prefill, tm.Decode) < 0 {
		t.Errorf("timing has negative figures: %+v", tm)
	}
	res := generate(t, g, req)
	if res.Text != text.String() {
		t.Errorf("Generate gave %q, the events %q", res.Text, text.String())
	}
	if len(res.Tokens) != tokens || res.Finish != finish.Finish || res.Usage.PromptTokens != u.PromptTokens {
		t.Errorf("Generate gave %+v, the events %d tokens, %v, %+v", res, tokens, finish.Finish, u)
	}
	quiet(t, g)
}

func testMaxTokens(t *testing.T, g runtime.Generator) {
	all := generate(t, g, runtime.Request{Prompt: prompt, MaxTokens: 16})
	for n := 1; n <= 6; n++ {
		res := generate(t, g, runtime.Request{Prompt: prompt, MaxTokens: n})
		if !slices.Equal(res.Tokens, all.Tokens[:min(n, len(all.Tokens))]) {
			t.Errorf("%d tokens are %v, 16 are %v", n, res.Tokens, all.Tokens)
		}
		if res.Usage.CompletionTokens != len(res.Tokens) {
			t.Errorf("%d tokens, usage %+v", len(res.Tokens), res.Usage)
		}
		if n < len(all.Tokens) && res.Finish != runtime.FinishLength {
			t.Errorf("an answer cut at %d of %d tokens finished with %v", n, len(all.Tokens), res.Finish)
		}
	}
	if len(all.Tokens) < 16 && all.Finish != runtime.FinishStop {
		t.Errorf("an answer of %d tokens out of 16 finished with %v", len(all.Tokens), all.Finish)
	}
}

func testIgnoreEOS(t *testing.T, g runtime.Generator) {
	res, err := runtime.Generate(limited(t), g, runtime.Request{Prompt: prompt, MaxTokens: 64, IgnoreEOS: true})
	unsupported(t, "IgnoreEOS", err)
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Tokens) != 64 || res.Finish != runtime.FinishLength || res.Usage.CompletionTokens != 64 {
		t.Errorf("got %d tokens, %v, %+v", len(res.Tokens), res.Finish, res.Usage)
	}
}

func testStop(t *testing.T, g runtime.Generator) {
	base := runtime.Request{Prompt: prompt, MaxTokens: 24}
	plain := generate(t, g, base)
	text := plain.Text
	// A stop string is taken out of the text itself, so that it spans tokens.
	runes := []rune(text)
	if len(runes) < 8 {
		t.Skipf("Stop: the answer %q is too short to be stopped", text)
	}
	piece := string(runes[3:7])
	last := string(runes[len(runes)-1:])
	const never = "\x01 never said"
	for _, tc := range []struct {
		name string
		stop []string
		want string
		full bool
	}{
		{"one", []string{piece}, text[:strings.Index(text, piece)], false},
		{"one rune", []string{string(runes[2:3])}, text[:strings.Index(text, string(runes[2:3]))], false},
		{"a prefix of another", []string{piece + never, piece}, text[:strings.Index(text, piece)], false},
		{"the longer one first", []string{piece, string(runes[3:5])}, text[:strings.Index(text, string(runes[3:5]))], false},
		{"the whole text", []string{text}, "", false},
		{"not said", []string{never}, text, true},
		{"held back to the end", []string{last + never, text + never}, text, true},
	} {
		if slices.ContainsFunc(tc.stop, func(s string) bool { return len(s) > 256 }) {
			continue
		}
		t.Run(tc.name, func(t *testing.T) {
			req := base
			req.Stop = tc.stop
			res := generate(t, g, req)
			want := runtime.FinishStop
			if tc.full {
				want = plain.Finish
			}
			if res.Text != tc.want || res.Finish != want {
				t.Errorf("stop %q gave %q, %v; want %q, %v (the whole text is %q)", tc.stop, res.Text, res.Finish, tc.want, want, text)
			}
			if res.Usage.CompletionTokens != len(res.Tokens) || len(res.Tokens) > len(plain.Tokens) {
				t.Errorf("%d tokens, usage %+v, %d without the stop", len(res.Tokens), res.Usage, len(plain.Tokens))
			}
		})
	}
}

func testLogprobs(t *testing.T, g runtime.Generator) {
	const top = 3
	res, err := runtime.Generate(limited(t), g, runtime.Request{Prompt: prompt, MaxTokens: 6, Logprobs: true, TopLogprobs: top})
	unsupported(t, "Logprobs", err)
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Logprobs) != len(res.Tokens) || len(res.Top) != len(res.Tokens) {
		t.Fatalf("%d tokens, %d logprobs, %d lists of alternatives", len(res.Tokens), len(res.Logprobs), len(res.Top))
	}
	for i, lp := range res.Logprobs {
		if !(lp <= 0) {
			t.Errorf("token %d has the log-probability %v", i, lp)
		}
		alt := res.Top[i]
		if len(alt) != top {
			t.Fatalf("token %d has %d alternatives, not %d", i, len(alt), top)
		}
		// Decoding is greedy: the likeliest token is the one that was chosen.
		if alt[0].Logprob != lp {
			t.Errorf("token %d has %v, the likeliest one %v", i, lp, alt[0].Logprob)
		}
		if !slices.IsSortedFunc(alt, func(a, b runtime.TokenLogprob) int {
			switch {
			case a.Logprob > b.Logprob:
				return -1
			case a.Logprob < b.Logprob:
				return 1
			}
			return 0
		}) {
			t.Errorf("token %d: alternatives are not in order: %v", i, alt)
		}
	}
	plain := generate(t, g, runtime.Request{Prompt: prompt, MaxTokens: 6})
	if plain.Text != res.Text || plain.Logprobs != nil || plain.Top != nil {
		t.Errorf("with logprobs %q, without %q", res.Text, plain.Text)
	}
}

// together runs the request from 8 callers at once and compares with want.
func together(t *testing.T, g runtime.Generator, req runtime.Request, want *runtime.Result) {
	t.Helper()
	ctx := limited(t)
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := range 8 {
		wg.Go(func() {
			r := req
			if i%4 == 3 { // company of another kind
				r.Prompt += " lived in a house by the sea"
			}
			res, err := runtime.Generate(ctx, g, r)
			if err != nil {
				t.Errorf("caller %d: %v", i, err)
				return
			}
			if i%4 != 3 && (res.Text != want.Text || !slices.Equal(res.Tokens, want.Tokens)) {
				t.Errorf("caller %d got %q, alone it was %q", i, res.Text, want.Text)
			}
		})
	}
}

func testGreedy(t *testing.T, g runtime.Generator) {
	req := runtime.Request{Prompt: prompt, MaxTokens: 16}
	want := generate(t, g, req)
	if again := generate(t, g, req); again.Text != want.Text {
		t.Errorf("the second time gave %q, the first %q", again.Text, want.Text)
	}
	together(t, g, req, want)
}

func testSeed(t *testing.T, g runtime.Generator) {
	seed := uint64(20240229)
	req := runtime.Request{Prompt: prompt, MaxTokens: 16, Temperature: 0.9, TopP: 0.95, TopK: 40, Seed: &seed}
	want, err := runtime.Generate(limited(t), g, req)
	unsupported(t, "Seed", err)
	if err != nil {
		t.Fatal(err)
	}
	if again := generate(t, g, req); again.Text != want.Text {
		t.Errorf("the second time gave %q, the first %q", again.Text, want.Text)
	}
	together(t, g, req, want)
}

func testMessages(t *testing.T, g runtime.Generator) {
	req := runtime.Request{MaxTokens: 8, Messages: []runtime.Message{
		{Role: "user", Content: "Hello!"}, {Role: "assistant", Content: "Hi."}, {Role: "user", Content: "Tell me a story."},
	}}
	res, err := runtime.Generate(limited(t), g, req)
	unsupported(t, "Messages", err)
	if err != nil {
		t.Fatal(err)
	}
	if res.Usage.PromptTokens < 3 || len(res.Tokens) == 0 {
		t.Errorf("got %+v", res)
	}
}

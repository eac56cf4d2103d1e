package runtime_test

import (
	"context"
	"math"
	goruntime "runtime"
	"testing"

	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/runtime"
	"github.com/dunlin-go/dunlin/tensor"
)

const fuzzMemory = 16 << 20 // the memory limit that FuzzLoad loads with

// FuzzLoad loads whatever bytes there are and asks for three tokens: an answer or
// a typed error, for memory that was reserved.
func FuzzLoad(f *testing.F) {
	f.Add(testmodel.Llama(small(testmodel.Config{Weights: tensor.Q4_1, HeadType: tensor.Q4_1})))
	f.Add(testmodel.Llama(small(testmodel.Config{Weights: tensor.Q8_0, HeadType: tensor.Q4_1, Untied: true, Template: "{{ messages[0].content * 3 }}"})))
	f.Add(testmodel.Llama(small(testmodel.Config{NoVocab: true})))
	f.Add(testmodel.Gemma3(small(testmodel.Config{Weights: tensor.Q4_1, HeadType: tensor.Q8_0})))
	f.Add(testmodel.Llama(small(testmodel.Config{ContextLength: 1 << 24})))
	f.Add([]byte("GGUF\x03\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), fileTime)
		defer cancel()
		var m *runtime.Model
		var err error
		took := allocated(func() {
			m, err = runtime.LoadBytes(ctx, data, runtime.WithMemoryLimit(fuzzMemory), runtime.WithThreads(1), runtime.WithMaxSequences(2))
		})
		priced := int64(fuzzMemory) // at most, where it was refused
		if err == nil {
			priced = m.Stats().BudgetUsed
		}
		// What is priced until the model is made is gone by now; the file bounds it.
		if most := priced + priced/8 + 32*int64(len(data)) + 1<<20; took > most && !raceDetector {
			t.Errorf("loading %d bytes allocated %d, want at most %d (%v)", len(data), took, most, err)
		}
		if err != nil {
			checkError(t, "Load", err, nil, loadCodes)
			return
		}
		defer m.Close()
		for _, req := range []runtime.Request{
			{Prompt: "hello", MaxTokens: 3},
			{Messages: []runtime.Message{{Role: "user", Content: "hello"}}, MaxTokens: 3, Temperature: 1},
		} {
			took := allocated(func() { _, err = runtime.Generate(ctx, m, req) })
			if err != nil {
				checkError(t, "Generate", err, nil, genCodes)
			}
			if took > 2*fuzzMemory && !raceDetector { // a template's garbage, too
				t.Errorf("an answer allocated %d bytes (%v)", took, err)
			}
		}
	})
}

// FuzzRequest sends requests of any content to one model.
func FuzzRequest(f *testing.F) {
	m := tiny(f, small(testmodel.Config{ContextLength: 128}), runtime.WithMemoryLimit(64<<20))
	f.Add("hello", "", []byte{}, 5, "stop", 0.7, 40, 0.9, uint64(1), true, 3)
	f.Add("", "be good", []byte{}, 1, "", 0.0, 0, 0.0, uint64(0), false, 0)
	f.Add("", "", []byte{1, 2, 3, 255}, math.MaxInt, "e", 100.0, math.MaxInt, 1.0, uint64(math.MaxUint64), true, 20)
	f.Add("<|im_start|>\xff\x00", "", []byte{}, -1, "\xff", math.NaN(), -1, math.Inf(1), uint64(9), false, -1)
	f.Add("a", "b", []byte{7}, 0, "\x00", 1e-320, 1, 1e-320, uint64(3), true, 21)
	f.Add("a", "", []byte{}, 1, "", 0.0, 0, 0.0, uint64(0), true, -5) // whose events would take nothing
	f.Fuzz(func(t *testing.T, prompt, message string, tokens []byte, maxTokens int, stop string, temperature float64, topK int, topP float64, seed uint64, logprobs bool, top int) {
		req := runtime.Request{
			Prompt: prompt, MaxTokens: maxTokens, Temperature: temperature, TopK: topK, TopP: topP, Seed: &seed, Logprobs: logprobs, TopLogprobs: top,
		}
		if message != "" {
			req.Messages = []runtime.Message{{Role: "user", Content: message}, {Role: message, Content: stop}}
		}
		for _, b := range tokens { // some of them beyond the vocabulary
			req.Tokens = append(req.Tokens, int32(b)*2-10)
		}
		if stop != "" {
			req.Stop = []string{stop, "\n"}
		}
		ctx, cancel := context.WithTimeout(t.Context(), fileTime)
		defer cancel()
		res, err := runtime.Generate(ctx, m, req)
		if err != nil {
			checkError(t, "Generate", err, nil, []runtime.Code{runtime.CodeInvalidRequest, runtime.CodeContextLength, runtime.CodeResourceExhausted})
			return
		}
		n := len(res.Tokens)
		switch {
		case n == 0 || n != res.Usage.CompletionTokens || maxTokens > 0 && n > maxTokens || n+res.Usage.PromptTokens > m.Info().ContextLength:
			t.Errorf("%d tokens for %d, usage %+v", n, maxTokens, res.Usage)
		case logprobs && (len(res.Logprobs) != n || top > 0 && len(res.Top) != n):
			t.Errorf("%d tokens with %d logprobs and %d lists of the likeliest", n, len(res.Logprobs), len(res.Top))
		}
		for i, p := range res.Logprobs {
			if !(p <= 0) {
				t.Errorf("token %d has the log-probability %g", i, p)
			}
		}
		again, err := runtime.Generate(ctx, m, req)
		if err != nil || again.Text != res.Text || again.Finish != res.Finish {
			t.Errorf("the same request gave %q, then %q, %v", res.Text, again.Text, err)
		}
		waitFor(t, "the pages of the KV cache", func() bool { return m.Stats().KVPagesUsed == 0 })
	})
}

// allocated is how many bytes f takes from the heap, freed or not.
func allocated(f func()) int64 {
	var before, after goruntime.MemStats
	goruntime.ReadMemStats(&before)
	f()
	goruntime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

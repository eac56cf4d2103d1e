package runtime_test

import (
	"slices"
	"testing"
	"time"

	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/runtime"
)

// TestShortPromptsPassLongOnes starts a long prompt, then a short request: the
// short one must be done while the long one is still being prefilled.
func TestShortPromptsPassLongOnes(t *testing.T) {
	for _, kind := range []string{"prompt", "score"} {
		t.Run(kind, func(t *testing.T) {
			m := tiny(t, testmodel.Config{ContextLength: 4096}, runtime.WithMaxSequences(4))
			tokens := slices.Repeat([]int32{10, 20, 30, 40}, 1000)
			long := make(chan error, 1)
			go func() {
				var err error
				if kind == "score" {
					_, err = m.Score(t.Context(), tokens, runtime.ScoreOptions{})
				} else {
					_, err = runtime.Generate(t.Context(), m, runtime.Request{Tokens: tokens, MaxTokens: 1, IgnoreEOS: true})
				}
				long <- err
			}()
			waitFor(t, "the long one to run", func() bool { return m.Stats().PromptTokens > 0 })
			if _, err := runtime.Generate(t.Context(), m, runtime.Request{Prompt: "hello", MaxTokens: 2, IgnoreEOS: true}); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-long:
				t.Errorf("the long one was done first: %v", err)
			default:
			}
			if err := <-long; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestUnreadStreamsMakeRoom fills every place with streams that nobody reads: a
// request that waits gets one when the stall limit has passed.
func TestUnreadStreamsMakeRoom(t *testing.T) {
	m := tiny(t, testmodel.Config{}, runtime.WithMaxSequences(2), runtime.WithStallLimit(50*time.Millisecond))
	var unread []*runtime.Stream
	for range 2 {
		s, err := m.Start(t.Context(), runtime.Request{Prompt: "hello", IgnoreEOS: true})
		if err != nil {
			t.Fatal(err)
		}
		unread = append(unread, s)
	}
	if _, err := runtime.Generate(t.Context(), m, runtime.Request{Prompt: "hello", MaxTokens: 2}); err != nil {
		t.Fatal(err)
	}
	ended := 0
	for _, s := range unread {
		for _, err := range s.All() {
			if err == nil {
				continue
			}
			if runtime.CodeOf(err) != runtime.CodeClosed {
				t.Errorf("%v", err)
			}
			ended++
		}
	}
	if ended == 0 {
		t.Error("no stream was ended, and yet there was room")
	}
}

// TestCallersKeepTheirSlices reuses what a request was made of at once.
func TestCallersKeepTheirSlices(t *testing.T) {
	m := tiny(t, testmodel.Config{})
	tokens, stops := []int32{10, 20, 30}, []string{"never said"}
	want, err := runtime.Generate(t.Context(), m, runtime.Request{Tokens: tokens, MaxTokens: 8, IgnoreEOS: true})
	if err != nil {
		t.Fatal(err)
	}
	s, err := m.Start(t.Context(), runtime.Request{Tokens: tokens, Stop: stops, MaxTokens: 8, IgnoreEOS: true})
	if err != nil {
		t.Fatal(err)
	}
	clear(tokens)
	stops[0] = ""
	var got []int32
	for ev, err := range s.All() {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Kind == runtime.EventToken {
			got = append(got, ev.Token)
		}
	}
	if !slices.Equal(got, want.Tokens) {
		t.Errorf("%v, want %v", got, want.Tokens)
	}
}

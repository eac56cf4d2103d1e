package loadsim

import (
	"context"

	"github.com/dunlin-go/dunlin/runtime"
)

// Native is the [Target] inside the process. A request is a chat with one message
// from the user, decoded greedily, as [Client] sends it.
type Native struct{ Generator runtime.Generator }

// Do runs one request. Causes of failures are the texts of [runtime.Code].
func (n Native) Do(ctx context.Context, req Request, piece func()) (u Usage, err error) {
	for ev, err := range runtime.All(ctx, n.Generator, runtime.Request{
		Messages:  []runtime.Message{{Role: "user", Content: req.Text}},
		MaxTokens: req.MaxTokens, IgnoreEOS: req.IgnoreEOS,
	}) {
		if err != nil {
			return u, &RequestError{Cause: runtime.CodeOf(err).String(), Err: err}
		}
		if ev.Text != "" { // a server sends no event for the others
			piece()
		}
		if ev.Kind == runtime.EventFinish {
			u = Usage{
				Prompt: ev.Usage.PromptTokens, Output: ev.Usage.CompletionTokens, Cached: ev.Usage.CachedTokens,
				Told: true, CachedTold: true,
			}
		}
	}
	return u, nil
}

package runtime

import (
	"context"
	"errors"

	"github.com/dunlin-go/dunlin/internal/jinja"
	"github.com/dunlin-go/dunlin/models/gguf"
	"github.com/dunlin-go/dunlin/tokenizer"
)

// chatTemplate is a model's own template, or the reason why it has none that
// can be used: a model without one still takes prompts.
type chatTemplate struct {
	template *jinja.Template
	bos, eos string
	err      error
}

func newChatTemplate(f *gguf.File, tok *tokenizer.Tokenizer) chatTemplate {
	src, ok := f.String("tokenizer.chat_template")
	if !ok {
		return chatTemplate{err: &Error{Code: CodeUnsupported, Field: "messages", Err: errors.New("the model has no chat template: send a prompt instead of messages")}}
	}
	t, err := jinja.Parse(src, jinja.Limits{})
	if err != nil {
		return chatTemplate{err: templateError(err)}
	}
	return chatTemplate{template: t, bos: tok.Text(tok.BOS()), eos: tok.Text(tok.EOS())}
}

// ApplyTemplate implements [Templater] with the template in the model's file.
func (m *Model) ApplyTemplate(ctx context.Context, messages []Message, generationPrompt bool) (string, error) {
	t := &m.template
	if t.err != nil {
		return "", t.err
	}
	list := make([]jinja.Value, len(messages))
	for i, msg := range messages {
		d := jinja.NewDict()
		d.Set("role", jinja.String(msg.Role))
		d.Set("content", jinja.String(msg.Content))
		list[i] = d
	}
	text, err := t.template.Render(ctx, map[string]jinja.Value{
		"messages": jinja.NewList(list...), "add_generation_prompt": jinja.Bool(generationPrompt),
		"bos_token": jinja.String(t.bos), "eos_token": jinja.String(t.eos),
	})
	if err != nil {
		return "", templateError(err)
	}
	return text, nil
}

// templateError tells the model's faults from the request's.
func templateError(err error) error {
	code := CodeInvalidRequest
	if errors.Is(err, jinja.ErrSyntax) || errors.Is(err, jinja.ErrUnsupported) {
		code = CodeUnsupported
	}
	if ended := NewError(code, err); CodeOf(ended) != code {
		return ended // the context's
	}
	return &Error{Code: code, Field: "messages", Err: err}
}

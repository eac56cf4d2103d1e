package runtime

import (
	"context"
	"errors"
	"strings"

	"github.com/dunlin-go/dunlin/internal/budget"
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

// Bounds of a template: the largest in use have some 30 KB. While it is parsed
// its tokens take far more than what is kept of it, which is part of it.
const (
	maxTemplateBytes    = 128 << 10
	templateKeepFactor  = 32
	templateParseFactor = 256 + templateKeepFactor
)

// newChatTemplate parses the file's template. What is wrong with it is told to
// those who use it; the model's other requests don't need it.
func newChatTemplate(f *gguf.File, tok *tokenizer.Tokenizer, b *budget.Budget, lease *budget.Lease) chatTemplate {
	src, ok := f.String("tokenizer.chat_template")
	if !ok {
		return chatTemplate{err: &Error{Code: CodeUnsupported, Field: "messages", Err: errors.New("the model has no chat template: send a prompt instead of messages")}}
	}
	parsing := b.Lease()
	defer parsing.Close()
	src = src[:min(len(src), maxTemplateBytes+1)] // one that is too long is refused, and no more of it copied
	size := int64(len(src))
	if err := parsing.Reserve(budget.Metadata, size*templateParseFactor); err != nil {
		return chatTemplate{err: NewError(CodeResourceExhausted, err)}
	}
	t, err := jinja.Parse(strings.Clone(src), jinja.Limits{SourceBytes: maxTemplateBytes})
	if err != nil {
		return chatTemplate{err: &Error{Code: CodeUnsupported, Field: "messages", Err: oneLineError{err}}}
	}
	if err := lease.Reserve(budget.Metadata, size*templateKeepFactor); err != nil {
		return chatTemplate{err: NewError(CodeResourceExhausted, err)}
	}
	return chatTemplate{template: t, bos: tok.Text(tok.BOS()), eos: tok.Text(tok.EOS())}
}

// What a rendering may use, and is priced at while it runs: room for the
// template's own values, and some copies of the messages.
const (
	templateBytes  = 4 << 20
	templateFactor = 64
	messageBytes   = 1024
)

// ApplyTemplate implements [Templater] with the template in the model's file.
func (m *Model) ApplyTemplate(ctx context.Context, messages []Message, generationPrompt bool) (text string, err error) {
	if err := needContext(ctx); err != nil {
		return "", err
	}
	t := &m.template
	if t.err != nil {
		return "", t.err
	}
	price := int64(templateBytes + messageBytes*len(messages))
	for _, msg := range messages {
		price += templateFactor * int64(len(msg.Role)+len(msg.Content))
	}
	lease := m.budget.Lease() // for as long as it renders
	defer lease.Close()
	if err := lease.Reserve(budget.Request, price); err != nil {
		return "", NewError(CodeResourceExhausted, err)
	}
	list := make([]jinja.Value, len(messages))
	for i, msg := range messages {
		d := jinja.NewDict()
		d.Set("role", jinja.String(msg.Role))
		d.Set("content", jinja.String(msg.Content))
		list[i] = d
	}
	err = guarded(CodeInternal, func() (err error) {
		text, err = t.template.WithLimits(jinja.Limits{MemoryBytes: price / 2, OutputBytes: price / 8}).Render(ctx, map[string]jinja.Value{
			"messages": jinja.NewList(list...), "add_generation_prompt": jinja.Bool(generationPrompt),
			"bos_token": jinja.String(t.bos), "eos_token": jinja.String(t.eos),
		})
		return err
	})
	switch {
	case err == nil:
		return text, nil
	case errors.Is(err, ctx.Err()):
		return "", contextError(ctx)
	}
	return "", templateError(err)
}

// templateError tells the model's faults from the request's.
func templateError(err error) error {
	code := CodeInvalidRequest
	if errors.Is(err, jinja.ErrSyntax) || errors.Is(err, jinja.ErrUnsupported) {
		code = CodeUnsupported
	}
	if own := (*Error)(nil); errors.As(err, &own) {
		return err // of a panic
	}
	return &Error{Code: code, Field: "messages", Err: oneLineError{err}}
}

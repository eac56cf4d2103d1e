package bridge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/runtime"
)

// textFactor is what a byte of a text takes while Python works on it.
const textFactor = 64

var errNoContext = &runtime.Error{Code: runtime.CodeInvalidRequest, Err: errors.New("the context is nil")}

// Tokenize implements [runtime.Tokenizer].
func (m *Model) Tokenize(ctx context.Context, text string, opt runtime.TokenizeOptions) ([]int32, error) {
	if ctx == nil {
		return nil, errNoContext
	}
	if text == "" && !opt.AddSpecial {
		return nil, nil
	}
	lease := m.budget.Lease()
	defer lease.Close()
	if err := lease.Reserve(budget.Request, textFactor*int64(len(text))); err != nil {
		return nil, coded(0, err)
	}
	ids, err := m.dev.Encode(ctx, text, opt.AddSpecial, opt.ParseSpecial)
	return ids, coded(runtime.CodeInvalidRequest, err)
}

// TokenBytes implements [runtime.Tokenizer].
func (m *Model) TokenBytes(id int32) []byte { return bytes.Clone(m.words.bytes(id)) }

// Detokenize is the text of ids as Transformers writes it.
func (m *Model) Detokenize(ctx context.Context, ids []int32, skipSpecial bool) (string, error) {
	if ctx == nil {
		return "", errNoContext
	}
	if err := m.checkTokens(ids); err != nil {
		return "", err
	}
	text, err := m.dev.Decode(ctx, ids, skipSpecial)
	return text, coded(runtime.CodeInvalidRequest, err)
}

// ApplyTemplate implements [runtime.Templater].
func (m *Model) ApplyTemplate(ctx context.Context, messages []runtime.Message, generationPrompt bool) (string, error) {
	if ctx == nil {
		return "", errNoContext
	}
	type message struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	list, size := make([]message, len(messages)), int64(0)
	for i, msg := range messages {
		list[i] = message(msg)
		size += int64(len(msg.Role) + len(msg.Content))
	}
	lease := m.budget.Lease()
	defer lease.Close()
	if err := lease.Reserve(budget.Request, textFactor*size); err != nil {
		return "", coded(0, err)
	}
	if err := m.checkText("messages", size); err != nil {
		return "", err
	}
	b, err := json.Marshal(list)
	if err != nil {
		return "", coded(runtime.CodeInternal, err)
	}
	text, err := m.dev.Template(ctx, b, generationPrompt)
	return text, field("messages", coded(runtime.CodeInvalidRequest, err))
}

// checkText refuses a text that can't fit the context: Transformers would tokenize all
// of it, and others wait meanwhile.
func (m *Model) checkText(name string, size int64) error {
	if least := size / int64(m.words.longest); least > int64(m.info.ContextLength) {
		return &runtime.Error{Code: runtime.CodeContextLength, Field: name, Err: &runtime.ContextLengthError{
			Prompt: int(least), Limit: m.info.ContextLength, AtLeast: true,
		}}
	}
	return nil
}

func (m *Model) tooLong(name string, tokens int) error {
	return &runtime.Error{Code: runtime.CodeContextLength, Field: name, Err: &runtime.ContextLengthError{Prompt: tokens, Limit: m.info.ContextLength}}
}

func (m *Model) checkTokens(ids []int32) error {
	for i, id := range ids {
		if id < 0 || int(id) >= m.desc.Vocabulary {
			return invalid("tokens", "token %d is %d, the vocabulary has %d", i, id, m.desc.Vocabulary)
		}
	}
	return nil
}

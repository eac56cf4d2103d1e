package runtimetest

import (
	"context"
	"fmt"
	"strings"

	"github.com/dunlin-go/dunlin/runtime"
)

// The fake's special tokens; 0 to 255 are the bytes.
const (
	BOS        int32 = 256 // begins a prompt
	EOS        int32 = 257 // ends an answer
	vocabulary       = 258
)

// The text of the special tokens.
const (
	bosText = "<bos>"
	eosText = "<eos>"
)

// Tokenize gives one token for each byte.
func (f *Fake) Tokenize(ctx context.Context, text string, opt runtime.TokenizeOptions) ([]int32, error) {
	if err := ctx.Err(); err != nil {
		return nil, runtime.NewError(runtime.CodeCanceled, err)
	}
	return tokenize(text, opt), nil
}

func tokenize(text string, opt runtime.TokenizeOptions) []int32 {
	ids := make([]int32, 0, len(text)+1)
	if opt.AddSpecial {
		ids = append(ids, BOS)
	}
	for i := 0; i < len(text); {
		switch {
		case opt.ParseSpecial && strings.HasPrefix(text[i:], bosText):
			ids = append(ids, BOS)
			i += len(bosText)
		case opt.ParseSpecial && strings.HasPrefix(text[i:], eosText):
			ids = append(ids, EOS)
			i += len(eosText)
		default:
			ids = append(ids, int32(text[i]))
			i++
		}
	}
	return ids
}

// TokenBytes is the byte that a token stands for, or a special token's name.
func (f *Fake) TokenBytes(id int32) []byte {
	switch {
	case id == BOS:
		return []byte(bosText)
	case id == EOS:
		return []byte(eosText)
	case id >= 0 && id < BOS:
		return []byte{byte(id)}
	}
	return nil
}

// ApplyTemplate renders each message as "<|role|>\ncontent\n".
func (f *Fake) ApplyTemplate(ctx context.Context, messages []runtime.Message, generationPrompt bool) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", runtime.NewError(runtime.CodeCanceled, err)
	}
	return render(messages, generationPrompt), nil
}

func render(messages []runtime.Message, generationPrompt bool) string {
	var b strings.Builder
	for _, m := range messages {
		fmt.Fprintf(&b, "<|%s|>\n%s\n", m.Role, m.Content)
	}
	if generationPrompt {
		b.WriteString("<|assistant|>\n")
	}
	return b.String()
}

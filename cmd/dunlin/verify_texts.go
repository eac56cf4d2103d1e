package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dunlin-go/dunlin/runtime"
)

// verifyText is a text and what the report calls it.
type verifyText struct{ name, text string }

//go:embed testdata/shore.txt
var shore string

// longBytes of the long text are 400 tokens and more, also of a large vocabulary.
const longBytes = 2400

// builtinTexts are of kinds that tokenizers and models take differently.
var builtinTexts = []verifyText{
	{"prose", "The ship had been at sea for eleven days when the first mate saw the light. It stood low over the water, and nobody on board could say what it was."},
	{"code", "func fib(n int) int {\n\tif n < 2 {\n\t\treturn n\n\t}\n\treturn fib(n-1) + fib(n-2) // slow, but clear\n}\n"},
	{"Chinese and Japanese", "今天天气很好，我们去公园散步吧。明日は雨が降るかもしれません。東京タワーは赤いです。"},
	{"emoji", "Nice work 🎉👩‍💻! See you at the café ☕️ — naïve, señor, Ελλάδα 🇫🇷"},
	{"numbers", "3.14159 * 2 = 6.28318; 1,234,567 + 89 = 1234656; 2026-11-25T10:30:00Z; 0xdeadbeef"},
	{"whitespace", "  a\t\tb \n\n\n   c\r\n\t d    e  \n"},
	{"one word", "Hello"},
	{"long prose", shore[:min(longBytes, len(shore))]},
}

// verifyConversation is what both chat templates are given.
var verifyConversation = []runtime.Message{
	{Role: "user", Content: "What is a dunlin?"},
	{Role: "assistant", Content: "A small wading bird."},
	{Role: "user", Content: "  Where does it live? \n"},
}

// texts are those of the command line, or the built-in ones.
func (c *verifyCmd) texts(ctx context.Context) ([]verifyText, error) {
	var all []verifyText
	for i, text := range c.Text {
		all = append(all, verifyText{fmt.Sprintf("text %d", i+1), text})
	}
	for _, path := range c.File {
		text, err := readFile(ctx, path)
		if err != nil {
			return nil, err
		}
		all = append(all, verifyText{filepath.Base(path), text})
	}
	if len(all) == 0 {
		all = builtinTexts
	}
	return all, nil
}

func readFile(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return readAll(ctx, f, path)
}

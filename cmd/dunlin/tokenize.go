package main

import (
	"context"
	"fmt"
	"strconv"
	"text/tabwriter"

	"github.com/dunlin-go/dunlin/models/hub"
	"github.com/dunlin-go/dunlin/runtime"
)

// tokenizeCmd shows the tokens of a text.
type tokenizeCmd struct {
	Model     string `arg:"" help:"Path of a GGUF file, which may hold only a vocabulary, or of a tokenizer.json, or a name of the catalogue."`
	Text      string `arg:"" help:"The text; -: standard input, byte for byte."`
	IDs       bool   `name:"ids" help:"Print the ids as a JSON array."`
	NoSpecial bool   `help:"Add no BOS and EOS and take the text of special tokens as plain text."`
}

// Run tokenizes the text.
func (c *tokenizeCmd) Run(ctx context.Context, std *stdio) (err error) {
	path, err := hub.Resolve(c.Model)
	if err != nil {
		return err
	}
	text, err := std.text(ctx, c.Text)
	if err != nil {
		return err
	}
	tok, err := runtime.OpenTokenizer(ctx, path)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Model, err)
	}
	defer closeInto(&err, tok)
	ids, err := tok.Tokenize(ctx, text, runtime.TokenizeOptions{AddSpecial: !c.NoSpecial, ParseSpecial: !c.NoSpecial})
	if err != nil {
		return err
	}
	if c.IDs {
		return writeJSON(std.out, append([]int32{}, ids...)) // [], not null
	}
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "#\tid\t  token")
	for i, id := range ids {
		fmt.Fprintf(w, "%d\t%d\t  %s\n", i, id, strconv.Quote(string(tok.TokenBytes(id))))
	}
	return w.Flush()
}

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"text/tabwriter"

	"github.com/dunlin-go/dunlin/runtime"
)

// logitsCmd shows what a model thinks of a text.
type logitsCmd struct {
	Model string `arg:"" help:"Path of a GGUF file, a name of the catalogue, or transformers:DIR."`
	Text  string `arg:"" help:"The text, in which special tokens are parsed; -: standard input, byte for byte."`
	Top   int    `default:"10" placeholder:"N" help:"How many of the likeliest next tokens to show (default: ${default})."`
	JSON  bool   `help:"Print one JSON object."`
	engineFlags
}

type logitsResult struct {
	Tokens []int32    `json:"tokens"`
	Top    []topLogit `json:"top"`
	// MeanLogprob is nil for a single token, which nothing comes before.
	MeanLogprob *float64 `json:"mean_logprob"`
}

type topLogit struct {
	ID    int32   `json:"id"`
	Token string  `json:"token"`
	Logit float32 `json:"logit"`
}

// Run scores the text.
func (c *logitsCmd) Run(ctx context.Context, std *stdio) (err error) {
	text, err := std.text(ctx, c.Text)
	if err != nil {
		return err
	}
	m, err := c.load(ctx, c.Model, runtime.WithMaxSequences(1))
	if err != nil {
		return err
	}
	defer closeInto(&err, m)
	ids, err := m.Tokenize(ctx, text, runtime.TokenizeOptions{AddSpecial: true, ParseSpecial: true})
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		return errors.New("the text has no tokens")
	}
	score, err := m.Score(ctx, ids, runtime.ScoreOptions{Top: c.Top})
	if err != nil {
		return err
	}
	res := logitsResult{Tokens: ids, Top: []topLogit{}, MeanLogprob: mean(score.Logprobs)}
	for _, t := range score.Top {
		res.Top = append(res.Top, topLogit{t.ID, string(m.TokenBytes(t.ID)), t.Logit})
	}
	if c.JSON {
		return writeJSON(std.out, res)
	}
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "id\tlogit\t  token")
	for _, t := range res.Top {
		fmt.Fprintf(w, "%d\t%.4f\t  %s\n", t.ID, t.Logit, strconv.Quote(t.Token))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.out, "%d tokens%s\n", len(ids), meanText(res.MeanLogprob))
	return err
}

func mean(xs []float64) *float64 {
	if len(xs) == 0 {
		return nil
	}
	sum := 0.0
	for _, x := range xs {
		sum += x
	}
	sum /= float64(len(xs))
	return &sum
}

func meanText(m *float64) string {
	if m == nil {
		return ""
	}
	return fmt.Sprintf(", mean log-probability %.6f", *m)
}

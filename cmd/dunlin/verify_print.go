package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// print writes the report as a table or as JSON.
func (r *verifyReport) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return writeJSON(w, r)
	}
	fmt.Fprintf(w, "%s, activations %s, beside %s in Transformers %s, torch %s, %s\n", r.Model, r.Activations, r.Reference, r.Transformers, r.Torch, r.DType)
	fmt.Fprintf(w, "chat templates: %s\n\n", r.Template)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "text\ttokens\tlogit\tof all\tKL\tlargest\tagree\tmean\tgreedy\t")
	for i := range r.Texts {
		fmt.Fprintln(t, r.Texts[i].row())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	verdict := "all within bounds"
	if !r.OK {
		verdict = "not within bounds:\n  " + strings.Join(r.Failed, "\n  ")
	}
	_, err := fmt.Fprintf(w, "\n%s\n", verdict)
	return err
}

// row is a text's line of the table.
func (r *textResult) row() string {
	verdict := "ok"
	if len(r.Failed) > 0 {
		verdict = "FAILED"
	}
	if !r.TokensEqual {
		return fmt.Sprintf("%s\t%d\ttoken %d differs\t\t\t\t\t\t\t%s", r.Name, r.Tokens, r.FirstDifference, verdict)
	}
	off := "-"
	if r.MeanDifference != nil {
		off = fmt.Sprintf("%.3g %%", *r.MeanDifference*100)
	}
	return fmt.Sprintf("%s\t%d\t%.3g\t%.3g\t%.2g\t%.2g\t%.1f %%\t%s\t%d of %d\t%s", r.Name, r.Tokens, r.LogitLast, r.LogitMax,
		r.KLMean, r.KLMax, r.Agreement*100, off, r.GreedyCompared-r.GreedyDifferent, r.GreedyCompared, verdict)
}

// failure is the reason for the exit code.
func (r *verifyReport) failure() error {
	if r.OK {
		return nil
	}
	return errors.New(r.Model + " is not within bounds of the reference: " + strings.Join(r.Failed, "; "))
}

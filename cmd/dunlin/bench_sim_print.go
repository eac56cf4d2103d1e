package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
)

// figure is one measured number as people read it.
type figure struct{ name, value string }

// figures are all numbers, in the same order whatever was measured.
func (r *simReport) figures() []figure {
	f := r.Figures
	cached, goodput := "-", "-"
	if f.CachedTokens != nil {
		cached = strconv.Itoa(*f.CachedTokens)
	}
	if f.Goodput != nil {
		goodput = number(f.Goodput.PerSecond)
	}
	return []figure{
		{"requests done", strconv.Itoa(f.Done)},
		{"requests failed", strconv.Itoa(f.Failed)},
		{"requests not sent", strconv.Itoa(f.NotSent)},
		{"most in flight", strconv.Itoa(f.Peak)},
		{"duration, s", number(f.Seconds)},
		{"requests/s", number(f.PerSecond)},
		{"goodput, requests/s", goodput},
		{"prompt tokens", strconv.Itoa(f.PromptTokens)},
		{"prompt tokens of the trace", strconv.Itoa(f.AskedPrompt)},
		{"cached prompt tokens", cached},
		{"output tokens", strconv.Itoa(f.OutputTokens)},
		{"prompt tokens/s", number(f.PromptPerSecond)},
		{"output tokens/s", number(f.OutputPerSecond)},
		{"time to first token p50, ms", number(f.TimeToFirstToken.P50)},
		{"time to first token p90, ms", number(f.TimeToFirstToken.P90)},
		{"time to first token p99, ms", number(f.TimeToFirstToken.P99)},
		{"time between tokens p50, ms", number(f.TimeBetweenTokens.P50)},
		{"time between tokens p90, ms", number(f.TimeBetweenTokens.P90)},
		{"time between tokens p99, ms", number(f.TimeBetweenTokens.P99)},
		{"time per output token mean, ms", number(f.TimePerOutputToken)},
		{"end to end p50, ms", number(f.EndToEnd.P50)},
		{"end to end p90, ms", number(f.EndToEnd.P90)},
		{"end to end p99, ms", number(f.EndToEnd.P99)},
		{"client late p99, ms", number(f.Late.P99)},
	}
}

// print writes the report as a table, md, csv or json.
func (r *simReport) print(w io.Writer, format string) error {
	switch format {
	case "json":
		return writeJSON(w, r)
	case "csv":
		names, values := []string{"target", "trace"}, []string{r.target(), r.Trace.Name}
		for _, f := range r.figures() {
			names, values = append(names, f.name), append(values, f.value)
		}
		return csv.NewWriter(w).WriteAll([][]string{names, values})
	case "md":
		r.head(w)
		fmt.Fprint(w, "| figure | value |\n|---|---:|\n")
		for _, f := range r.figures() {
			fmt.Fprintf(w, "| %s | %s |\n", f.name, f.value)
		}
		return nil
	}
	r.head(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range r.figures() {
		fmt.Fprintf(t, "%s\t%12s\n", f.name, f.value)
	}
	return t.Flush()
}

// target is what was measured.
func (r *simReport) target() string {
	if r.Model != nil {
		return r.Model.ID
	}
	return r.URL
}

// head tells what was replayed, where, and what failed.
func (r *simReport) head(w io.Writer) {
	m := &r.Machine
	fmt.Fprintf(w, "%s, %d processors, %s/%s, kernels %s\n", m.CPU, m.Processors, m.OS, m.Arch, m.Kernels)
	if r.Model != nil {
		fmt.Fprintf(w, "%s: %s, %s, %s, in process with %d threads\n", r.Model.ID, r.Model.Architecture, r.Model.Quantization, humanBytes(r.Model.FileBytes), r.Threads)
	} else {
		fmt.Fprintf(w, "%s, model %s\n", r.URL, printable(r.Served))
	}
	name := printable(r.Trace.Name)
	if name == "" {
		name = "a trace"
	}
	how := fmt.Sprintf("arriving at %s each second", number(r.Trace.Rate))
	if r.Trace.Concurrency > 0 {
		how = fmt.Sprintf("from %d clients", r.Trace.Concurrency)
	} else if r.Trace.Rate == 0 {
		how = "arriving at once"
	}
	f := r.Figures
	fmt.Fprintf(w, "%s: %d requests %s; %s of their prompts repeat earlier ones; tokens counted by %s\n", name, f.Requests, how, percent(100*r.Trace.Shared), f.CountedBy)
	for _, failed := range f.Failures {
		fmt.Fprintf(w, "failed: %d by %s, such as: %s\n", failed.Count, printable(failed.Cause), printable(failed.Example))
	}
	if f.Goodput != nil {
		fmt.Fprintf(w, "goodput: %d of %d requests kept to %s\n", f.Goodput.Requests, f.Requests, f.Goodput.Objectives)
	}
	fmt.Fprintln(w)
}

// number keeps about three digits.
func number(f float64) string {
	digits := 0
	switch {
	case f < 10:
		digits = 2
	case f < 100:
		digits = 1
	}
	return strconv.FormatFloat(f, 'f', digits, 64)
}

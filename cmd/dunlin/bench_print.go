package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
)

// benchColumns are the columns of a report.
var benchColumns = []string{"test", "streams", "threads", "tokens/s", "min", "max", "GB/s", "of read", "GOP/s", "of peak"}

func (b *benchResult) cells() []string {
	return []string{
		b.Test, strconv.Itoa(b.Streams), strconv.Itoa(b.Threads), rate(b.TokensPerSecond), rate(b.Min), rate(b.Max),
		some(b.GBPerSecond, 1, rate), some(b.ReadShare, 100, percent), rate(b.GOPPerSecond), some(b.PeakShare, 100, percent),
	}
}

// print writes the report as a table, md, csv or json.
func (r *benchReport) print(w io.Writer, format string) error {
	switch format {
	case "json":
		return writeJSON(w, r)
	case "csv":
		out := csv.NewWriter(w)
		rows := [][]string{append([]string{"model", "quantization", "cpu", "kernels"}, benchColumns...)}
		for _, b := range r.Results {
			rows = append(rows, append([]string{r.Model.ID, r.Model.Quantization, r.Machine.CPU, r.Machine.Kernels}, b.cells()...))
		}
		return out.WriteAll(rows)
	case "md":
		r.head(w)
		fmt.Fprintf(w, "| %s |\n|---|%s\n", strings.Join(benchColumns, " | "), strings.Repeat("---:|", len(benchColumns)-1))
		for _, b := range r.Results {
			fmt.Fprintf(w, "| %s |\n", strings.Join(b.cells(), " | "))
		}
		return nil
	}
	r.head(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, strings.Join(benchColumns, "\t")+"\t")
	for _, b := range r.Results {
		fmt.Fprintln(t, strings.Join(b.cells(), "\t")+"\t")
	}
	return t.Flush()
}

// head tells of the model and the machine.
func (r *benchReport) head(w io.Writer) {
	m := &r.Machine
	fmt.Fprintf(w, "%s, %d processors, %s/%s, kernels %s\n", m.CPU, m.Processors, m.OS, m.Arch, m.Kernels)
	for _, l := range r.Limits {
		if l.ClockGHz == 0 {
			continue
		}
		fmt.Fprintf(w, "limits with %d threads: int8 %s, float32 %s, plain read %s GB/s, clock %.2f GHz\n", l.Threads,
			peakText(l.Int8, l.Int8Share, l.Int8Of), peakText(l.Float32, l.Float32Share, l.Float32Of), rate(l.ReadGB), l.ClockGHz)
	}
	fmt.Fprintf(w, "%s: %s, %s, %s\n\n", r.Model.ID, r.Model.Architecture, r.Model.Quantization, humanBytes(r.Model.FileBytes))
}

func peakText(gops, share float64, instruction string) string {
	text := fmt.Sprintf("%s GOP/s (%s", rate(gops), instruction)
	if share > 0 {
		text += fmt.Sprintf(", %s of its design", percent(100*share))
	}
	return text + ")"
}

// some is a number where there is one.
func some(f, by float64, text func(float64) string) string {
	if f == 0 {
		return "-"
	}
	return text(f * by)
}

func rate(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }

func percent(f float64) string { return strconv.FormatFloat(f, 'f', 0, 64) + " %" }

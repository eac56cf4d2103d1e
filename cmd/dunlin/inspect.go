package main

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/models/gguf"
	"github.com/dunlin-go/dunlin/models/hub"
)

// inspectCmd shows what a model file says of itself, or what processes have in
// memory.
type inspectCmd struct {
	Of     []string `arg:"" name:"model|pid" help:"Path of a GGUF file, or of any part of a model in several, or a name of the catalogue; with --memory, ids of processes."`
	Memory bool     `help:"Show how much memory processes have, and of which models (Linux). A model is a mapped file that ends in .gguf, or of which 16 MiB or more are mapped and that isn't a program or library."`
	Full   bool     `help:"Give long arrays and texts of the metadata in full."`
	JSON   bool     `help:"Print one JSON object."`
}

type inspectResult struct {
	Format     string         `json:"format"`
	Version    uint32         `json:"version"`
	FileBytes  int64          `json:"file_bytes"`
	Alignment  uint64         `json:"alignment"`
	DataOffset uint64         `json:"data_offset"`
	Parts      []partRow      `json:"parts,omitempty"` // of a model in several files; what is above is of all, or of the first
	Metadata   map[string]any `json:"metadata"`
	Tensors    []tensorRow    `json:"tensors"`

	keys []string // of Metadata in the file's order
}

type partRow struct {
	File       string `json:"file"`
	Bytes      uint64 `json:"bytes"`
	Tensors    int    `json:"tensors"`
	Alignment  uint64 `json:"alignment"`
	DataOffset uint64 `json:"data_offset"`
}

type tensorRow struct {
	Name string `json:"name"`
	Part int    `json:"part,omitempty"` // from 1, of a model in several files
	Type string `json:"type"`
	// Shape is in GGUF's order: the length of a row first.
	Shape  []uint64 `json:"shape"`
	Offset uint64   `json:"offset"` // from the start of its file
	Bytes  uint64   `json:"bytes"`

	elements uint64
}

// Run prints the file's metadata, tensors and sizes, or the processes' memory.
func (c *inspectCmd) Run(ctx context.Context, std *stdio) error {
	if c.Memory {
		return c.memory(ctx, std)
	}
	if len(c.Of) != 1 {
		return fmt.Errorf("inspect shows one model, not %d (processes need --memory)", len(c.Of))
	}
	path, err := hub.Resolve(c.Of[0])
	if err != nil {
		return err
	}
	lease := budget.Process().Lease()
	defer lease.Close()
	res, err := inspect(path, c.Full, lease)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Of[0], err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(std.out, res)
	}
	return res.print(std, c.Full)
}

// inspect reads a file without loading it as a model, so it takes files that
// no architecture here can run.
func inspect(path string, full bool, lease *budget.Lease) (res *inspectResult, err error) {
	files, err := mapModel(path)
	if err != nil {
		return nil, err
	}
	defer closeInto(&err, files)
	err = readModel(files, lease, func(f *gguf.File) error {
		if err := lease.Reserve(budget.Metadata, inspectBytes(f, full)); err != nil {
			return err
		}
		res = newInspectResult(f, path, full)
		return nil
	})
	return res, err
}

// inspectBytes is the price of what is printed, and of its text: rows for keys and
// tensors, whose long values are cut; in full, boxed elements of arrays, of which a
// file may have one a byte.
func inspectBytes(f *gguf.File, full bool) int64 {
	const rowBytes, fullFactor = 2048, 64
	n := rowBytes * int64(f.Len()+f.TensorCount())
	for _, p := range f.Parts() {
		if full {
			n += fullFactor * int64(p.DataOffset)
		}
	}
	return n
}

func newInspectResult(f *gguf.File, path string, full bool) *inspectResult {
	r := &inspectResult{
		Format: "gguf", Version: f.Version(), Alignment: f.Alignment(), DataOffset: f.DataOffset(),
		Metadata: make(map[string]any, f.Len()), Tensors: make([]tensorRow, 0, f.TensorCount()),
	}
	parts, whole := f.Parts(), gguf.TrimPart(filepath.Base(path))
	for i, p := range parts {
		r.FileBytes += int64(p.Bytes)
		if len(parts) > 1 {
			r.Parts = append(r.Parts, partRow{gguf.PartPath(whole, i+1, len(parts)), p.Bytes, p.Tensors, p.Alignment, p.DataOffset})
		}
	}
	for key := range f.Keys() {
		v, _ := f.Any(key)
		r.Metadata[key] = metadataValue(v, full)
		r.keys = append(r.keys, key)
	}
	for t := range f.Tensors() {
		row := tensorRow{Name: t.Name, Type: t.Type.String(), Shape: slices.Clone(t.Dims()), Offset: t.Offset, Bytes: t.Bytes, elements: t.Elements()}
		if len(parts) > 1 {
			row.Part = t.Part + 1
		}
		r.Tensors = append(r.Tensors, row)
	}
	return r
}

func (r *inspectResult) print(std *stdio, full bool) error {
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "format\tGGUF version %d\n", r.Version)
	if len(r.Parts) == 0 {
		fmt.Fprintf(w, "file\t%s\n", bytesText(uint64(r.FileBytes)))
		fmt.Fprintf(w, "tensor data\tfrom byte %d, aligned to %d\n\n", r.DataOffset, r.Alignment)
	} else {
		fmt.Fprintf(w, "%d files\t%s\n\n", len(r.Parts), bytesText(uint64(r.FileBytes)))
		fmt.Fprintln(w, "part\tfile\tbytes\ttensors\tdata from\taligned to")
		for i, p := range r.Parts {
			fmt.Fprintf(w, "%d\t%s\t%d\t%d\t%d\t%d\n", i+1, printable(p.File), p.Bytes, p.Tensors, p.DataOffset, p.Alignment)
		}
		fmt.Fprintln(w)
	}
	for _, key := range r.keys {
		fmt.Fprintf(w, "%s\t%s\n", printable(key), metadataText(r.Metadata[key], full))
	}
	if err := w.Flush(); err != nil || len(r.Tensors) == 0 {
		return err
	}
	fmt.Fprintln(std.out)
	w = tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "tensor\ttype\tshape\toffset\tbytes"+r.partColumn("part"))
	for _, t := range r.Tensors {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d%s\n", printable(t.Name), t.Type, shapeText(t.Shape), t.Offset, t.Bytes, r.partColumn(strconv.Itoa(t.Part)))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return r.printSums(std)
}

// partColumn is a last column that only a model in several files has.
func (r *inspectResult) partColumn(text string) string {
	if len(r.Parts) == 0 {
		return ""
	}
	return "\t" + text
}

// printSums tells how much each type takes.
func (r *inspectResult) printSums(std *stdio) error {
	type sum struct {
		tensors         int
		elements, bytes uint64
	}
	byType, all := map[string]sum{}, sum{}
	for _, t := range r.Tensors {
		s := byType[t.Type]
		byType[t.Type] = sum{s.tensors + 1, s.elements + t.elements, s.bytes + t.Bytes}
		all = sum{all.tensors + 1, all.elements + t.elements, all.bytes + t.Bytes}
	}
	fmt.Fprintln(std.out)
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "type\ttensors\telements\tbytes")
	for _, name := range slices.Sorted(maps.Keys(byType)) {
		s := byType[name]
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\n", name, s.tensors, s.elements, bytesText(s.bytes))
	}
	fmt.Fprintf(w, "all\t%d\t%d\t%s\n", all.tensors, all.elements, bytesText(all.bytes))
	return w.Flush()
}

// printable is a name as it is, save for what a terminal would obey.
func printable(s string) string {
	q := strconv.Quote(s)
	return q[1 : len(q)-1]
}

func shapeText(dims []uint64) string {
	var parts []string
	for _, d := range dims {
		parts = append(parts, strconv.FormatUint(d, 10))
	}
	return strings.Join(parts, " x ")
}

func bytesText(n uint64) string { return fmt.Sprintf("%d (%s)", n, humanBytes(int64(n))) }

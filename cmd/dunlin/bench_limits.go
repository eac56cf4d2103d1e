package main

import (
	"errors"
	"strings"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/internal/probe"
	"github.com/dunlin-go/dunlin/models/gguf"
	"github.com/dunlin-go/dunlin/models/pool"
)

// benchLimits are the machine's own, for one number of threads.
type benchLimits struct {
	Threads int `json:"threads"`
	// Int8 and Float32 are the peaks of products, ReadGB a plain read of as much
	// memory as the weights have; 0 where this machine has no probe.
	ClockGHz     float64 `json:"clock_ghz"`
	Int8         float64 `json:"int8_gop_per_second"`
	Int8Of       string  `json:"int8_instruction"`
	Int8Share    float64 `json:"int8_share_of_design,omitempty"`
	Float32      float64 `json:"float32_gop_per_second"`
	Float32Of    string  `json:"float32_instruction"`
	Float32Share float64 `json:"float32_share_of_design,omitempty"`
	ReadGB       float64 `json:"read_gb_per_second"`
}

// best keeps the better of two measurements.
func (l *benchLimits) best(o *benchLimits) {
	if o.Int8 > l.Int8 {
		l.Int8, l.Int8Share = o.Int8, o.Int8Share
	}
	if o.Float32 > l.Float32 {
		l.Float32, l.Float32Share = o.Float32, o.Float32Share
	}
	l.ClockGHz, l.ReadGB = max(l.ClockGHz, o.ClockGHz), max(l.ReadGB, o.ReadGB)
}

// peakFor is the peak that products with weights of the type are bound by.
func (l *benchLimits) peakFor(quantization string, f32 bool) float64 {
	if f32 || strings.HasPrefix(quantization, "F") || strings.HasPrefix(quantization, "BF") {
		return l.Float32
	}
	return l.Int8
}

// work is what one token asks of a machine.
type work struct {
	bytes    float64 // of all matrices that a token meets
	layerOps float64 // multiplications and additions of the layers
	headOps  float64 // and of the output head
	mapped   *pool.Handle
	sample   []byte // what a plain read reads: as much of the largest mapped file, up to a bound
}

// maxSample is larger than the caches of all but a few machines.
const maxSample = 256 << 20

// workOf adds up the matrices of a model. The embedding is read row by row and
// counts only where it is the output head too.
func workOf(path string) (w *work, err error) {
	files, err := mapModel(path)
	if err != nil {
		return nil, err
	}
	w = &work{mapped: files}
	lease := budget.Process().Lease()
	defer lease.Close()
	err = readModel(files, lease, func(f *gguf.File) error {
		_, untied := f.Lookup("output.weight")
		for t := range f.Tensors() {
			dims := t.Dims()
			embedding := t.Name == "token_embd.weight"
			if len(dims) != 2 || embedding && untied {
				continue
			}
			ops := &w.layerOps
			if embedding || t.Name == "output.weight" {
				ops = &w.headOps
			}
			*ops += 2 * float64(dims[0]) * float64(dims[1])
			w.bytes += float64(t.Bytes)
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, files.Close())
	}
	for _, b := range files.Parts() {
		if len(b) > len(w.sample) {
			w.sample = b
		}
	}
	w.sample = w.sample[max(0, len(w.sample)-int(min(w.bytes, maxSample))):]
	return w, nil
}

// Close gives the mapping back.
func (w *work) Close() error { return w.mapped.Close() }

// limits measures the machine.
func (w *work) limits(threads int) *benchLimits {
	const times = 3
	i, f := probe.Int8(threads), probe.Float32(threads)
	l := &benchLimits{
		Threads: threads, ClockGHz: round3(probe.Clock() / 1e9),
		Int8: round3(i.PerSecond / 1e9), Int8Of: i.Instruction, Int8Share: round3(i.Share()),
		Float32: round3(f.PerSecond / 1e9), Float32Of: f.Instruction, Float32Share: round3(f.Share()),
	}
	for range times {
		l.ReadGB = max(l.ReadGB, round3(probe.Read(threads, w.sample)/1e9))
	}
	return l
}

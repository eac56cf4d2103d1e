//go:build linux && (amd64 || arm64)

package ffi_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/dunlin-go/dunlin/cbind"
	"github.com/dunlin-go/dunlin/cbind/internal/child"
	"github.com/dunlin-go/dunlin/cbind/internal/device"
	"github.com/dunlin-go/dunlin/cbind/internal/ffi"
	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/runtime"
)

// What is measured with: as many threads here, in children, and in plain Python.
const (
	threads = 2
	tokens  = 16
)

func smollm2(b *testing.B) string {
	b.Helper()
	return testmodel.Bridge(b, "smollm2")
}

func text(n int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(1000 + 97*i)
	}
	return ids
}

func must[T any](b *testing.B, value T, err error) T {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
	return value
}

// here is the interpreter of this process.
func here(b *testing.B) *ffi.Device {
	b.Helper()
	paths, err := device.Find("")
	must(b, paths, err)
	d, err := ffi.Start(paths, threads)
	return must(b, d, err)
}

func open(b *testing.B, opts ...cbind.Option) *cbind.Model {
	b.Helper()
	m, err := cbind.Open(b.Context(), smollm2(b), append(opts, cbind.WithRuntime(runtime.WithThreads(threads)))...)
	must(b, m, err)
	b.Cleanup(func() { must(b, 0, m.Close()) })
	return m
}

func openDevice(b *testing.B, d device.Device) device.Model {
	b.Helper()
	m, err := d.Open(b.Context(), smollm2(b), device.Options{DType: "float32"})
	must(b, m, err)
	b.Cleanup(func() { must(b, 0, m.Close()) })
	return m
}

// plain are functions of plain.py over the model that is open in this process.
type plain struct {
	b    *testing.B
	d    *ffi.Device
	mode string
	took *int64 // written by Python
}

func newPlain(b *testing.B, mode string) *plain {
	b.Helper()
	p := &plain{b, here(b), mode, new(int64)}
	source, err := os.ReadFile("../../testdata/plain.py")
	must(b, source, err)
	must(b, 0, p.d.Python(string(source)))
	return p
}

func (p *plain) call(function string, ids []int32) time.Duration {
	list := strings.ReplaceAll(fmt.Sprint(ids), " ", ",")
	must(p.b, 0, p.d.Python(fmt.Sprintf("%s(%d, %q, %s)", function, uintptr(unsafe.Pointer(p.took)), p.mode, list)))
	return time.Duration(*p.took)
}

// way is one of those that are compared. It times itself.
type way struct {
	name string
	call func() time.Duration
}

func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

// compare makes one call of each way in turn, each time beginning with another, and reports their
// medians in ms and the quartiles of what they take beside the first.
func compare(b *testing.B, ways []way) {
	b.Helper()
	const warmUp = 4
	took := make([][]float64, len(ways))
	round := func(n int) {
		for k := range ways {
			i := (n + k) % len(ways)
			time.Sleep(5 * time.Millisecond) // torch's threads spin for a while, and there are several processes
			took[i] = append(took[i], ways[i].call().Seconds()*1e3)
		}
	}
	for n := range warmUp {
		round(n)
	}
	for i := range took {
		took[i] = took[i][:0]
	}
	for n := 0; b.Loop(); n++ {
		round(n)
	}
	b.ReportMetric(0, "ns/op") // of all ways together: it says nothing
	for i, w := range ways {
		ratios := make([]float64, len(took[i]))
		for n := range ratios {
			ratios[n] = took[i][n] / took[0][n]
		}
		report(b, took[i], w.name+"-ms")
		if i > 0 {
			report(b, ratios, w.name+"/"+ways[0].name)
		}
	}
}

// report tells the quartiles.
func report(b *testing.B, values []float64, unit string) {
	slices.Sort(values)
	at := func(q float64) float64 { return values[int(q*float64(len(values)-1)+0.5)] }
	b.ReportMetric(at(0.25), unit+"-p25")
	b.ReportMetric(at(0.5), unit+"-p50")
	b.ReportMetric(at(0.75), unit+"-p75")
}

// infer is a whole forward and the release of its logits.
func infer(b *testing.B, m *cbind.Model, ids []int32) time.Duration {
	return timed(func() {
		out, err := m.Infer(b.Context(), cbind.Input{Tokens: ids})
		must(b, out, err).Release()
	})
}

// BenchmarkInferBesidePython: a forward of 16 tokens, through the bridge and in plain Python.
func BenchmarkInferBesidePython(b *testing.B) {
	m, isolated, ids := open(b), open(b, cbind.Isolated()), text(tokens)
	for _, mode := range []string{"no_grad", "inference_mode"} {
		b.Run(mode, func(b *testing.B) {
			p := newPlain(b, mode)
			compare(b, []way{
				{"python", func() time.Duration { return p.call("forward", ids) }},
				{"here", func() time.Duration { return infer(b, m, ids) }},
				{"isolated", func() time.Duration { return infer(b, isolated, ids) }},
			})
		})
	}
}

// decoder makes one step after the other, from 16 tokens to 80 and again.
type decoder struct {
	begin, step func(ids []int32) time.Duration
	past        int
}

func (d *decoder) next() time.Duration {
	const most = 80
	if d.past == 0 || d.past == most {
		d.begin(text(tokens))
		d.past = tokens
	}
	d.past++
	return d.step([]int32{int32(1000 + d.past)})
}

// steps are a model's, whose sequences are numbered from first.
func steps(b *testing.B, m device.Model, first uint64) *decoder {
	row := [1]device.Row{{Sequence: first}}
	step := func(ids []int32) time.Duration {
		row[0].Tokens = ids
		took := timed(func() {
			out, err := m.Step(row[:])
			must(b, out, err).Release()
		})
		row[0].Past += len(ids)
		return took
	}
	begin := func(ids []int32) time.Duration {
		must(b, 0, m.Drop([]uint64{row[0].Sequence}))
		row[0] = device.Row{Sequence: row[0].Sequence + 1}
		return step(ids)
	}
	return &decoder{begin: begin, step: step}
}

// BenchmarkStepBesidePython: a decode step with keys and values of 16 to 79 tokens.
func BenchmarkStepBesidePython(b *testing.B) {
	smollm2(b)
	paths, err := device.Find("")
	must(b, paths, err)
	children, err := child.Start(b.Context(), paths, threads)
	must(b, children, err)
	m, isolated := openDevice(b, here(b)), openDevice(b, children)
	for n, mode := range []string{"no_grad", "inference_mode"} {
		b.Run(mode, func(b *testing.B) {
			p, first := newPlain(b, mode), uint64(n)<<32
			python := &decoder{
				begin: func(ids []int32) time.Duration { return p.call("begin", ids) },
				step:  func(ids []int32) time.Duration { return p.call("step", ids) },
			}
			compare(b, []way{{"python", python.next}, {"here", steps(b, m, first).next}, {"isolated", steps(b, isolated, first).next}})
		})
	}
}

// BenchmarkInferAllocates: what Go allocates for a forward doesn't grow with its logits.
func BenchmarkInferAllocates(b *testing.B) {
	m := open(b)
	for _, n := range []int{4, 256} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			ids := text(n)
			for b.Loop() {
				infer(b, m, ids)
			}
			b.ReportMetric(float64(4*n*m.Info().Vocabulary), "logits-B/op")
		})
	}
}

package models_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	goruntime "runtime"
	"slices"
	"testing"
	"time"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/internal/exec"
	"github.com/dunlin-go/dunlin/internal/probe"
	"github.com/dunlin-go/dunlin/models/pool"
	"github.com/dunlin-go/dunlin/tensor"
)

// BenchmarkProducts computes nothing but the products of a real model's layers,
// with all threads. Rates are medians of passes over all layers, each beside a
// plain read of the same bytes and the peak of the multipliers.
func BenchmarkProducts(b *testing.B) {
	path := os.Getenv("DUNLIN_TEST_MODEL")
	if path == "" {
		b.Skip("DUNLIN_TEST_MODEL is not set")
	}
	h, err := pool.Open(path) // not ReadFile: the heap has other pages than a mapping
	if err != nil {
		b.Fatal(err)
	}
	defer h.Close()
	data := h.Bytes()
	f := parse(b, data)
	// What a layer multiplies with the same input.
	steps := [][]string{{"attn_q", "attn_k", "attn_v"}, {"attn_output"}, {"ffn_gate", "ffn_up"}, {"ffn_down"}}
	var layers [][]*tensor.Tensor
	size, ops, maxCols, maxRows := 0, 0, 0, 0
	for n := 0; ; n++ {
		if _, ok := f.Lookup(fmt.Sprintf("blk.%d.attn_q.weight", n)); !ok {
			break
		}
		for _, names := range steps {
			var ws []*tensor.Tensor
			for _, name := range names {
				info, ok := f.Lookup(fmt.Sprintf("blk.%d.%s.weight", n, name))
				if !ok {
					b.Fatalf("layer %d has no %s", n, name)
				}
				d, err := f.Data(info)
				if err != nil {
					b.Fatal(err)
				}
				w, err := tensor.New(name, info.Type, int(info.Shape[1]), int(info.Shape[0]), d)
				if err != nil {
					b.Fatal(err)
				}
				ws = append(ws, w)
				size, ops = size+len(d), ops+2*w.Rows*w.Cols
				maxCols, maxRows = max(maxCols, w.Cols), max(maxRows, w.Rows)
			}
			layers = append(layers, ws)
		}
	}
	threads := goruntime.GOMAXPROCS(0)
	sample := data[len(data)-size:]
	for _, tokens := range []int{1, 4, 16, 64, 512} {
		b.Run(fmt.Sprintf("T%d", tokens), func(b *testing.B) {
			c, err := tensor.NewCompute(budget.New(2<<30).Lease(), tensor.ActivationsInt8, tensor.Limits{Threads: threads, Tokens: tokens, MaxCols: maxCols, HeadDim: 64})
			if err != nil {
				b.Fatal(err)
			}
			ex := exec.New(threads)
			defer ex.Close()
			rng := rand.New(rand.NewPCG(1, 2))
			x := make([]float32, tokens*maxCols)
			for i := range x {
				x[i] = float32(rng.NormFloat64())
			}
			out := make([][]float32, 3)
			for i := range out {
				out[i] = make([]float32, tokens*maxRows)
			}
			pass := func() error {
				for _, ws := range layers {
					products := make([]tensor.Product, 0, len(out))
					for i, w := range ws {
						products = append(products, tensor.Product{Out: out[i][:tokens*w.Rows], Weight: w})
					}
					c.Linears(c.Input(x[:tokens*ws[0].Cols], ws[0].Cols), products...)
				}
				return nil
			}
			var took, share, peak []float64
			for b.Loop() {
				read := probe.Read(threads, sample)
				limit := probe.Int8(threads).PerSecond
				begin := time.Now()
				if err := c.Step(context.Background(), ex, pass); err != nil {
					b.Fatal(err)
				}
				s := time.Since(begin).Seconds()
				took = append(took, s)
				share = append(share, float64(size)/s/read)
				peak = append(peak, float64(ops*tokens)/s/limit)
			}
			for _, v := range [][]float64{took, share, peak} {
				slices.Sort(v)
			}
			s := took[len(took)/2]
			b.ReportMetric(float64(ops*tokens)/s/1e9, "GOP/s")
			b.ReportMetric(100*peak[len(peak)/2], "%peak")
			b.ReportMetric(float64(tokens)/s, "tok/s")
			if tokens == 1 {
				b.ReportMetric(float64(size)/s/1e9, "GB/s")
				b.ReportMetric(100*share[len(share)/2], "%read")
			}
		})
	}
}

package models_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	goruntime "runtime"
	"slices"
	"testing"
	"time"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/internal/exec"
	"github.com/dunlin-go/dunlin/internal/probe"
	"github.com/dunlin-go/dunlin/models/gguf"
	"github.com/dunlin-go/dunlin/tensor"
)

// layerProducts are the matrices of all layers, those with the same input together.
func layerProducts(b *testing.B, f *gguf.File) (steps [][]*tensor.Tensor) {
	for n := 0; ; n++ {
		for _, names := range [][]string{{"attn_q", "attn_k", "attn_v"}, {"attn_output"}, {"ffn_gate", "ffn_up"}, {"ffn_down"}} {
			var ws []*tensor.Tensor
			for _, name := range names {
				info, ok := f.Lookup(fmt.Sprintf("blk.%d.%s.weight", n, name))
				switch {
				case !ok && name == "attn_q":
					return steps
				case !ok:
					b.Fatalf("layer %d has no %s", n, name)
				}
				data, err := f.Data(info)
				if err != nil {
					b.Fatal(err)
				}
				w, err := tensor.New(name, info.Type, int(info.Shape[1]), int(info.Shape[0]), data)
				if err != nil {
					b.Fatal(err)
				}
				ws = append(ws, w)
			}
			steps = append(steps, ws)
		}
	}
}

// BenchmarkProducts computes nothing but the products of a real model's layers,
// with all threads. Rates are medians of passes over all layers, each beside a
// plain read of the same bytes and the peak of the multipliers.
func BenchmarkProducts(b *testing.B) {
	data := realModel(b)
	steps := layerProducts(b, parse(b, data))
	size, ops, maxCols, maxRows := 0, 0, 0, 0
	for _, ws := range steps {
		for _, w := range ws {
			size, ops = size+w.Bytes(), ops+2*w.Rows*w.Cols
			maxCols, maxRows = max(maxCols, w.Cols), max(maxRows, w.Rows)
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
			passes := max(1, 4/tokens) // so that waking the workers counts for little
			products := make([]tensor.Product, 0, len(out))
			pass := func() error {
				for range passes {
					for _, ws := range steps {
						products = products[:0]
						for i, w := range ws {
							products = append(products, tensor.Product{Out: out[i][:tokens*w.Rows], Weight: w})
						}
						c.Linears(c.Input(x[:tokens*ws[0].Cols], ws[0].Cols), products...)
					}
				}
				return nil
			}
			var took, share, peak []float64
			for b.Loop() {
				b.StopTimer()
				read, limit := probe.Read(threads, sample), probe.Int8(threads).PerSecond
				b.StartTimer()
				begin := time.Now()
				if err := c.Step(context.Background(), ex, pass); err != nil {
					b.Fatal(err)
				}
				s := time.Since(begin).Seconds() / float64(passes)
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

package tensor

import (
	"context"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/internal/exec"
)

const testHeadDim = 32

// compute returns a Compute and a function that runs f in one of its steps.
func compute(t testing.TB, threads int, act Activations) (*Compute, func(f func())) {
	t.Helper()
	c, err := NewCompute(budget.New(1<<30).Lease(), act, Limits{Threads: threads, Tokens: 64, MaxCols: 256, HeadDim: testHeadDim})
	if err != nil {
		t.Fatal(err)
	}
	ex := exec.New(threads)
	t.Cleanup(ex.Close)
	return c, func(f func()) {
		t.Helper()
		if err := c.Step(context.Background(), ex, func() error { f(); return nil }); err != nil {
			t.Fatal(err)
		}
	}
}

func normal(rng *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

func f32Tensor(t testing.TB, rows, cols int, x []float32) *Tensor {
	t.Helper()
	var b []byte
	for _, v := range x {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	w, err := New("w", F32, rows, cols, b)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestNewRefuses(t *testing.T) {
	for _, tc := range []struct {
		dtype      DType
		rows, cols int
		bytes      int
		want       string
	}{
		{IQ1S, 1, 256, 50, "IQ1_S are not supported"},
		{DType(99), 1, 32, 32, "type 99 are not supported"},
		{F32, 2, 33, 2 * 33 * 4, "only multiples of 32"},
		{Q8_0, 1, 40, 34, "not whole blocks"},
		{F32, 0, 32, 0, "not whole blocks"},
		{F32, 2, 32, 2*32*4 - 1, "bytes are not"},
		{F32, 2, 32, 3 * 32 * 4, "bytes are not"},
	} {
		if _, err := New("w", tc.dtype, tc.rows, tc.cols, make([]byte, tc.bytes)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v %dx%d in %d bytes: %v, want %q", tc.dtype, tc.rows, tc.cols, tc.bytes, err, tc.want)
		}
	}
	if _, err := New("w", F32, 1, 32, make([]byte, 129)[1:]); err == nil || !strings.Contains(err.Error(), "aligned") {
		t.Errorf("unaligned floats: %v", err)
	}
}

// TestLinear compares with float64 within the rounding of the sum, and demands
// the same bits for any threads and any split of the batch.
func TestLinear(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const tokens, rows, cols = 21, 50, 128
	x, wf := normal(rng, tokens*cols), normal(rng, rows*cols)
	w := f32Tensor(t, rows, cols, wf)
	want := make([]float32, tokens*rows)
	for threads := 1; threads <= 3; threads++ {
		c, step := compute(t, threads, ActivationsInt8)
		out := make([]float32, tokens*rows)
		step(func() { c.Linear(out, w, c.Input(x, cols)) })
		if threads == 1 {
			copy(want, out)
			for i := range out {
				exact, size := 0.0, 0.0
				for k := range cols {
					p := float64(x[i/rows*cols+k]) * float64(wf[i%rows*cols+k])
					exact, size = exact+p, size+math.Abs(p)
				}
				if bound := cols * 0x1p-23 * size; math.Abs(exact-float64(out[i])) > bound {
					t.Fatalf("output %d is %g, want %g ± %g", i, out[i], exact, bound)
				}
			}
		}
		if !slices.Equal(out, want) {
			t.Errorf("%d threads: other bits", threads)
		}
		for i := range tokens { // one at a time
			step(func() { c.Linear(out[i*rows:(i+1)*rows], w, c.Input(x[i*cols:(i+1)*cols], cols)) })
		}
		if !slices.Equal(out, want) {
			t.Errorf("%d threads, token by token: other bits", threads)
		}
	}
}

func TestEmbedCopiesRows(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	x := normal(rng, 10*32)
	w := f32Tensor(t, 10, 32, x)
	c, step := compute(t, 2, ActivationsInt8)
	out := make([]float32, 3*32)
	step(func() { c.Embed(out, w, []int32{9, 0, 4}) })
	for i, row := range []int{9, 0, 4} {
		if !slices.Equal(out[i*32:(i+1)*32], x[row*32:(row+1)*32]) {
			t.Errorf("embedding %d isn't row %d", i, row)
		}
	}
}

func TestRope(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	const heads, headDim, dims, base = 3, testHeadDim, 8, 10000.0
	positions := []int32{0, 1, 7, 5000}
	factors := []float32{1, 2, 4, 8}
	x := normal(rng, len(positions)*heads*headDim)
	got := slices.Clone(x)
	table := NewRope(RopeConfig{Dims: dims, Base: base, Factors: factors}, len(positions))
	table.SetPositions(positions)
	c, step := compute(t, 2, ActivationsInt8)
	kv := KV{Layers: 1, Heads: 1, HeadDim: headDim, F32: make([]float32, 2*headDim*PageTokens)}
	b := Batch{Tokens: positions, Positions: positions, Seqs: make([]int32, len(positions)), Tables: []PageTable{make(PageTable, 5000/PageTokens+1)}}
	keys := slices.Clone(x[:len(positions)*headDim])
	step(func() { c.StoreKV(&kv, 0, got, keys, keys, table, &b) })
	for i := range x {
		pos, e := float64(positions[i/(heads*headDim)]), i%headDim
		want := float64(x[i])
		if e < dims {
			angle := pos * math.Pow(base, -float64(e&^1)/dims) / float64(factors[e/2])
			a, b := float64(x[i&^1]), float64(x[i|1])
			want = a*math.Cos(angle) - b*math.Sin(angle)
			if e%2 == 1 {
				want = a*math.Sin(angle) + b*math.Cos(angle)
			}
		}
		// The angle is rounded to float32, so its error grows with the position.
		if bound := 4 + pos; math.Abs(want-float64(got[i])) > bound*0x1p-22*4 {
			t.Errorf("element %d is %g, want %g", i, got[i], want)
		}
	}
}

// attentionCase is a ragged batch over two sequences whose pages lie in any
// order.
type attentionCase struct {
	kv     KV
	batch  Batch
	q      []float32
	k, v   [][]float32 // of each sequence, `[position, heads, headDim]`
	heads  int
	layers int
	scale  float32
	window int
}

func newAttentionCase(rng *rand.Rand, pageType DType) *attentionCase {
	return newAttentionCaseOf(rng, pageType, 77, 120)
}

func newAttentionCaseOf(rng *rand.Rand, pageType DType, lengths ...int) *attentionCase {
	const kvHeads, headDim, layers = 2, 32, 2
	pages := 5
	for _, length := range lengths {
		pages += length/PageTokens + 1
	}
	a := &attentionCase{heads: 6, layers: layers, kv: KV{Layers: layers, Heads: kvHeads, HeadDim: headDim}}
	switch pageType {
	case Q8_0:
		a.kv.Q8 = make([]byte, pages*layers*2*kvHeads*headDim*Q8_0.RowBytes(PageTokens))
	case F16:
		a.kv.F16 = make([]uint16, pages*a.kv.PageElements())
	default:
		a.kv.F32 = make([]float32, pages*a.kv.PageElements())
	}
	order := rng.Perm(pages)
	for _, length := range lengths {
		var table PageTable
		for range (length + PageTokens - 1) / PageTokens {
			table = append(table, int32(order[0]))
			order = order[1:]
		}
		for p := range length {
			a.batch.Tokens = append(a.batch.Tokens, 0)
			a.batch.Positions = append(a.batch.Positions, int32(p))
			a.batch.Seqs = append(a.batch.Seqs, int32(len(a.batch.Tables)))
		}
		a.batch.Tables = append(a.batch.Tables, table)
		a.k = append(a.k, normal(rng, length*kvHeads*headDim))
		a.v = append(a.v, normal(rng, length*kvHeads*headDim))
	}
	a.q = normal(rng, a.batch.Len()*a.heads*headDim)
	return a
}

// want is the attention of one query in float64, softmax as it is defined.
func (a *attentionCase) want(token, head int) []float64 {
	dim, kvHeads := a.kv.HeadDim, a.kv.Heads
	seq, n := a.batch.Seqs[token], int(a.batch.Positions[token])+1
	kvHead := head / (a.heads / kvHeads)
	q := a.q[(token*a.heads+head)*dim:][:dim]
	scale, first := 1/math.Sqrt(float64(dim)), 0
	if a.scale != 0 {
		scale = float64(a.scale)
	}
	if a.window != 0 {
		first = max(0, n-a.window)
	}
	scores, total := make([]float64, n), 0.0
	for p := first; p < n; p++ {
		dot := 0.0
		for i, x := range q {
			dot += float64(x) * float64(a.k[seq][(p*kvHeads+kvHead)*dim+i])
		}
		scores[p] = math.Exp(dot * scale)
		total += scores[p]
	}
	out := make([]float64, dim)
	for p, s := range scores {
		for i := range out {
			out[i] += s / total * float64(a.v[seq][(p*kvHeads+kvHead)*dim+i])
		}
	}
	return out
}

// run stores the keys and values in one batch or token by token, and attends.
func (a *attentionCase) run(c *Compute, step func(func()), whole bool) []float32 {
	out := make([]float32, len(a.q))
	batches := []Batch{a.batch}
	if !whole {
		batches = nil
		for i := range a.batch.Len() {
			batches = append(batches, Batch{
				Tokens: a.batch.Tokens[i : i+1], Positions: a.batch.Positions[i : i+1], Seqs: a.batch.Seqs[i : i+1], Tables: a.batch.Tables,
			})
		}
	}
	row, kvRow, at := a.heads*a.kv.HeadDim, a.kv.Heads*a.kv.HeadDim, 0
	for _, b := range batches {
		var k, v []float32
		for i, p := range b.Positions {
			s := b.Seqs[i]
			k = append(k, a.k[s][int(p)*kvRow:][:kvRow]...)
			v = append(v, a.v[s][int(p)*kvRow:][:kvRow]...)
		}
		n := b.Len()
		step(func() {
			c.StoreKV(&a.kv, 1, nil, k, v, nil, &b)
			c.Attention(out[at*row:(at+n)*row], a.q[at*row:(at+n)*row], AttentionOptions{Heads: a.heads, Scale: a.scale, Window: a.window}, &a.kv, 1, &b)
		})
		at += n
	}
	return out
}

func TestAttention(t *testing.T) {
	for _, tc := range []struct {
		name   string
		pages  DType
		bound  float64
		scale  float32
		window int
	}{
		// Scores and values are of the order of one; half a float16 step is 2^-11, half
		// a step of Q8_0 a hundredth.
		{"F32", F32, 1e-5, 0, 0},
		{"F16", F16, 4e-3, 0, 0},
		{"Q8_0", Q8_0, 4e-2, 0, 0},
		{"scaled", F32, 1e-5, 0.3, 0},
		{"a window of one", F16, 4e-3, 0, 1},
		{"a window of one in Q8_0", Q8_0, 4e-2, 0, 1},
		{"a window of two", F32, 1e-5, 0, 2},
		{"a window less than a page", F16, 4e-3, 0, 5},
		{"a window of a page", F32, 1e-5, 0, PageTokens},
		{"a window over pages", F32, 1e-5, 0, 2*PageTokens + 3},
		{"a window over pages in F16", F16, 4e-3, 0.3, 2*PageTokens + 5},
		{"a window over pages in Q8_0", Q8_0, 6e-2, 0.3, 2*PageTokens + 5},
		{"a window longer than a sequence", F32, 1e-5, 0, 100},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var first []float32
			for threads := 1; threads <= 3; threads++ {
				a := newAttentionCase(rand.New(rand.NewPCG(7, 8)), tc.pages)
				a.scale, a.window = tc.scale, tc.window
				c, step := compute(t, threads, ActivationsInt8)
				got := a.run(c, step, true)
				if first == nil {
					first = got
					dim, worst := a.kv.HeadDim, 0.0
					for token := range a.batch.Len() {
						for head := range a.heads {
							for i, want := range a.want(token, head) {
								worst = max(worst, math.Abs(want-float64(got[(token*a.heads+head)*dim+i])))
							}
						}
					}
					if t.Logf("largest difference %.2g", worst); !(worst < tc.bound) {
						t.Errorf("differs by %g, the bound is %g", worst, tc.bound)
					}
				}
				if !slices.Equal(got, first) {
					t.Errorf("%d threads: other bits", threads)
				}
				if !slices.Equal(a.run(c, step, false), first) {
					t.Errorf("%d threads, token by token: other bits", threads)
				}
			}
		})
	}
}

func TestAttentionNaNReachesTheOutput(t *testing.T) {
	for _, pages := range []DType{F16, Q8_0} {
		a := newAttentionCase(rand.New(rand.NewPCG(9, 10)), pages)
		a.k[0][3] = float32(math.NaN())
		c, step := compute(t, 1, ActivationsInt8)
		out := a.run(c, step, true)
		if !math.IsNaN(float64(out[18*a.heads*a.kv.HeadDim])) {
			t.Errorf("%v: a NaN in a key is lost", pages)
		}
	}
}

// TestAttentionLargeKeyReachesTheOutput: a key that is too large for its page's format
// makes NaN of what looks at it. As an infinity its score could be minus infinity, and the
// others' sum would look like a result.
func TestAttentionLargeKeyReachesTheOutput(t *testing.T) {
	inf := float32(math.Inf(1))
	for pages, values := range map[DType][]float32{F32: {inf, -inf}, F16: {1e6, -1e6, inf, -inf}, Q8_0: {1e8, -1e8, inf, -inf}} {
		for _, v := range values {
			a := newAttentionCase(rand.New(rand.NewPCG(9, 10)), pages)
			dim := a.kv.HeadDim
			a.k[0][3] = v // of the first key head, which half of the heads look at
			c, step := compute(t, 1, ActivationsInt8)
			out := a.run(c, step, true)
			for token, s := range a.batch.Seqs {
				for head := range a.heads {
					got := out[(token*a.heads+head)*dim]
					if want := s == 0 && head < a.heads/2; math.IsNaN(float64(got)) != want {
						t.Fatalf("%v: head %d of token %d of sequence %d is %g beside a key %g", pages, head, token, s, got, v)
					}
				}
			}
		}
	}
}

// TestAttentionSeesItsWindow puts what no token may see before the windows.
func TestAttentionSeesItsWindow(t *testing.T) {
	for _, pages := range []DType{F32, F16, Q8_0} {
		a := newAttentionCase(rand.New(rand.NewPCG(9, 10)), pages)
		a.window = PageTokens + 2
		c, step := compute(t, 1, ActivationsInt8)
		want := a.run(c, step, true)
		dim := a.kv.HeadDim
		last := len(a.k[1])/(a.kv.Heads*dim) - 1 // of the second sequence, the batch's last token
		for i := range a.k[1][:(last+1-a.window)*a.kv.Heads*dim] {
			a.k[1][i], a.v[1][i] = float32(math.NaN()), float32(math.Inf(1))
		}
		got := a.run(c, step, true)
		at := len(got) - a.heads*dim
		if !slices.Equal(got[at:], want[at:]) {
			t.Errorf("%v: the last token saw what is before its window", pages)
		}
		if before := got[at-a.heads*dim]; !math.IsNaN(float64(before)) {
			t.Errorf("%v: the token before it didn't see the key at the edge of its own: %g", pages, before)
		}
	}
}

// TestAttentionInGroups divides the layers into two groups: all bits stay, and nothing
// looks at pages that lie before all windows.
func TestAttentionInGroups(t *testing.T) {
	for _, pages := range []DType{F32, F16, Q8_0} {
		a := newAttentionCase(rand.New(rand.NewPCG(9, 10)), pages)
		a.window = 2*PageTokens + 3
		c, step := compute(t, 2, ActivationsInt8)
		want := a.run(c, step, true)
		a.kv.Layers, a.kv.Order = 1, []int32{0, 1} // the case is about layer 1
		for i, table := range a.batch.Tables {
			var both PageTable
			for _, page := range table {
				both = append(both, 2*page+1, 2*page)
			}
			a.batch.Tables[i] = both
		}
		if !slices.Equal(a.run(c, step, true), want) || !slices.Equal(a.run(c, step, false), want) {
			t.Errorf("%v: other bits", pages)
		}
		const n = 20 // the last tokens of the second sequence
		first, rows := a.batch.Len()-n, a.heads*a.kv.HeadDim
		b := Batch{Tokens: a.batch.Tokens[first:], Positions: a.batch.Positions[first:], Seqs: a.batch.Seqs[first:], Tables: a.batch.Tables}
		for i := range b.Tables[1] {
			if i%2 == 0 || i/2 < (int(b.Positions[0])+1-a.window)/PageTokens {
				b.Tables[1][i] = -1
			}
		}
		if b.Tables[1][1] != -1 || b.Tables[1][3] == -1 {
			t.Fatalf("the window begins on another page: %v", b.Tables[1])
		}
		got := make([]float32, n*rows)
		step(func() {
			c.Attention(got, a.q[first*rows:], AttentionOptions{Heads: a.heads, Window: a.window}, &a.kv, 1, &b)
		})
		if !slices.Equal(got, want[first*rows:]) {
			t.Errorf("%v: other bits without what is before the windows", pages)
		}
	}
}

// TestAttentionRefuses: batches without tokens, and attention without queries, have
// no shape to go by.
func TestAttentionRefuses(t *testing.T) {
	c, _ := compute(t, 1, ActivationsInt8)
	kv := &KV{Layers: 1, Heads: 1, HeadDim: testHeadDim, F32: make([]float32, 2*testHeadDim*PageTokens)}
	rope := NewRope(RopeConfig{Dims: testHeadDim, Base: 10000}, 1)
	none, one := &Batch{}, &Batch{Tokens: []int32{1}, Positions: []int32{0}, Seqs: []int32{0}, Tables: []PageTable{{0}}}
	x := make([]float32, testHeadDim)
	for name, run := range map[string]func(){
		"StoreKV":   func() { c.StoreKV(kv, 0, nil, nil, nil, nil, none) },
		"rotation":  func() { c.StoreKV(kv, 0, nil, nil, nil, rope, none) },
		"queries":   func() { c.StoreKV(kv, 0, nil, x, x, rope, one) },
		"Attention": func() { c.Attention(nil, nil, AttentionOptions{Heads: 1}, kv, 0, none) },
		"heads":     func() { c.Attention(nil, nil, AttentionOptions{}, kv, 0, one) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if msg, _ := recover().(string); !strings.HasPrefix(msg, "tensor: ") {
					t.Errorf("got %q, want a panic of this package", msg)
				}
			}()
			run()
		})
	}
}

func TestComputePricesItsMemory(t *testing.T) {
	for _, l := range []Limits{
		{Threads: 1, Tokens: math.MaxInt, MaxCols: 1 << 20, HeadDim: 64},
		{Threads: 1024, Tokens: 256, MaxCols: 1 << 24, HeadDim: 64},
		{Threads: 1, Tokens: 256, MaxCols: math.MaxInt &^ 31, HeadDim: 64},
	} {
		if _, err := NewCompute(budget.New(1<<20).Lease(), ActivationsInt8, l); err == nil {
			t.Errorf("%+v fit into a megabyte", l)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	w := f32Tensor(t, 64, 64, normal(rng, 64*64))
	norm := f32Tensor(t, 1, 64, normal(rng, 64))
	x, y, out := normal(rng, 4*64), make([]float32, 4*64), make([]float32, 4*64)
	c, step := compute(t, 2, ActivationsInt8)
	var allocs float64
	step(func() {
		allocs = testing.AllocsPerRun(100, func() {
			c.linear.order.at = 0 // as at the beginning of each step
			c.Linear(out, w, c.NormInput(y, x, out, norm, 1e-5))
			c.Linear(out, w, c.GateInput(y, out, 64))
		})
	})
	if allocs != 0 {
		t.Errorf("%v allocations a round", allocs)
	}
}

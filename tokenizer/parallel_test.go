package tokenizer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// longText has words, numbers, signs, long runs and broken bytes.
func longText(r *rand.Rand, n int) string {
	units := []string{"word ", " the", "Hello", "\n\n", "   ", "12345", "x=y;", "don't", "\u4f60\u597d", "\U0001f600", "\xff", "e\u0301", "<|im_end|>", "\t", "ABC"}
	var b strings.Builder
	for b.Len() < n {
		unit := units[r.IntN(len(units))]
		if r.IntN(200) == 0 {
			unit = strings.Repeat(unit[:1], r.IntN(2000))
		}
		b.WriteString(unit)
	}
	return b.String()
}

func smallParts(t *testing.T) {
	n := partBytes
	partBytes = 4 << 10
	t.Cleanup(func() { partBytes = n })
}

// TestParallel: a long text has the same tokens on any number of processors.
func TestParallel(t *testing.T) {
	defer goruntime.GOMAXPROCS(goruntime.GOMAXPROCS(0))
	smallParts(t)
	r := rand.New(rand.NewPCG(3, 0))
	n := 9 * partBytes
	texts := map[string]string{
		"mixed": longText(r, n), "a letter": strings.Repeat("a", n), "spaces": strings.Repeat(" ", n), "emoji": strings.Repeat("\U0001f600", n/4),
		"digits": strings.Repeat("1234567", n/7), "lines": strings.Repeat("a line of text\n", n/15), "nothing in common": strings.Repeat("a", n/2) + strings.Repeat(" b", n/4),
	}
	toks := map[string]*Tokenizer{"llama-spm": newTokenizer(t, readVocab(t, "testdata/llama-spm.vocab.json.gz"))}
	for _, pre := range []string{"gpt-2", "llama-bpe", "deepseek-coder", "tiny_aya", "qwen2", "bloom"} {
		v := readVocab(t, "testdata/gpt-2.vocab.json.gz")
		v.Pre = pre
		toks[pre] = newTokenizer(t, v)
	}
	var err error
	if toks["gemma"], err = jsonTokenizer(readGzip(t, "testdata/json/gemma.tokenizer.json.gz")); err != nil {
		t.Fatal(err)
	}
	for pre, tok := range toks {
		for name, text := range texts {
			t.Run(pre+"/"+name, func(t *testing.T) {
				goruntime.GOMAXPROCS(1)
				want, err := tok.Encode(t.Context(), nil, text, EncodeOptions{ParseSpecial: true})
				if err != nil {
					t.Fatal(err)
				}
				for _, procs := range []int{2, 3, 8} {
					goruntime.GOMAXPROCS(procs)
					b := budget.New(1 << 30)
					got, err := tok.Encode(t.Context(), nil, text, EncodeOptions{ParseSpecial: true, Budget: b})
					if err != nil {
						t.Fatal(err)
					}
					if !slices.Equal(got, want) {
						t.Fatalf("%d processors: %d tokens, not the %d of one", procs, len(got), len(want))
					}
					if b.Used() != 0 {
						t.Errorf("%d bytes are still charged", b.Used())
					}
				}
			})
		}
	}
}

// TestParallelEnds: limits, the budget and the context hold on all processors.
func TestParallelEnds(t *testing.T) {
	defer goruntime.GOMAXPROCS(goruntime.GOMAXPROCS(4))
	smallParts(t)
	tok := newTokenizer(t, readVocab(t, "testdata/gpt-2.vocab.json.gz"))
	text := strings.Repeat("some words ", 5*partBytes/11)
	all, err := tok.Encode(t.Context(), nil, text, EncodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tok.Encode(t.Context(), nil, text, EncodeOptions{Limit: len(all) - 1}); !errors.Is(err, ErrTooLong) {
		t.Error(err)
	}
	if got, err := tok.Encode(t.Context(), []ID{7}, text, EncodeOptions{Limit: len(all)}); err != nil || len(got) != len(all)+1 || got[0] != 7 {
		t.Errorf("%d tokens, %v", len(got), err)
	}
	if _, err := tok.Encode(t.Context(), nil, text, EncodeOptions{Budget: budget.New(1 << 13)}); !errors.Is(err, budget.ErrExceeded) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := &work{ctx: ctx, room: 1 << 30}
	if err := tok.encode(w, text, EncodeOptions{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func BenchmarkParallel(b *testing.B) {
	tok := newTokenizer(b, readVocab(b, "testdata/smollm.vocab.json.gz"))
	text := strings.Repeat("The licenses for most software are designed to take away your freedom to share and change it. ", 11000)
	for _, procs := range []int{1, 2} {
		b.Run(fmt.Sprint(procs), func(b *testing.B) {
			defer goruntime.GOMAXPROCS(goruntime.GOMAXPROCS(procs))
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			var ids []ID
			for b.Loop() {
				ids, _ = tok.Encode(b.Context(), ids[:0], text, EncodeOptions{})
			}
		})
	}
}

// TestPartsThatPass: a part that passes the next one's beginning without meeting
// it leaves its own marks as they are, which the one before may be reading.
func TestPartsThatPass(t *testing.T) {
	defer goruntime.GOMAXPROCS(goruntime.GOMAXPROCS(8))
	smallParts(t)
	v := readVocab(t, "testdata/gpt-2.vocab.json.gz")
	v.Rule = &Rule{Split: []string{`[a-z0-9]{1,1000}`}}
	tok := newTokenizer(t, v)
	text := strings.Repeat("0123456789abcdef", 8*partBytes/16)
	goruntime.GOMAXPROCS(1)
	want, err := tok.Encode(t.Context(), nil, text, EncodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	goruntime.GOMAXPROCS(8)
	for range 5 {
		if got, err := tok.Encode(t.Context(), nil, text, EncodeOptions{}); err != nil || !slices.Equal(got, want) {
			t.Fatalf("%d tokens, not %d: %v", len(got), len(want), err)
		}
	}
	// What such parts do twice is priced too.
	all, b := parts(text), budget.New(1<<30)
	w := &work{ctx: t.Context(), room: 1 << 30, budget: b}
	bp := tok.model.(*bytePairs)
	if err := bp.encodeParts(w, text, all); err != nil {
		t.Fatal(err)
	}
	if most := 4 * int64(len(want)) * 4; b.Used() < most {
		t.Errorf("%d bytes are priced for 8 parts that each go on to the end, at least %d are taken", b.Used(), most)
	}
	w.release()
	if b.Used() != 0 {
		t.Errorf("%d bytes are still charged", b.Used())
	}
}

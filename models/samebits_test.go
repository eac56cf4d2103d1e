package models_test

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	goruntime "runtime"
	"strings"
	"testing"

	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/models/gguf"
	"github.com/dunlin-go/dunlin/tensor"
)

// circumstance is what must not show in a request's logits.
type circumstance struct{ batch, chunk, threads int }

func (c circumstance) String() string {
	return fmt.Sprintf("a batch of %d, chunks of %d, %d threads", c.batch, c.chunk, c.threads)
}

// circumstances are all batches with all chunks, on 1 to 4 threads in turn, and
// each number of threads for one of them.
func circumstances() []circumstance {
	var all []circumstance
	for _, batch := range []int{1, 2, 7, 16, 32} {
		for _, chunk := range []int{1, 3, 64, 512} {
			all = append(all, circumstance{batch, chunk, len(all)%4 + 1})
		}
	}
	for threads := range 4 {
		all = append(all, circumstance{7, 64, threads + 1})
	}
	return all
}

// TestSameBits computes one request under many circumstances and with each
// format: every bit of its logits must be the same.
func TestSameBits(t *testing.T) {
	if err := unusable(); err != nil {
		t.Skip(err)
	}
	prompt := 520
	if testing.Short() || tensor.InstructionSet() == "generic" {
		prompt = 70
	}
	for arch, model := range testmodel.Architectures {
		for _, format := range []tensor.DType{tensor.Q4_1, tensor.Q8_0, tensor.F16, tensor.F32} {
			t.Run(arch+"/"+format.String(), func(t *testing.T) {
				sameBits(t, parse(t, model(testmodel.Config{
					Seed: 9, Embedding: 96, Heads: 6, KVHeads: 2, FeedForward: 160, ContextLength: 640, Weights: format, HeadType: format,
				})), tensor.F16, prompt, circumstances())
			})
		}
		t.Run(arch+"/pages of Q8_0", func(t *testing.T) {
			sameBits(t, parse(t, model(testmodel.Config{
				Seed: 9, Embedding: 384, Heads: 6, KVHeads: 2, FeedForward: 160, ContextLength: 640, Weights: tensor.Q4_1, HeadType: tensor.Q8_0,
			})), tensor.Q8_0, prompt, circumstances())
		})
	}
}

// TestSameBitsRealModel is TestSameBits for a real model's shapes.
func TestSameBitsRealModel(t *testing.T) {
	data := realModel(t)
	if testing.Short() {
		t.Skip("the real model is slow under -short")
	}
	for _, pages := range []tensor.DType{tensor.F16, tensor.Q8_0} {
		t.Run("pages of "+pages.String(), func(t *testing.T) {
			sameBits(t, parse(t, data), pages, 70, []circumstance{{1, 512, 2}, {1, 1, 1}, {2, 64, 2}, {7, 3, 3}, {16, 64, 2}, {32, 3, 4}})
		})
	}
}

// TestSameBitsGemma is TestSameBitsRealModel for Gemma 3 270M, on either side of
// its window of 512.
func TestSameBitsGemma(t *testing.T) {
	data := realModelAt(t, "DUNLIN_TEST_GEMMA")
	if testing.Short() {
		t.Skip("the real model is slow under -short")
	}
	sameBits(t, parse(t, data), tensor.F16, 530, []circumstance{{1, 64, 2}, {3, 50, 4}})
}

// TestSameBitsOfEachSet runs TestSameBits with every instruction set that the
// program knows, in processes of their own: the choice is made once.
func TestSameBitsOfEachSet(t *testing.T) {
	if testing.Short() {
		t.Skip("the sets are tested one by one without -short")
	}
	for _, set := range []string{"generic", "avx2", "avx512"} {
		t.Run(set, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestSameBits$", "-test.v")
			cmd.Env = append(os.Environ(), "DUNLIN_CPU="+set)
			out, err := cmd.CombinedOutput()
			switch {
			case err != nil:
				t.Fatalf("%v\n%s", err, out)
			case strings.Contains(string(out), "--- SKIP: TestSameBits "):
				t.Skipf("this program or CPU has no %s", set)
			case !strings.Contains(string(out), "--- PASS: TestSameBits/llama/F32 "):
				t.Fatalf("not all was run:\n%s", out)
			}
		})
	}
}

// unusable is why the instruction set that the environment asks for can't run.
func unusable() error {
	if want := os.Getenv("DUNLIN_CPU"); want != "" && tensor.InstructionSet() != want {
		return fmt.Errorf("no %s: %s", want, tensor.InstructionSet())
	}
	return nil
}

// sameBits compares the logits of a request's prompt and of a few tokens after
// it under all circumstances.
func sameBits(t *testing.T, f *gguf.File, pages tensor.DType, prompt int, all []circumstance) {
	defer goruntime.GOMAXPROCS(goruntime.GOMAXPROCS(4)) // or steps have fewer threads
	const answer = 3                                    // tokens that are decoded one by one
	rng := rand.New(rand.NewPCG(3, 5))
	tokens := make([]int32, prompt+answer)
	for i := range tokens {
		tokens[i] = rng.Int32N(testmodel.Vocabulary)
	}
	want := alone(t, f, pages, tokens)
	for _, c := range all {
		t.Run(c.String(), func(t *testing.T) {
			got := make([]uint64, 0, len(tokens))
			m := newMachineOf(t, f, tensor.ActivationsInt8, pages, c.batch, c.threads, min(c.chunk, prompt)+c.batch)
			mine := c.batch / 2 // others come before it in the batch, and after it
			for m.done[mine] < len(tokens) {
				at := m.done[mine]
				n := 1
				if at < prompt {
					n = min(c.chunk, prompt-at)
				}
				chunks := map[int][]int32{}
				for s := range c.batch {
					chunks[s] = []int32{rng.Int32N(testmodel.Vocabulary)}
				}
				chunks[mine] = tokens[at : at+n]
				for _, row := range m.stepFor(chunks, func(s int) bool { return s == mine })[mine] {
					got = append(got, hash(row))
				}
			}
			for i, h := range got {
				if h != want[i] {
					t.Fatalf("the logits after token %d have other bits than alone", i)
				}
			}
		})
	}
}

// alone computes the tokens in one thread, one at a time.
func alone(t *testing.T, f *gguf.File, pages tensor.DType, tokens []int32) []uint64 {
	m := newMachineOf(t, f, tensor.ActivationsInt8, pages, 1, 1, 1)
	var want []uint64
	for i := range tokens {
		want = append(want, hash(m.step(map[int][]int32{0: tokens[i : i+1]})[0][0]))
	}
	return want
}

func hash(row []float32) uint64 {
	h := fnv.New64a()
	var b [4]byte
	for _, v := range row {
		u := math.Float32bits(v)
		b = [4]byte{byte(u), byte(u >> 8), byte(u >> 16), byte(u >> 24)}
		h.Write(b[:])
	}
	return h.Sum64()
}

package cbind_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dunlin-go/dunlin/cbind"
	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/runtime"
	"github.com/dunlin-go/dunlin/runtime/runtimetest"
)

// TestConformance: the bridge behaves as every generator does.
func TestConformance(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			runtimetest.Conformance(t, func(t *testing.T) runtime.Generator { return open(t, "tiny", way.opts...) })
		})
	}
}

// TestScheme: importing the package is enough for runtime.Open.
func TestScheme(t *testing.T) {
	g, err := runtime.Open(t.Context(), "transformers:"+testmodel.Bridge(t, "tiny"), runtime.WithID("small"), runtime.WithContextLength(64))
	if err != nil {
		t.Fatal(err)
	}
	defer g.(*cbind.Model).Close()
	if info := g.Info(); info.ID != "small" || info.ContextLength != 64 || info.Architecture != "llama" {
		t.Errorf("the model is %+v", info)
	}
	_, err = runtime.Open(t.Context(), "transformers:"+testmodel.Bridge(t, "tiny"), runtime.WithPinned())
	if runtime.CodeOf(err) != runtime.CodeUnsupported || !strings.Contains(err.Error(), "WithPinned") {
		t.Errorf("an option of the native engine gave %v", err)
	}
}

// TestZeroCopy: torch reads the ids where Go has them, and Go allocates nothing for the logits.
func TestZeroCopy(t *testing.T) {
	m := open(t, "smollm2")
	infer := func(n int) {
		ids := make([]int32, n)
		out, err := m.Infer(t.Context(), cbind.Input{Tokens: ids})
		if err != nil {
			t.Fatal(err)
		}
		defer out.Release()
		if at := addressOf(ids); out.InputAddress() != at {
			t.Errorf("torch read the ids at %#x, Go has them at %#x", out.InputAddress(), at)
		}
		if v, err := out.Values(); err != nil || len(v) != n*m.Info().Vocabulary {
			t.Errorf("%d values, %v", len(v), err)
		}
	}
	infer(8) // what is allocated once
	few, many := allocated(func() { infer(2) }), allocated(func() { infer(200) })
	t.Logf("Go allocated %d bytes for logits of 0.4 MB, %d for 39 MB", few, many)
	if many > few+4096 {
		t.Errorf("Go allocated %d bytes for 2 tokens and %d for 200", few, many)
	}
}

// TestReleased: what was released can't be had any more.
func TestReleased(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			m := open(t, "tiny", way.opts...)
			out, err := m.Infer(t.Context(), cbind.Input{Tokens: []int32{5, 6, 7, 8}, Rows: 2})
			if err != nil {
				t.Fatal(err)
			}
			if s := out.Shape(); s[0] != 2 || s[1] != 2 {
				t.Errorf("the shape is %v", s)
			}
			out.Release()
			out.Release()
			if v, err := out.Values(); v != nil || !errors.Is(err, cbind.ErrReleased) {
				t.Errorf("after its release the output gave %d values, %v", len(v), err)
			}
			// A closed model's outputs stay readable.
			out, err = m.Infer(t.Context(), cbind.Input{Tokens: []int32{5, 6}})
			if err != nil {
				t.Fatal(err)
			}
			v, err := out.Values()
			if err != nil {
				t.Fatal(err)
			}
			want := v[0]
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			if v[0] != want {
				t.Errorf("closing the model changed an output from %v to %v", want, v[0])
			}
			out.Release()
			if _, err := m.Infer(t.Context(), cbind.Input{Tokens: []int32{5}}); runtime.CodeOf(err) != runtime.CodeClosed {
				t.Errorf("a closed model gave %v", err)
			}
		})
	}
}

// TestErrors: what Python says comes as one line, with a code.
func TestErrors(t *testing.T) {
	tiny := testmodel.Bridge(t, "tiny")
	damaged := copyModel(t, tiny)
	if err := os.Truncate(filepath.Join(damaged, "model.safetensors"), 1000); err != nil {
		t.Fatal(err)
	}
	encoder := copyModel(t, tiny)
	write(t, filepath.Join(encoder, "config.json"), `{"model_type": "t5", "is_encoder_decoder": true}`)
	strange := copyModel(t, tiny)
	write(t, filepath.Join(strange, "config.json"), `{"model_type": "nobody-knows"}`)
	garbage := filepath.Join(t.TempDir(), "garbage.gguf")
	write(t, garbage, "GGUF and then nothing")
	for _, way := range ways {
		for _, tc := range []struct {
			name, path string
			code       runtime.Code
		}{
			{"missing", testmodel.Bridge(t, "nowhere"), runtime.CodeModelNotFound},
			{"empty directory", t.TempDir(), runtime.CodeModelNotFound},
			{"a file", filepath.Join(tiny, "config.json"), runtime.CodeUnsupported},
			{"damaged", damaged, runtime.CodeInvalidModel},
			{"an encoder", encoder, runtime.CodeUnsupported},
			{"unknown architecture", strange, runtime.CodeInvalidModel},
			{"garbage", garbage, runtime.CodeInvalidModel},
		} {
			t.Run(way.name+"/"+tc.name, func(t *testing.T) {
				m, err := cbind.Open(t.Context(), tc.path, way.opts...)
				if err == nil {
					m.Close()
					t.Fatal("it was opened")
				}
				if runtime.CodeOf(err) != tc.code || strings.ContainsRune(err.Error(), '\n') {
					t.Errorf("%v: %v", runtime.CodeOf(err), err)
				}
				t.Log(err)
			})
		}
		t.Run(way.name+"/a template that raises", func(t *testing.T) {
			m := open(t, "tiny", way.opts...)
			_, err := runtime.Generate(t.Context(), m, runtime.Request{Messages: []runtime.Message{{Role: "tool", Content: "x"}}, MaxTokens: 1})
			var own *runtime.Error
			if !errors.As(err, &own) || own.Code != runtime.CodeInvalidRequest || own.Field != "messages" || !strings.Contains(err.Error(), "no tools here") {
				t.Errorf("got %#v", err)
			}
			if res, err := runtime.Generate(t.Context(), m, runtime.Request{Prompt: "on it goes", MaxTokens: 2}); err != nil || len(res.Tokens) != 2 {
				t.Errorf("afterwards: %v, %v", res, err)
			}
		})
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func copyModel(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "model")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// TestSetup: what is missing, or of another version, says what to run.
func TestSetup(t *testing.T) {
	path := testmodel.Bridge(t, "tiny")
	other := t.TempDir()
	write(t, filepath.Join(other, "libtransformers.so"), "not a library")
	if err := os.MkdirAll(filepath.Join(other, "venv", "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(other, "venv", "bin", "python"), "")
	for name, dir := range map[string]string{"nothing there": t.TempDir(), "other files": other} {
		for _, way := range ways {
			_, err := cbind.Open(t.Context(), path, append([]cbind.Option{cbind.WithDir(dir)}, way.opts...)...)
			var setup *cbind.SetupError
			if !errors.As(err, &setup) || runtime.CodeOf(err) != runtime.CodeUnsupported || !strings.Contains(err.Error(), "make bridge") {
				t.Errorf("%s, %s: %v", name, way.name, err)
			}
		}
	}
}

// TestBatching: requests at the same time share steps, and get what they get alone.
func TestBatching(t *testing.T) {
	m := open(t, "smollm2")
	prompts := []string{"The capital of France is", "Water boils at a temperature of", "One, two, three, four,", "def add(a, b):", "Once upon a time there was", "2 + 2 ="}
	const tokens = 12
	want := map[string]string{}
	for _, p := range prompts {
		res, err := runtime.Generate(t.Context(), m, runtime.Request{Prompt: p, MaxTokens: tokens, IgnoreEOS: true})
		if err != nil {
			t.Fatal(err)
		}
		want[p] = res.Text
	}
	before := m.Stats().Steps
	var wg sync.WaitGroup
	for _, p := range prompts {
		wg.Go(func() {
			res, err := runtime.Generate(t.Context(), m, runtime.Request{Prompt: p, MaxTokens: tokens, IgnoreEOS: true})
			if err != nil || res.Text != want[p] {
				t.Errorf("%q together gave %+v, %v, alone %q", p, res, err, want[p])
			}
		})
	}
	wg.Wait()
	if steps := m.Stats().Steps - before; steps > 3*tokens {
		t.Errorf("%d requests of %d tokens took %d steps", len(prompts), tokens, steps)
	}
}

// TestManyCallers: 64 goroutines that cancel, drop results and give up streams leave
// nothing behind.
func TestManyCallers(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			m := open(t, "tiny", append([]cbind.Option{cbind.WithRuntime(runtime.WithMaxSequences(16), runtime.WithQueue(32))}, way.opts...)...)
			var answered, ended, overloaded atomic.Int64
			round := func(n int) {
				var wg sync.WaitGroup
				for i := range 64 {
					wg.Go(func() {
						rng := rand.New(rand.NewPCG(uint64(i), 3))
						for range n {
							once(t, m, rng, &answered, &ended, &overloaded)
						}
					})
				}
				wg.Wait()
			}
			round(1) // what is started once
			waitIdle(t, m)
			goroutines, tasks, files := goruntime.NumGoroutine(), threads(t), descriptors(t)
			round(12)
			waitIdle(t, m)
			if n := goruntime.NumGoroutine(); n > goroutines+4 {
				t.Errorf("%d goroutines, %d before", n, goroutines)
			}
			if n := threads(t); n > tasks+8 {
				t.Errorf("%d threads, %d before", n, tasks)
			}
			if n := descriptors(t); n > files+2 {
				t.Errorf("%d descriptors, %d before", n, files)
			}
			t.Logf("%d answered, %d ended early, %d met a full queue; %d threads", answered.Load(), ended.Load(), overloaded.Load(), threads(t))
			if answered.Load() == 0 || ended.Load() == 0 {
				t.Error("nothing was answered, or nothing ended early")
			}
		})
	}
}

func once(t *testing.T, m *cbind.Model, rng *rand.Rand, answered, ended, overloaded *atomic.Int64) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if rng.IntN(3) == 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(rng.IntN(30))*time.Millisecond)
		defer cancel()
	}
	var err error
	switch rng.IntN(4) {
	case 0:
		ch := m.AsyncInfer(ctx, cbind.Input{Tokens: []int32{4, 5, 6}})
		if rng.IntN(2) == 0 {
			return // nobody waits
		}
		r := <-ch
		if err = r.Err; err == nil {
			r.Output.Release()
		}
	case 1:
		for _, e := range runtime.All(ctx, m, runtime.Request{Prompt: fmt.Sprint("a story of ", rng.IntN(1000)), IgnoreEOS: true}) {
			if err = e; rng.IntN(8) == 0 {
				break
			}
		}
	case 2:
		_, err = m.Tokenize(ctx, "some text", runtime.TokenizeOptions{})
	default:
		_, err = runtime.Generate(ctx, m, runtime.Request{Prompt: "once upon a time", MaxTokens: 1 + rng.IntN(20), Temperature: 1})
	}
	switch runtime.CodeOf(err) {
	case runtime.CodeOverloaded:
		overloaded.Add(1)
	case runtime.CodeCanceled, runtime.CodeDeadline:
		ended.Add(1)
	default:
		if err != nil {
			t.Errorf("%v: %v", runtime.CodeOf(err), err)
			return
		}
		answered.Add(1)
	}
}

func waitIdle(t *testing.T, m *cbind.Model) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		goruntime.GC() // which releases what nobody received
		s := m.Stats()
		if s.Running == 0 && s.Waiting == 0 && s.Budget.By[budget.Request] == 0 && s.KVBytes == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it doesn't come to rest: %+v", s)
		}
	}
}

// TestKilledChild: a child that is killed in the middle of answers ends those, and the next
// request gets another child.
func TestKilledChild(t *testing.T) {
	m := open(t, "tiny", cbind.Isolated())
	before, files := len(children(t)), descriptors(t)
	want, err := runtime.Generate(t.Context(), m, runtime.Request{Prompt: "once upon a time", MaxTokens: 8})
	if err != nil {
		t.Fatal(err)
	}
	kept, err := m.Infer(t.Context(), cbind.Input{Tokens: []int32{4, 5}})
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Release()
	for round := range 3 {
		var streams []*runtime.Stream
		for range 4 {
			s, err := m.Start(t.Context(), runtime.Request{Prompt: "once upon a time", IgnoreEOS: true})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Recv(); err != nil {
				t.Fatal(err)
			}
			streams = append(streams, s)
		}
		pids := children(t)
		if len(pids) != before {
			t.Fatalf("%d children, %d before", len(pids), before)
		}
		for _, pid := range pids {
			if err := kill(pid); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range streams {
			var crash *cbind.CrashError
			var err error
			for err == nil {
				_, err = s.Recv()
			}
			if !errors.As(err, &crash) || runtime.CodeOf(err) != runtime.CodeInternal || !strings.Contains(err.Error(), "killed") {
				t.Errorf("round %d: a request in flight ended with %v", round, err)
			}
		}
		var res *runtime.Result
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) { // after it died often there is a pause
			if res, err = runtime.Generate(t.Context(), m, runtime.Request{Prompt: "once upon a time", MaxTokens: 8}); err == nil || time.Now().After(deadline) {
				break
			}
		}
		if err != nil || res.Text != want.Text {
			t.Fatalf("round %d: the next request gave %+v, %v, want %q", round, res, err, want.Text)
		}
	}
	if v, err := kept.Values(); err != nil || len(v) != 2*m.Info().Vocabulary {
		t.Errorf("an output from before is %d values, %v", len(v), err)
	}
	if n := descriptors(t); n > files+2 {
		t.Errorf("%d descriptors, %d before", n, files)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if left := children(t); len(left) != 0 {
		t.Errorf("children are left: %v", left)
	}
}

// TestSharedWeights: torch computes with the mapped pages of a GGUF file, and gives what it
// gives with a copy.
func TestSharedWeights(t *testing.T) {
	path := filepath.Join(testmodel.Bridge(t, "smollm2-f16"), "model.gguf")
	ids := []int32{504, 3575, 282, 4649, 314}
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			opts := append([]cbind.Option{cbind.WithDType("float16")}, way.opts...)
			plain := openPath(t, path, opts...)
			shared := openPath(t, path, append(opts, cbind.WithSharedWeights())...)
			if plain.SharedBytes() != 0 {
				t.Errorf("a copy shares %d bytes", plain.SharedBytes())
			}
			// Query and key are in another order in the file, the norms are float32.
			all := 2 * shared.Info().Parameters
			t.Logf("%d of %d bytes are shared", shared.SharedBytes(), all)
			if shared.SharedBytes() < all*8/10 {
				t.Errorf("only %d of %d bytes are shared", shared.SharedBytes(), all)
			}
			var values [2][]float32
			for i, m := range []*cbind.Model{plain, shared} {
				out, err := m.Infer(t.Context(), cbind.Input{Tokens: ids})
				if err != nil {
					t.Fatal(err)
				}
				defer out.Release()
				if values[i], err = out.Values(); err != nil {
					t.Fatal(err)
				}
			}
			if i := firstDifference(values[0], values[1]); i >= 0 {
				t.Errorf("value %d is %v with a copy, %v with shared weights", i, values[0][i], values[1][i])
			}
		})
	}
}

// TestGGUF: a quantised file opens by itself.
func TestGGUF(t *testing.T) {
	testmodel.Bridge(t, "") // or skip
	path := os.Getenv("DUNLIN_TEST_MODEL")
	if path == "" {
		t.Skip("DUNLIN_TEST_MODEL is not set to the path of a model")
	}
	m := openPath(t, path)
	g := goldens(t, realModels["smollm2"])["01_capital"]
	out, err := m.Infer(t.Context(), cbind.Input{Tokens: g.IDs})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Release()
	v, err := out.Values()
	if err != nil {
		t.Fatal(err)
	}
	checkGolden(t, "01_capital", g, v[(len(g.IDs)-1)*m.Info().Vocabulary:])
}

func kill(pid int) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	defer p.Release() // it has a descriptor
	return p.Kill()
}

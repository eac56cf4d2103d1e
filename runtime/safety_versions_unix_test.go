//go:build unix

package runtime_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/runtime"
)

// TestVersionsOfOnePath replaces a file by rename again and again. The model of
// the old file and that of the new one serve side by side, each its own answers,
// until the old one is closed.
func TestVersionsOfOnePath(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	witness, err := runtime.LoadBytes(t.Context(), testmodel.Llama(small(testmodel.Config{})))
	if err != nil {
		t.Fatal(err)
	}
	defer shut(t, witness)
	budget := witness.Stats().BudgetUsed
	path := filepath.Join(t.TempDir(), "model.gguf")
	old := openAt(t, path, medium(20))
	want := answersOf(t, old, 12)
	for version := uint64(21); version < 26; version++ {
		fresh := openAt(t, path, medium(version))
		prompt := want[1].req
		if res, err := runtime.Generate(t.Context(), fresh, prompt); err != nil || res.Usage.CachedTokens > 0 {
			t.Errorf("the new version computed %+v (%v), want all of it", res, err)
		}
		now := answersOf(t, fresh, 12)
		if slices.Equal(now[0].logprobs, want[0].logprobs) {
			t.Fatal("the versions give the same, which proves nothing")
		}
		var callers sync.WaitGroup
		for i := range 16 {
			callers.Go(func() {
				for range 3 {
					check(t, "the old version", old, want, i)
					check(t, "the new version", fresh, now, i)
				}
			})
		}
		callers.Wait()
		shut(t, old)
		check(t, "the new version alone", fresh, now, 0)
		old, want = fresh, now
	}
	shut(t, old)
	if left := held(filepath.Dir(path)); len(left) > 0 {
		t.Errorf("files are still held: %q", left)
	}
	if used := witness.Stats().BudgetUsed; used != budget {
		t.Errorf("%d bytes of the budget are in use, before it were %d", used, budget)
	}
}

// TestFileChangesUnderATokenizer: a tokenizer has all that it needs from the file;
// who opens the file afterwards gets what is there then.
func TestFileChangesUnderATokenizer(t *testing.T) {
	const text = "hello in the hell, \u00e9\u4f60 <|im_end|>"
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "of", "model.gguf")
			writeModel(t, path, mediumModel())
			tok, err := runtime.OpenTokenizer(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			defer tok.Close()
			if left := held(filepath.Dir(path)); len(left) > 0 {
				t.Errorf("the file is still held: %q", left)
			}
			want, err := tok.Tokenize(t.Context(), text, runtime.TokenizeOptions{})
			if err != nil {
				t.Fatal(err)
			}
			damaged := make(chan struct{})
			var callers sync.WaitGroup
			for range 16 {
				callers.Go(func() {
					for after := 0; after < 2; {
						select {
						case <-damaged:
							after++
						default:
						}
						if ids, err := tok.Tokenize(t.Context(), text, runtime.TokenizeOptions{}); err != nil || !slices.Equal(ids, want) {
							t.Errorf("Tokenize gave %d, %v, want %d", ids, err, want)
						}
					}
				})
			}
			if err := d.do(path, mediumModel(), mediumOther()); err != nil {
				t.Fatal(err)
			}
			close(damaged)
			callers.Wait()
			again, err := runtime.OpenTokenizer(t.Context(), path)
			if d.codes != nil {
				checkError(t, "OpenTokenizer of what is there now", err, d.codes, nil)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			if ids, err := again.Tokenize(t.Context(), text, runtime.TokenizeOptions{}); err != nil || !slices.Equal(ids, want) {
				t.Errorf("Tokenize gave %d, %v, want %d", ids, err, want)
			}
		})
	}
}

// TestLoadOfAFileInMotion loads files while somebody cuts and writes them.
func TestLoadOfAFileInMotion(t *testing.T) {
	t.Run("model", func(t *testing.T) {
		loadInMotion(t, testmodel.Llama(testmodel.Config{Seed: 4}), func(path string) error {
			m, err := runtime.Load(t.Context(), path, runtime.WithContextLength(64))
			if err != nil {
				return err
			}
			if _, err := runtime.Generate(t.Context(), m, runtime.Request{Prompt: "hello", MaxTokens: 3}); err != nil {
				checkError(t, "Generate", err, []runtime.Code{runtime.CodeModelChanged}, nil)
			}
			return m.Close()
		})
	})
	tokenizer := func(t *testing.T) func(string) error {
		return func(path string) error {
			tok, err := runtime.OpenTokenizer(t.Context(), path)
			if err != nil {
				return err
			}
			if _, err := tok.Tokenize(t.Context(), "hello", runtime.TokenizeOptions{}); err != nil {
				t.Error(err)
			}
			return tok.Close()
		}
	}
	t.Run("tokenizer of a model", func(t *testing.T) {
		loadInMotion(t, testmodel.Llama(testmodel.Config{Seed: 4}), tokenizer(t))
	})
	t.Run("tokenizer.json", func(t *testing.T) {
		var tokens strings.Builder
		for i := range 5000 {
			if i > 0 {
				tokens.WriteString(",")
			}
			fmt.Fprintf(&tokens, `"t%d":%d`, i, i)
		}
		file := `{"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},"model":{"type":"BPE","vocab":{` + tokens.String() + `},"merges":[]}}`
		loadInMotion(t, []byte(file), tokenizer(t))
	})
}

// loadInMotion loads a file while it is cut at random places and written again.
func loadInMotion(t *testing.T, good []byte, load func(path string) error) {
	t.Helper()
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	path := filepath.Join(t.TempDir(), "model.gguf")
	writeModel(t, path, good)
	witness, err := runtime.LoadBytes(t.Context(), testmodel.Llama(small(testmodel.Config{})))
	if err != nil {
		t.Fatal(err)
	}
	defer shut(t, witness)
	budget := witness.Stats().BudgetUsed
	ctx, stop := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	writer.Go(func() {
		rng := rand.New(rand.NewPCG(1, 2))
		for ctx.Err() == nil {
			if err := errors.Join(os.Truncate(path, rng.Int64N(int64(len(good)))), overwrite(path, good)); err != nil {
				t.Error(err)
			}
			<-time.After(time.Duration(rng.Int64N(int64(2 * time.Millisecond)))) // whole for a moment
		}
	})
	outcomes := map[string]int{}
	for range 300 {
		err := load(path)
		if err == nil {
			outcomes["loaded"]++
			continue
		}
		checkError(t, "load", err, []runtime.Code{runtime.CodeInvalidModel, runtime.CodeModelChanged}, nil)
		outcomes[runtime.CodeOf(err).String()]++
	}
	stop()
	writer.Wait()
	t.Log(outcomes)
	if left := held(filepath.Dir(path)); len(left) > 0 {
		t.Errorf("the file is still held: %q", left)
	}
	if used := witness.Stats().BudgetUsed; used != budget {
		t.Errorf("%d bytes of the budget are in use, before it were %d", used, budget)
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, good) {
		t.Errorf("the file was changed by loading it: %v", err)
	}
}

package main

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/models/gguf"
	"github.com/dunlin-go/dunlin/tensor"
)

// verifyReal are the models that verify is tried with, and the bridge's directories of
// them.
var verifyReal = []struct{ env, reference string }{{"DUNLIN_TEST_MODEL", "smollm2"}, {"DUNLIN_TEST_GEMMA", "gemma3"}}

func eachVerifyReal(t *testing.T, f func(t *testing.T, model, reference string)) {
	for _, m := range verifyReal {
		t.Run(m.reference, func(t *testing.T) {
			model, reference := os.Getenv(m.env), testmodel.Bridge(t, m.reference)
			if model == "" {
				t.Skip(m.env + " is not set to the path of a model; `make test-bridge` sets it")
			}
			if testing.Short() {
				t.Skip("real models are slow under -short")
			}
			f(t, model, reference)
		})
	}
}

func TestVerifyRealModels(t *testing.T) {
	eachVerifyReal(t, func(t *testing.T, model, reference string) {
		code, out, errs := command("verify", model, "--reference", reference, "--json")
		if code != 0 || errs != "" {
			t.Fatalf("exit code %d, stdout %q, stderr %q", code, out, errs)
		}
		var got verifyReport
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatal(err)
		}
		if !got.OK || len(got.Texts) != len(builtinTexts) || got.Torch == "" || got.Transformers == "" || got.Bounds != int8Bounds {
			t.Errorf("%+v", got)
		}
		greedy := 0
		for _, r := range got.Texts {
			if r.LogitLast == 0 || r.KLMean == 0 || r.Tokens == 0 {
				t.Errorf("rounding must show somewhere: %+v", r)
			}
			greedy += r.GreedyCompared
		}
		if greedy < verifyGreedy {
			t.Errorf("only %d tokens of continuations were compared", greedy)
		}
		if last := got.Texts[len(got.Texts)-1]; last.Tokens < longText {
			t.Errorf("the long text has %d tokens", last.Tokens)
		}
	})
}

// TestVerifyDamaged: the scales of one layer are twice what they should be.
func TestVerifyDamaged(t *testing.T) {
	eachVerifyReal(t, func(t *testing.T, model, reference string) {
		damaged := damage(t, model)
		args := []string{"verify", damaged, "--reference", reference, "--text", builtinTexts[1].text}
		code, out, errs := command(args...)
		if code != 1 || !strings.Contains(out, "FAILED") || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "text 1: KL") {
			t.Errorf("exit code %d, stdout %s, stderr %q", code, out, errs)
		}
		t.Log(out)
		code, out, errs = command(append(args, "--json")...)
		var got verifyReport
		if err := json.Unmarshal([]byte(out), &got); code != 1 || err != nil || got.OK || len(got.Failed) == 0 || errs == "" {
			t.Errorf("exit code %d, %v, %+v, stderr %q", code, err, got, errs)
		}
	})
}

// scales are the bytes of a block at which a half-precision factor of all its weights
// stands; that of minimums is one too.
var scales = map[tensor.DType][]int{
	tensor.Q4_1: {0, 2}, tensor.Q4_K: {0, 2}, tensor.Q5_0: {0}, tensor.Q6_K: {208}, tensor.Q8_0: {0},
}

// damage doubles the scales of a layer in a copy of the file: of all its matrices, for
// most of Gemma 3's are followed by a norm, to which it makes no difference.
func damage(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Parse(data, budget.Process().Lease())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	matrices := 0
	for info := range f.Tensors() {
		if !strings.HasPrefix(info.Name, "blk.10.") || info.Type == tensor.F32 {
			continue
		}
		at, ok := scales[info.Type]
		if !ok {
			t.Fatalf("%v: where its scales are isn't known", info.Type)
		}
		matrices++
		for block := info.Offset; block < info.Offset+info.Bytes; block += uint64(info.Type.BlockBytes()) {
			for _, at := range at {
				scale := data[block+uint64(at):]
				binary.LittleEndian.PutUint16(scale, doubled(binary.LittleEndian.Uint16(scale)))
			}
		}
	}
	if matrices != 7 {
		t.Fatalf("layer 10 has %d matrices", matrices)
	}
	path = filepath.Join(t.TempDir(), "damaged.gguf")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// doubled is twice a half-precision number.
func doubled(h uint16) uint16 {
	const exponent, one = 0x7c00, 0x0400
	if h&exponent == 0 { // a fraction alone
		return h&0x8000 | h<<1&0x7fff
	}
	return h + one
}

func TestVerifyRefuses(t *testing.T) {
	t.Setenv("DUNLIN_BRIDGE", t.TempDir())
	t.Setenv("DUNLIN_CACHE", t.TempDir())
	model := filepath.Join(t.TempDir(), "tiny.gguf")
	if err := os.WriteFile(model, tinyModel(1), 0o600); err != nil {
		t.Fatal(err)
	}
	complaint(t, "make bridge", "verify", model)
	complaint(t, "native engine", "verify", "transformers:"+model)
	complaint(t, "neither a file", "verify", model, "--reference", "/nowhere/at/all")
	complaint(t, "no such file", "verify", model, "--file", "/nowhere/at/all")
	complaint(t, "--dtype must be one of", "verify", model, "--dtype", "int8")
}

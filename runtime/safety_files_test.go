package runtime_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/runtime"
	"github.com/dunlin-go/dunlin/tensor"
)

// Damaged files, made from good ones with fixed seeds. Each must end in one
// clear line with a fitting code, or load and then answer or fail with one; in
// bounded time and memory, and the budget is given back.

// badFile is a file and what may come of it.
type badFile struct {
	name  string
	data  []byte
	patch func([]byte)   // applied to a copy, where set
	codes []runtime.Code // that Load may return; nil: any fitting one, and it may load
	gen   []runtime.Code // that answers may end with; nil: any fitting one, and they may end well

	messages bool // only requests with messages may fail
}

func (f *badFile) bytes() []byte {
	if f.patch == nil {
		return f.data
	}
	data := slices.Clone(f.data)
	f.patch(data)
	return data
}

var (
	loadCodes = []runtime.Code{runtime.CodeInvalidModel, runtime.CodeUnsupported, runtime.CodeResourceExhausted}
	genCodes  = []runtime.Code{
		runtime.CodeNumerics, runtime.CodeUnsupported, runtime.CodeInvalidRequest, runtime.CodeContextLength, runtime.CodeResourceExhausted,
	}
	refused     = []runtime.Code{runtime.CodeInvalidModel, runtime.CodeUnsupported}
	invalid     = []runtime.Code{runtime.CodeInvalidModel}
	unsupported = []runtime.Code{runtime.CodeUnsupported}
	numerics    = []runtime.Code{runtime.CodeNumerics}
)

const (
	fileMemory    = 64 << 20  // the memory limit that files are loaded with
	fileAllocated = 100 << 20 // what loading and three answers may allocate
	fileTime      = 20 * time.Second
)

func TestDamagedFiles(t *testing.T) {
	for _, group := range []struct {
		name  string
		files func() []badFile
	}{
		{"not a model", notModels},
		{"cut", cutFiles},
		{"flipped", flippedFiles},
		{"lengths", absurdLengths},
		{"keys", badKeys},
		{"sizes", badSizes},
		{"gemma3", badGemma3},
		{"tensors", badTensors},
		{"vocabulary", badVocabularies},
		{"templates", badTemplates},
		{"weights", badWeights},
	} {
		t.Run(group.name, func(t *testing.T) {
			outcomes := map[string]int{}
			files := group.files()
			for _, f := range files {
				for _, outcome := range tryFile(t, f) {
					outcomes[outcome]++
				}
			}
			t.Logf("%d files: %v", len(files), outcomes)
		})
	}
}

// tryFile loads a file and asks it for three answers.
func tryFile(t *testing.T, f badFile) (outcomes []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), fileTime)
	defer cancel()
	var before, after goruntime.MemStats
	goruntime.ReadMemStats(&before)
	defer func() {
		goruntime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > fileAllocated {
			t.Errorf("%s: %d bytes were allocated", f.name, n)
		}
	}()
	m, err := runtime.LoadBytes(ctx, f.bytes(), runtime.WithMemoryLimit(fileMemory))
	if err != nil {
		checkError(t, f.name+": Load", err, f.codes, loadCodes)
		return []string{"refused: " + runtime.CodeOf(err).String()}
	}
	defer func() {
		if err := m.Close(); err != nil {
			t.Errorf("%s: Close: %v", f.name, err)
		}
	}()
	if f.codes != nil {
		t.Errorf("%s: it was loaded", f.name)
	}
	idle := m.Stats().BudgetUsed
	for i, req := range []runtime.Request{
		{Prompt: "hello", MaxTokens: 3, IgnoreEOS: true},
		{Tokens: []int32{1, 2, 0}, MaxTokens: 3, Logprobs: true, TopLogprobs: 20, Temperature: 1, TopP: 0.5, Seed: new(uint64)},
		{Messages: []runtime.Message{{Role: "user", Content: "hello"}}, MaxTokens: 3},
	} {
		res, err := runtime.Generate(ctx, m, req)
		if err != nil {
			checkError(t, f.name+": Generate", err, f.gen, genCodes)
			outcomes = append(outcomes, "answer failed: "+runtime.CodeOf(err).String())
			if f.messages && i < 2 {
				t.Errorf("%s: a request without messages failed: %v", f.name, err)
			}
			continue
		}
		outcomes = append(outcomes, "answer")
		if f.gen != nil {
			t.Errorf("%s: the answer was %q", f.name, res.Text)
		}
	}
	waitFor(t, "the budget of the requests", func() bool { return m.Stats().BudgetUsed == idle })
	return append(outcomes, "loaded")
}

func checkError(t *testing.T, what string, err error, want, fitting []runtime.Code) {
	t.Helper()
	var own *runtime.Error
	if !errors.As(err, &own) {
		t.Errorf("%s: an untyped error: %v", what, err)
		return
	}
	if want == nil {
		want = fitting
	}
	if !slices.Contains(want, own.Code) {
		t.Errorf("%s: code %v, want one of %v: %v", what, own.Code, want, err)
	}
	oneLine(t, err)
	if text := err.Error(); strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("%s: the error has characters that can't be printed: %q", what, text)
	}
}

// TestDamagedFilesGiveTheBudgetBack loads damaged files from the process's own
// budget, which another model shows.
func TestDamagedFilesGiveTheBudgetBack(t *testing.T) {
	witness := tiny(t, testmodel.Config{})
	before := witness.Stats().BudgetUsed
	for _, f := range slices.Concat(notModels(), cutFiles(), badTensors(), badVocabularies()) {
		m, err := runtime.LoadBytes(t.Context(), f.bytes())
		if err == nil {
			err = m.Close()
		}
		if got := witness.Stats().BudgetUsed; got != before {
			t.Fatalf("%s: %d bytes of the budget are in use, before it were %d (%v)", f.name, got, before, err)
		}
	}
}

func notModels() []badFile {
	rng := rand.NewChaCha8([32]byte{9})
	random := make([]byte, 4096)
	_, _ = rng.Read(random) // never fails
	var all []badFile
	for name, data := range map[string][]byte{
		"nil": nil, "empty": {}, "one byte": {0}, "the first byte": []byte("G"), "the magic": []byte("GGUF"),
		"text":            []byte("Not a model, but a letter to the editor.\n"),
		"html":            []byte("<!DOCTYPE html><html><body>404 Not Found</body></html>"),
		"git lfs pointer": []byte("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 98362432\n"),
		"zip":             append([]byte("PK\x03\x04\x14\x00"), make([]byte, 100)...), "gzip": append([]byte{0x1f, 0x8b, 8}, make([]byte, 100)...),
		"elf": append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 100)...), "ggml": append([]byte("lmgg"), make([]byte, 100)...),
		"safetensors": append([]byte{16, 0, 0, 0, 0, 0, 0, 0}, `{"__metadata__":{}}`...),
		"zeros":       make([]byte, 1<<16), "ones": bytes.Repeat([]byte{0xff}, 1<<16), "random": random,
		"magic and random": append([]byte("GGUF\x03\x00\x00\x00"), random...), "version 1": append([]byte("GGUF\x01\x00\x00\x00"), random...),
		"version 4": append([]byte("GGUF\x04\x00\x00\x00"), random...), "big-endian": append([]byte("GGUF\x00\x00\x00\x03"), random...),
		"no keys, no tensors": append([]byte("GGUF\x03\x00\x00\x00"), make([]byte, 16)...),
	} {
		all = append(all, badFile{name: name, data: data, codes: refused})
	}
	all = append(all, badFile{name: "not aligned", data: append([]byte{0}, goodFile()...)[1:], codes: unsupported})
	slices.SortFunc(all, func(a, b badFile) int { return strings.Compare(a.name, b.name) })
	return all
}

func goodFile() []byte {
	return testmodel.Llama(testmodel.Config{Weights: tensor.Q4_1, HeadType: tensor.Q8_0, Seed: 1, Layers: 1})
}

func cutFiles() []badFile {
	good := goodFile()
	head := len(good) - len(good)%32
	cuts := []int{1, 3, 4, 7, 8, 15, 16, 23, 24, 25, 32, head, len(good) - 1, len(good) - 33}
	rng := rand.New(rand.NewPCG(3, 1))
	for range 80 {
		cuts = append(cuts, rng.IntN(len(good)))
	}
	for i := range 40 { // the head has more to say
		cuts = append(cuts, 100+i*199)
	}
	var all []badFile
	for _, n := range cuts {
		if n < len(good) {
			all = append(all, badFile{name: fmt.Sprintf("the first %d of %d bytes", n, len(good)), data: good[:n:n], codes: invalid})
		}
	}
	return all
}

func flippedFiles() []badFile {
	good := goodFile()
	rng := rand.New(rand.NewPCG(3, 2))
	var all []badFile
	for i := range 400 {
		limit := len(good)
		if i%4 != 0 {
			limit = 2000 // the keys, and the lengths of the first tokens
		} else if i%8 == 0 {
			limit = 16000
		}
		n, seed := 1+rng.IntN(4), rng.Uint64()
		all = append(all, badFile{name: fmt.Sprintf("flip %d of %d bytes", i, n), data: good, patch: func(data []byte) {
			rng := rand.New(rand.NewPCG(seed, 3))
			for range n {
				data[rng.IntN(limit)] ^= byte(1 + rng.IntN(255))
			}
		}})
	}
	return all
}

// field is a number in the head of a GGUF file.
type field struct {
	name   string
	at     int
	is64   bool
	isType bool
}

// fields walks over a good file's head, written from the format's description.
// Of the strings in an array it notes the first two and the last.
func fields(b []byte) (all []field) {
	at := 8
	u32 := func() int { at += 4; return int(binary.LittleEndian.Uint32(b[at-4:])) }
	u64 := func() int { at += 8; return int(binary.LittleEndian.Uint64(b[at-8:])) }
	note := func(name string, is64, isType bool) { all = append(all, field{name, at, is64, isType}) }
	str := func(name string) string {
		if name != "" {
			note(name, true, false)
		}
		n := u64()
		at += n
		return string(b[at-n : at])
	}
	sizes := map[int]int{0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
	note("tensor count", true, false)
	tensors := u64()
	note("key count", true, false)
	for range u64() {
		key := str("length of a key")
		note("type of "+key, false, true)
		switch typ := u32(); typ {
		case 8:
			str("length of " + key)
		case 9:
			note("element type of "+key, false, true)
			elem := u32()
			note("count of "+key, true, false)
			n := u64()
			for i := range n {
				if elem != 8 {
					at += sizes[elem]
				} else if i < 2 || i == n-1 {
					str(fmt.Sprintf("length of %s[%d]", key, i))
				} else {
					str("")
				}
			}
		default:
			at += sizes[typ]
		}
	}
	for range tensors {
		name := str("length of a tensor's name")
		note("dimensions of "+name, false, false)
		for i := range u32() {
			note(fmt.Sprintf("dimension %d of %s", i, name), true, false)
			u64()
		}
		note("type of "+name, false, true)
		u32()
		note("offset of "+name, true, false)
		u64()
	}
	return all
}

// absurdLengths sets each count, length, size, offset and type in turn.
func absurdLengths() []badFile {
	good := goodFile()
	var all []badFile
	for _, f := range fields(good) {
		values := []uint64{
			0, 1, uint64(len(good)), 1 << 24, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1 << 40, 1 << 60, 1<<61 + 1, 1<<62 - 1,
			1<<63 - 1, 1 << 63, 1<<63 + 1, math.MaxUint64 - 31, math.MaxUint64,
		}
		if f.isType {
			values = []uint64{0, 1, 2, 3, 6, 8, 9, 12, 13, 30, 99, 1 << 31, math.MaxUint32}
		}
		for _, v := range values {
			all = append(all, badFile{name: fmt.Sprintf("%s = %d", f.name, v), data: good, patch: func(data []byte) {
				if f.is64 {
					binary.LittleEndian.PutUint64(data[f.at:], v)
				} else {
					binary.LittleEndian.PutUint32(data[f.at:], uint32(v))
				}
			}})
		}
	}
	return all
}

// modelKeys are the keys of a tiny model; each that is needed must be missed.
var modelKeys = map[string]bool{
	"general.architecture": true, "general.name": false, "llama.block_count": true, "llama.context_length": true,
	"llama.embedding_length": true, "llama.feed_forward_length": true, "llama.attention.head_count": true,
	"llama.attention.head_count_kv":          true, // without it the key tensors have the wrong shape
	"llama.attention.layer_norm_rms_epsilon": true, "llama.rope.freq_base": false,
	"tokenizer.ggml.model": true, "tokenizer.ggml.pre": false, "tokenizer.ggml.tokens": true, "tokenizer.ggml.token_type": false,
	"tokenizer.ggml.merges": false, "tokenizer.ggml.bos_token_id": false, "tokenizer.ggml.eos_token_id": false,
	"tokenizer.ggml.add_bos_token": false, "tokenizer.chat_template": false,
}

// badKeys leaves each key out, and gives each a value of every type.
func badKeys() []badFile {
	var all []badFile
	for _, key := range slices.Sorted(maps.Keys(modelKeys)) {
		f := badFile{name: "without " + key, data: testmodel.Llama(small(testmodel.Config{Without: []string{key}}))}
		if modelKeys[key] {
			f.codes = invalid
		}
		all = append(all, f)
		for _, v := range []any{
			"text", "", uint8(3), int8(-3), int32(-1), uint64(math.MaxUint64), float32(0.5), math.NaN(), true,
			[]string{"a", "b"},
			[]string{},
			[]int32{1, -2},
			[]uint8{1},
			[]float32{1},
			[]bool{true},
			[]any{[]string{"a"}},
		} {
			all = append(all, withKey(key, v))
		}
	}
	for _, key := range []string{"llama.unheard_of", "llama.of\ntwo\tlines", "llama.expert_count", "llama.attention.sliding_window"} {
		f := withKey(key, uint32(4))
		f.codes = unsupported
		all = append(all, f)
	}
	part := withKey("split.count", uint32(4)) // whose other parts are missing
	part.codes = invalid
	all = append(all, part)
	for _, arch := range []string{"", "LLAMA", "mamba", "llama\n", strings.Repeat("llama", 1000), "\xff\xfe"} {
		f := withKey("general.architecture", arch)
		f.codes = unsupported
		all = append(all, f)
	}
	for _, scaling := range []any{"linear", "yarn", "", "\x00", []string{"none"}, uint32(0)} {
		f := withKey("llama.rope.scaling.type", scaling)
		f.codes = unsupported
		all = append(all, f)
	}
	for _, a := range []any{uint32(0), uint32(1), uint32(3), uint32(1 << 31), uint64(1 << 63), "32", int32(-32)} {
		// The writer refuses what the reader must refuse too: set it afterwards.
		f := withKey("general.alignmenT", a)
		f.data = bytes.Replace(f.data, []byte("general.alignmenT"), []byte("general.alignment"), 1)
		f.codes = invalid
		all = append(all, f)
	}
	return all
}

// small makes a configuration as small as models get.
func small(c testmodel.Config) testmodel.Config {
	c.Layers, c.Embedding, c.Heads, c.KVHeads, c.FeedForward = 1, 32, 2, 1, 32
	return c
}

func withKey(key string, v any) badFile {
	return badFile{
		name: fmt.Sprintf("%s = %T %.20v", key, v, v),
		data: testmodel.Llama(small(testmodel.Config{Keys: map[string]any{key: v}})),
	}
}

// badSizes gives each number of the architecture absurd values.
func badSizes() []badFile {
	var all []badFile
	for _, key := range []string{
		"block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count",
		"attention.head_count_kv", "attention.key_length", "attention.value_length", "rope.dimension_count", "vocab_size",
	} {
		for _, v := range []any{
			uint32(0), uint32(1), uint32(2), uint32(3), uint32(7), uint32(63), uint32(1 << 20), uint32(1 << 24), uint32(1<<24 + 1),
			uint32(math.MaxUint32), int32(-1), int32(math.MinInt32), uint64(1 << 32), uint64(1 << 62), uint64(1 << 63), uint64(math.MaxUint64),
			int64(math.MinInt64), math.NaN(), math.Inf(1), float32(64),
			[]int32{64, 64},
		} {
			f := withKey("llama."+key, v)
			if v == any(uint32(0)) && key != "vocab_size" {
				f.codes = refused
			}
			all = append(all, f)
		}
	}
	for _, key := range []string{"attention.layer_norm_rms_epsilon", "rope.freq_base"} {
		for _, v := range []float64{0, math.Copysign(0, -1), -1, math.NaN(), math.Inf(1), math.Inf(-1)} {
			f := withKey("llama."+key, v)
			f.codes = invalid
			all = append(all, f)
		}
		for _, v := range []float64{1e-320, 1e-45, 1e-10, 1, 1e38, 1e39, math.MaxFloat64} {
			all = append(all, withKey("llama."+key, v))
		}
	}
	return all
}

// badGemma3 gives the numbers that only Gemma 3 has absurd values.
func badGemma3() []badFile {
	var all []badFile
	add := func(key string, v any, codes []runtime.Code) {
		all = append(all, badFile{
			name:  fmt.Sprintf("%s = %T %.20v", key, v, v),
			data:  testmodel.Gemma3(small(testmodel.Config{Keys: map[string]any{"gemma3." + key: v}})),
			codes: codes,
		})
	}
	for _, key := range []string{
		"attention.sliding_window", "attention.sliding_window_pattern", "attention.key_length", "attention.head_count",
		"attention.head_count_kv", "embedding_length", "block_count",
	} {
		for _, v := range []any{
			uint32(0), uint32(1), uint32(2), uint32(33), uint32(1 << 24), uint32(math.MaxUint32), int32(-1), uint64(1 << 62),
			uint64(math.MaxUint64), math.NaN(),
			[]bool{true, false},
		} {
			var codes []runtime.Code
			if v == any(uint32(0)) {
				codes = refused
			}
			add(key, v, codes)
		}
	}
	for _, key := range []string{"attention.scale", "final_logit_softcapping", "rope.freq_base", "rope.freq_base_swa", "rope.scaling.factor"} {
		for _, v := range []float64{0, math.Copysign(0, -1), -1, math.NaN(), math.Inf(1), math.Inf(-1), 1e39, 1e-320} {
			add(key, v, invalid)
		}
		for _, v := range []float64{1e-44, 1e-30, 1e38} {
			add(key, v, nil)
		}
	}
	return all
}

// eachTensor runs f for one tensor of a model after the other.
func eachTensor(c testmodel.Config, f func(t *testmodel.Tensor)) (all []badFile) {
	var names []string
	probe := c
	probe.Tensor = func(t *testmodel.Tensor) { names = append(names, t.Name) }
	testmodel.Llama(probe)
	for _, name := range names {
		c.Tensor = func(t *testmodel.Tensor) {
			if t.Name == name {
				f(t)
			}
		}
		all = append(all, badFile{name: name, data: testmodel.Llama(c)})
	}
	return all
}

func badTensors() (all []badFile) {
	c := small(testmodel.Config{Untied: true})
	add := func(what string, codes []runtime.Code, f func(t *testmodel.Tensor)) {
		for _, b := range eachTensor(c, f) {
			b.name += " " + what
			b.codes = codes
			all = append(all, b)
		}
	}
	add("renamed", refused, func(t *testmodel.Tensor) { t.Name += "x" })
	add("with a row less", refused, func(t *testmodel.Tensor) {
		last := len(t.Shape) - 1
		t.Shape[last]--
		t.Data = t.Data[:uint64(len(t.Data))/(t.Shape[last]+1)*t.Shape[last]]
	})
	add("turned", refused, func(t *testmodel.Tensor) {
		if len(t.Shape) == 2 && t.Shape[0] == t.Shape[1] {
			t.Shape = []uint64{2 * t.Shape[0], t.Shape[0] / 2}
			return
		}
		slices.Reverse(t.Shape)
		if len(t.Shape) == 1 {
			t.Shape = []uint64{1, t.Shape[0]}
		}
	})
	add("in three dimensions", refused, func(t *testmodel.Tensor) { t.Shape = []uint64{t.Shape[0] / 2, 2, uint64(len(t.Data)) / 4 / t.Shape[0]} })
	for _, typ := range []tensor.DType{tensor.Q8_1, tensor.I32, tensor.F64, tensor.I8} {
		add("as "+typ.String(), refused, func(t *testmodel.Tensor) {
			n := uint64(1)
			for _, d := range t.Shape {
				n *= d
			}
			t.Type, t.Data = typ, make([]byte, n/uint64(typ.Block())*uint64(typ.BlockBytes()))
		})
	}
	for _, b := range eachTensor(c, func(t *testmodel.Tensor) { t.Omit = true }) {
		if b.codes = invalid; b.name == "output.weight" {
			b.codes = nil // then the embedding is the head
		}
		b.name += " missing"
		all = append(all, b)
	}
	return append(all, overlaps()...)
}

// overlaps moves tensors onto others and off their alignment, and gives one the
// other's name.
func overlaps() (all []badFile) {
	good := testmodel.Llama(small(testmodel.Config{Untied: true}))
	for _, f := range fields(good) {
		if name, ok := strings.CutPrefix(f.name, "offset of "); ok {
			for _, delta := range []int64{-64, -32, -1, 1, 4, 32} {
				all = append(all, badFile{name: fmt.Sprintf("%s moved by %d", name, delta), data: good, codes: invalid, patch: func(data []byte) {
					now := binary.LittleEndian.Uint64(data[f.at:])
					binary.LittleEndian.PutUint64(data[f.at:], now+uint64(delta))
				}})
			}
		}
	}
	twice := bytes.Replace(good, []byte("blk.0.ffn_gate.weight"), []byte("blk.0.attn_q.weight\x00\x00"), 1)
	same := bytes.Replace(good, []byte("blk.0.attn_k.weight"), []byte("blk.0.attn_q.weight"), 1)
	key := bytes.Replace(good, []byte("llama.block_count"), []byte("llama.rope.freq_b"), 1)
	return append(all,
		badFile{name: "one name, two tensors", data: same, codes: invalid},
		badFile{name: "a name with zeros", data: twice, codes: refused},
		badFile{name: "another key", data: key, codes: refused})
}

// TestNothingOfTheHeadIsKept loads files with large texts in them: they are
// priced only while the file is read, so nothing may hold on to them.
func TestNothingOfTheHeadIsKept(t *testing.T) {
	junk := strings.Repeat("x", 8<<20)
	for _, key := range []string{"general.junk", "general.name", "tokenizer.chat_template"} {
		t.Run(key, func(t *testing.T) {
			data := testmodel.Llama(testmodel.Config{Keys: map[string]any{key: junk}})
			heap := func() uint64 {
				goruntime.GC()
				var s goruntime.MemStats
				goruntime.ReadMemStats(&s)
				return s.HeapAlloc
			}
			before := heap()
			m, err := runtime.LoadBytes(t.Context(), data, runtime.WithMemoryLimit(fileMemory))
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if kept := int64(heap() - before); kept > 6<<20 {
				t.Errorf("%d bytes are kept", kept)
			}
			if n := len(m.Info().Name); n > 1000 {
				t.Errorf("the name has %d bytes", n)
			}
			goruntime.KeepAlive(data)
		})
	}
}

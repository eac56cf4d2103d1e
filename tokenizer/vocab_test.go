package tokenizer

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// metadata is a Source over Go values.
type metadata map[string]any

func get[T any](m metadata, key string) (T, bool) {
	v, ok := m[key].(T)
	return v, ok
}

func (m metadata) String(key string) (string, bool)        { return get[string](m, key) }
func (m metadata) Uint(key string) (uint64, bool)          { return get[uint64](m, key) }
func (m metadata) Bool(key string) (v, ok bool)            { return get[bool](m, key) }
func (m metadata) Strings(key string) (List[string], bool) { return get[List[string]](m, key) }
func (m metadata) Ints(key string) (List[int64], bool)     { return get[List[int64]](m, key) }
func (m metadata) Floats(key string) (List[float64], bool) { return get[List[float64]](m, key) }
func (m metadata) with(key string, value any) metadata {
	c := metadata{}
	for k, v := range m {
		c[k] = v
	}
	if c["tokenizer.ggml."+key] = value; value == nil {
		delete(c, "tokenizer.ggml."+key)
	}
	return c
}

func smallMetadata() metadata {
	v := smallVocab([]string{"a b", "ab c"}, map[string]TokenType{"<s>": Control, "<|im_end|>": Control, "<|eot_id|>": Normal})
	return metadata{
		"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2",
		"tokenizer.ggml.tokens": v.Tokens, "tokenizer.ggml.token_type": v.Types, "tokenizer.ggml.merges": v.Merges,
		"tokenizer.ggml.bos_token_id": uint64(0), "tokenizer.ggml.eos_token_id": uint64(0),
	}
}

func TestNew(t *testing.T) {
	lease := budget.New(1 << 20).Lease()
	defer lease.Close()
	src := smallMetadata().with("add_bos_token", true)
	end := src["tokenizer.ggml.tokens"].(list[string])
	src = src.with("bos_token_id", uint64(slices.Index(end, "<s>"))).with("eos_token_id", uint64(0))
	tok, err := New(src, lease)
	if err != nil {
		t.Fatal(err)
	}
	if model, pre := tok.Algorithm(); model != "gpt2" || pre != "gpt-2" || tok.Size() != len(end) || !tok.Lossless() {
		t.Errorf("%s, %s, %d tokens, lossless %v", model, pre, tok.Size(), tok.Lossless())
	}
	if tok.BOS() != tok.Lookup("<s>") || tok.EOS() != 0 || tok.EOT() != None || !tok.AddsBOS() || tok.AddsEOS() {
		t.Errorf("bos %d, eos %d, eot %d, adds %v %v", tok.BOS(), tok.EOS(), tok.EOT(), tok.AddsBOS(), tok.AddsEOS())
	}
	if want := len("<|im_end|>"); tok.MaxTokenBytes() != want {
		t.Errorf("longest token: want %d, have %d", want, tok.MaxTokenBytes())
	}
	// A known text ends the generation only as a control token.
	if want := []ID{0, tok.Lookup("<|im_end|>")}; !slices.Equal(tok.EndOfGeneration(), want) || !tok.IsEndOfGeneration(want[1]) || tok.IsEndOfGeneration(None) {
		t.Errorf("end of generation: want %d, have %d", want, tok.EndOfGeneration())
	}
	if k := tok.Type(tok.Lookup("<s>")); k != Control {
		t.Errorf("type %d", k)
	}
}

func TestEndOfParts(t *testing.T) {
	v := smallVocab(nil, map[string]TokenType{"<|end|>": Control})
	if tok := newTokenizer(t, v); !tok.IsEndOfGeneration(tok.Lookup("<|end|>")) {
		t.Error("<|end|> alone doesn't end")
	}
	v = smallVocab(nil, map[string]TokenType{"<|end|>": Control, "<|return|>": Control})
	if tok := newTokenizer(t, v); tok.IsEndOfGeneration(tok.Lookup("<|end|>")) {
		t.Error("<|end|> ends beside <|return|>")
	}
}

func TestNewErrors(t *testing.T) {
	src := smallMetadata()
	tokens := src["tokenizer.ggml.tokens"].(list[string])
	types := src["tokenizer.ggml.token_type"].(list[int64])
	merges := func(m ...string) metadata { return src.with("merges", list[string](m)) }
	withType := func(k int64) metadata {
		return src.with("token_type", append(slices.Clone(types[1:]), k))
	}
	for _, tt := range []struct {
		name string
		src  metadata
		is   error
		text string
	}{
		{"no model", src.with("model", nil), ErrVocabulary, "model is missing"},
		{"unknown model", src.with("model", "rwkv"), ErrUnsupported, `algorithm "rwkv"`},
		{"no pre", src.with("pre", nil), ErrUnsupported, "pre is missing"},
		{"default pre", src.with("pre", "default"), ErrUnsupported, `"default"`},
		{"long pre", src.with("pre", strings.Repeat("\n", 1000)), ErrUnsupported, `\n"...`},
		{"space prefix", src.with("add_space_prefix", true), ErrUnsupported, "add_space_prefix"},
		{"no tokens", src.with("tokens", nil), ErrVocabulary, "tokens is missing"},
		{"tokens of another type", src.with("tokens", "x"), ErrVocabulary, "tokens is missing"},
		{"empty tokens", src.with("tokens", list[string]{}), ErrVocabulary, "0 tokens"},
		{"a long token", src.with("tokens", list[string]{"a", strings.Repeat("x", maxTokenText+1)}), ErrVocabulary, "token 1 has 16385 bytes"},
		{"too many tokens", src.with("tokens", many(maxTokens+1)), ErrVocabulary, "16777217 tokens"},
		{"tokens twice", src.with("tokens", append(slices.Clone(tokens[1:]), "a")), ErrVocabulary, `both "a"`},
		{"too few types", src.with("token_type", types[1:]), ErrVocabulary, "token types for"},
		{"unknown type", withType(7), ErrVocabulary, "has type 7"},
		{"negative type", withType(-1), ErrVocabulary, "has type -1"},
		{"no merges", src.with("merges", nil), ErrVocabulary, "merges is missing"},
		{"too many merges", src.with("merges", many(maxTokens+1)), ErrVocabulary, "merges, at most"},
		{"no space", merges("ab"), ErrVocabulary, "merge 0"},
		{"two spaces", merges("a b", "a b c"), ErrVocabulary, "merge 1"},
		{"no left half", merges(" b"), ErrVocabulary, "merge 0"},
		{"no right half", merges("a "), ErrVocabulary, "merge 0"},
		{"unknown half", merges("xyz b"), ErrVocabulary, "names a token"},
		{"unknown result", merges("b a"), ErrVocabulary, "makes a token"},
		{"merge twice", merges("a b", "a b"), ErrVocabulary, "comes twice"},
		{"bos outside", src.with("bos_token_id", uint64(262)), ErrVocabulary, "bos token is 262 of 261"},
		{"bos far outside", src.with("bos_token_id", uint64(1<<32)), ErrVocabulary, "bos_token_id is 4294967296"},
		{"bos to add", src.with("bos_token_id", nil).with("add_bos_token", true), ErrVocabulary, "to be added"},
		{"long special", src.with("tokens", append(slices.Clone(tokens[:260]), strings.Repeat("x", 1025))), ErrVocabulary, "1025 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := budget.New(1 << 30)
			lease := b.Lease()
			defer lease.Close()
			_, err := New(tt.src, lease)
			if !errors.Is(err, tt.is) || !strings.Contains(fmt.Sprint(err), tt.text) {
				t.Fatalf("want %q, have %v", tt.text, err)
			}
			if text := err.Error(); strings.Contains(text, "\n") || len(text) > 200 || strings.Count(text, "tokenizer: ") != 1 {
				t.Errorf("not one short line: %q", text)
			}
		})
	}
}

// many is a list that is longer than its memory.
type many int

func (m many) Len() int      { return int(m) }
func (m many) At(int) string { return "x" }

// TestMergesOfSpecials: a merge may not make a token that reads differently as
// text than as bytes.
func TestMergesOfSpecials(t *testing.T) {
	for _, tt := range []struct {
		text string
		ok   bool
	}{{"ab", true}, {"aĠ", false}} {
		runes := []rune(tt.text)
		v := smallVocab(nil, map[string]TokenType{tt.text: UserDefined})
		v.Merges = list[string]{string(runes[0]) + " " + string(runes[1])}
		lease := budget.New(1 << 20).Lease()
		if _, err := FromVocab(v, lease); (err == nil) != tt.ok {
			t.Errorf("%q: %v", tt.text, err)
		}
		lease.Close()
	}
}

// TestPriced: no reservation that is refused was needed for something already
// allocated, and the whole of a real vocabulary is a few megabytes.
func TestPriced(t *testing.T) {
	v := readVocab(t, "testdata/smollm.vocab.json.gz")
	b := budget.New(1 << 30)
	lease := b.Lease()
	if _, err := FromVocab(v, lease); err != nil {
		t.Fatal(err)
	}
	all := b.UsedFor(budget.Vocabulary)
	if all < 1<<20 || all > 4<<20 || all != b.Used() {
		t.Errorf("%d bytes for %d tokens", all, v.Tokens.Len())
	}
	if n := testing.AllocsPerRun(1, func() {
		lease := b.Lease()
		defer lease.Close()
		_, _ = FromVocab(v, lease)
	}); n > 60 {
		t.Errorf("%v allocations", n)
	}
	lease.Close()
	for _, limit := range []int64{0, all / 4, all / 2, all - 1} {
		lease := budget.New(limit).Lease()
		if _, err := FromVocab(v, lease); !errors.Is(err, budget.ErrExceeded) {
			t.Errorf("budget of %d: %v", limit, err)
		}
		lease.Close()
	}
}

// TestMakingIsPriced makes vocabularies so large that an array of them that isn't
// charged can't hide in what the allocator wastes.
func TestMakingIsPriced(t *testing.T) {
	compileRules()
	for _, model := range []string{"gpt2", "llama", "t5", "bert"} {
		t.Run(model, func(t *testing.T) {
			off := false
			v := &Vocab{Model: model, BOS: None, EOS: None, EOT: None, EOM: None, Unknown: 0, CLS: None, SEP: None, Pad: None, Mask: None}
			tokens := list[string]{"[UNK]"}
			switch model {
			case "gpt2":
				v.Pre, v.Unknown = "smollm", None
				var merges list[string]
				for c := range 256 {
					tokens = append(tokens, spell(string([]byte{byte(c)})))
				}
				for i := range 94 * 94 {
					a, b := string(rune('!'+i%94)), string(rune('!'+i/94))
					merges = append(merges, a+" "+b)
					tokens = append(tokens, a+b)
				}
				v.Merges = merges
			case "llama", "t5":
				v.AddSpacePrefix, v.RemoveExtraSpaces = &off, &off
			}
			for i := range 100_000 {
				tokens = append(tokens, strconv.FormatInt(int64(36*36+i), 36))
			}
			types, scores := make(list[int64], len(tokens)), make(list[float64], len(tokens))
			for i := range types {
				types[i] = int64(Normal)
				if i%8 == 7 {
					types[i] = int64(UserDefined)
				}
			}
			v.Tokens, v.Types, v.Scores = tokens, types, scores
			lease := budget.New(1 << 30).Lease()
			defer lease.Close()
			var err error
			took := allocated(func() { _, err = FromVocab(v, lease) })
			if held := lease.Held(); err != nil || took > held+held/64+pricedSlack && !raceEnabled {
				t.Errorf("%d bytes are charged, %d were allocated (%v)", held, took, err)
			}
		})
	}
}

// FuzzNew builds vocabularies from bytes: strings and flags in the order that
// the code below takes them. What isn't a typed error encodes any text, for
// memory that was reserved.
func FuzzNew(f *testing.F) {
	f.Add([]byte("gpt2\x00gpt-2\x00a b\x00ab c\x00\x00ab\x00abc\x00<s>\x00"), "abc<s>", uint32(1))
	f.Add([]byte("gpt2\x00llama-bpe\x00\x00Ġ\x00\x00"), "  x", uint32(0xffffffff))
	f.Add([]byte("gpt2\x00smollm\x00a a\x00a a\x00\x00aa\x00"), "aaaa", uint32(3<<8))
	f.Add([]byte("llama\x00\x00\x00▁a\x00<0x0A>\x00▁\x00ab\x00b"), " ab  b", uint32(8))
	f.Add([]byte("t5\x00\x00\x00▁a\x00\xff\x00▁\x00ab\x00b"), " ab  \xff", uint32(16))
	f.Add([]byte("bert\x00\x00\x00[UNK]\x00▁a\x00b\x00▁!"), "Ab!É", uint32(1<<8))
	compileRules()
	f.Fuzz(func(t *testing.T, data []byte, text string, flags uint32) {
		fields := strings.Split(string(data), "\x00")
		take := func() string {
			if len(fields) == 0 {
				return ""
			}
			s := fields[0]
			fields = fields[1:]
			return s
		}
		v := &Vocab{Model: take(), Pre: take(), BOS: ID(flags), EOS: ID(flags >> 8 & 0xff), EOT: None, EOM: None}
		var merges, tokens list[string]
		for s := take(); s != ""; s = take() {
			merges = append(merges, s)
		}
		if flags&1 != 0 {
			for c := range 256 {
				tokens = append(tokens, spell(string([]byte{byte(c)})))
			}
		}
		tokens = append(tokens, fields...)
		types := make(list[int64], len(tokens))
		for i := range types {
			types[i] = int64(Normal)
			if flags&2 != 0 {
				types[i] = int64(flags>>4+uint32(i)) % int64(tokenTypes)
			}
		}
		v.Merges, v.Tokens, v.Types = merges, tokens, types
		scores := make(list[float64], len(tokens))
		for i := range scores {
			scores[i] = -float64((uint32(i) * (flags | 1)) % 17)
		}
		prefix, extra := flags&8 != 0, flags&16 != 0
		v.Scores, v.RemoveExtraSpaces, v.Unknown = scores, &extra, ID(flags>>16&0xff)-1
		v.CLS, v.SEP, v.Pad, v.Mask = ID(flags>>8&0xf)-1, None, None, None
		if v.Model == "llama" || v.Model == "t5" {
			v.AddSpacePrefix = &prefix
		}
		lease := budget.New(1 << 24).Lease()
		defer lease.Close()
		tok, err := makePriced(t, v, lease)
		if err != nil {
			if !errors.Is(err, ErrUnsupported) && !errors.Is(err, ErrVocabulary) && !errors.Is(err, budget.ErrExceeded) {
				t.Error(err)
			}
			return
		}
		for _, parse := range []bool{false, true} {
			ids := encodeBounded(t, tok, text, EncodeOptions{AddSpecial: flags&4 != 0, ParseSpecial: parse})
			got := string(tok.Decode(nil, ids, DecodeOptions{Special: true}))
			if tok.Lossless() && !tok.AddsBOS() && got != text {
				t.Fatalf("%q came back as %q", text, got)
			}
			d := tok.Stream(DecodeOptions{})
			for _, id := range ids {
				d.Add(nil, id)
			}
			d.Flush(nil)
		}
		tok.Decode(nil, []ID{ID(flags), ID(flags & 0xff)}, DecodeOptions{})
		tok.IsEndOfGeneration(ID(flags))
	})
}

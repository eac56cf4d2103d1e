package tokenizer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// TestSpacePrefix: a space goes before a text and after each special token, and
// goes again from the beginning of what is decoded.
func TestSpacePrefix(t *testing.T) {
	on := true
	for _, model := range []string{"llama", "t5"} {
		v := marks(model, "▁a", "▁b", "▁", "a", "b", "<s>", "<u>", "▁▁").with("<s>", Control).with("<u>", UserDefined).with("▁▁", UserDefined)
		for _, tt := range []struct {
			text         string
			add          bool
			want         string
			decoded, raw string
		}{
			{"a b", true, "▁a ▁b", "a b", " a b"},
			{"a b", false, "a ▁b", "a b", "a b"},
			{" a", true, "▁ ▁a", " a", "  a"},
			{"a<s>b", true, "▁a <s> ▁b", "a b", " a b"},
			{"<s>b", true, "<s> ▁b", "b", " b"},
			{"<s>b", false, "<s> b", "b", "b"},
			{"a<u>b", true, "▁a <u> ▁b", "a<u> b", " a<u> b"},
			{"", true, "", "", ""},
			{"▁b", false, "▁b", " b", " b"}, // the text's own mark is a space
		} {
			if v.AddSpacePrefix = nil; !tt.add {
				v.AddSpacePrefix = new(bool)
			}
			if model == "t5" && tt.add {
				v.AddSpacePrefix = &on
			}
			tok := newTokenizer(t, v)
			name := fmt.Sprintf("%s, %q, prefix %v", model, tt.text, tt.add)
			ids, err := tok.Encode(t.Context(), nil, tt.text, EncodeOptions{ParseSpecial: true})
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(encodeTexts(t, tok, tt.text, EncodeOptions{ParseSpecial: true}), " "); got != tt.want {
				t.Errorf("%s: want %s, have %s", name, tt.want, got)
			}
			if got := tok.Decode([]byte("x"), ids, DecodeOptions{}); string(got) != "x"+tt.decoded {
				t.Errorf("%s: decoded %q, want %q", name, got, tt.decoded)
			}
			if got := tok.Decode(nil, ids, DecodeOptions{Continue: true}); string(got) != tt.raw {
				t.Errorf("%s: going on %q, want %q", name, got, tt.raw)
			}
			for _, opt := range []DecodeOptions{{}, {Continue: true}} {
				want := string(tok.Decode(nil, ids, opt))
				add, text := tok.Stream(opt), tok.Stream(opt)
				var added []byte
				var texts string
				for _, id := range ids {
					added, texts = add.Add(added, id), texts+text.Text(id)
				}
				if string(added) != want || texts != want {
					t.Errorf("%s: streamed %q and %q, want %q", name, added, texts, want)
				}
			}
		}
	}
}

func TestStreamAfter(t *testing.T) {
	v := marks("llama", "▁a", "a", "<s>", "<u>").with("<s>", Control).with("<u>", UserDefined)
	v.AddSpacePrefix = nil
	tok := newTokenizer(t, v)
	a, s, u := tok.Lookup("▁a"), tok.Lookup("<s>"), tok.Lookup("<u>")
	for _, tt := range []struct {
		prompt []ID
		want   string
	}{{nil, "a"}, {[]ID{s}, "a"}, {[]ID{a, u}, "a"}, {[]ID{s, a}, " a"}} {
		d := tok.StreamAfter(tt.prompt, DecodeOptions{Continue: true})
		if got := d.Text(a); got != tt.want {
			t.Errorf("after %d: %q, want %q", tt.prompt, got, tt.want)
		}
		if got := d.Text(a); got != " a" {
			t.Errorf("after %d, then: %q", tt.prompt, got)
		}
	}
}

func TestByteTokens(t *testing.T) {
	for _, model := range []string{"llama", "t5"} {
		tok := newTokenizer(t, marks(model, "▁", "a", "<0x0A>x").withBytes())
		if got := strings.Join(encodeTexts(t, tok, "aéa\n", EncodeOptions{}), " "); got != "a <0xC3> <0xA9> a <0x0A>" {
			t.Errorf("%s: %s", model, got)
		}
		d := tok.Stream(DecodeOptions{})
		var parts []string
		for _, text := range []string{"<0xC3>", "<0xA9>", "▁", "<0x0A>", "<0x0A>x", "<0xFF>", "a"} {
			parts = append(parts, d.Text(tok.Lookup(text)))
		}
		if want := []string{"", "é", " ", "\n", "<0x0A>x", "\ufffd", "a"}; !slices.Equal(parts, want) {
			t.Errorf("%s: %q, want %q", model, parts, want)
		}
		// One byte too few, and there is no fallback.
		tok = newTokenizer(t, marks(model, "▁", "a").withBytes().with("<0x7F>", Normal))
		if got := strings.Join(encodeTexts(t, tok, "éé\naéé", EncodeOptions{}), " "); got != "<unk> a <unk>" {
			t.Errorf("%s: %s", model, got)
		}
	}
	llama, t5 := newTokenizer(t, marks("llama", "a").withBytes()), newTokenizer(t, marks("t5", "a").withBytes())
	if got := encodeTexts(t, llama, "\xff", EncodeOptions{}); !slices.Equal(got, []string{"<0xFF>"}) {
		t.Errorf("an invalid byte: %s", got)
	}
	if got := encodeTexts(t, t5, "\xff", EncodeOptions{}); !slices.Equal(got, []string{"<0xEF>", "<0xBF>", "<0xBD>"}) {
		t.Errorf("an invalid byte is U+FFFD: %s", got)
	}
	if llama.Lossless() || t5.Lossless() {
		t.Error("a mark comes back as a space")
	}
	// Text never becomes a token that isn't text.
	v := marks("llama", "<", "s", ">", "s>", "<s>", "<s", "ss", "s▁").with("<s>", Control).with("ss", Unused)
	tok := newTokenizer(t, v)
	if got := strings.Join(encodeTexts(t, tok, "<s>ss", EncodeOptions{}), " "); got != "< s> s s" {
		t.Errorf("text as a control token: %s", got)
	}
}

// TestDefaultTokens: what a file doesn't name.
func TestDefaultTokens(t *testing.T) {
	many := make([]string, 104)
	for i := range many {
		many[i] = fmt.Sprint("t", i)
	}
	v := marks("llama", many...).with("t0", Control).with("t1", Control)
	v.Unknown = None
	tok := newTokenizer(t, v)
	if tok.BOS() != 1 || tok.EOS() != 2 || !tok.AddsBOS() || tok.AddsEOS() {
		t.Errorf("llama: bos %d, eos %d, adds %v %v", tok.BOS(), tok.EOS(), tok.AddsBOS(), tok.AddsEOS())
	}
	if got := encodeTexts(t, tok, "z", EncodeOptions{AddSpecial: true}); !slices.Equal(got, []string{"t0", "<unk>"}) {
		t.Errorf("llama: %q", got)
	}
	v = marks("llama", many...) // the tokens of these numbers are text
	if tok = newTokenizer(t, v); tok.BOS() != None || tok.EOS() != None || tok.AddsBOS() {
		t.Errorf("llama without control tokens: bos %d, eos %d", tok.BOS(), tok.EOS())
	}
	v = marks("t5", many...).with("t0", Control)
	if tok = newTokenizer(t, v); tok.BOS() != None || tok.EOS() != 1 || tok.AddsBOS() || !tok.AddsEOS() {
		t.Errorf("t5: bos %d, eos %d", tok.BOS(), tok.EOS())
	}
	v = words(many...).with("t99", Control).with("t100", Control)
	if tok = newTokenizer(t, v); tok.BOS() != 101 || tok.EOS() != 102 || !tok.AddsBOS() || !tok.AddsEOS() {
		t.Errorf("bert: bos %d, eos %d", tok.BOS(), tok.EOS())
	}
	v.CLS, v.SEP, v.BOS, v.EOS = 7, 8, 9, 10
	if tok = newTokenizer(t, v); tok.BOS() != 7 || tok.EOS() != 8 {
		t.Errorf("bert with names: bos %d, eos %d", tok.BOS(), tok.EOS())
	}
}

func TestPieceErrors(t *testing.T) {
	small := func(model string, change func(*Vocab)) *Vocab {
		v := marks(model, "a", "b")
		change(v)
		return v
	}
	for _, tt := range []struct {
		v    *Vocab
		is   error
		text string
	}{
		{small("llama", func(v *Vocab) { v.Scores = nil }), ErrVocabulary, "scores is missing"},
		{small("t5", func(v *Vocab) { v.Scores = nil }), ErrVocabulary, "scores is missing"},
		{small("llama", func(v *Vocab) { v.Scores = list[float64]{1} }), ErrVocabulary, "1 scores for 3 tokens"},
		{small("t5", func(v *Vocab) { v.Scores = list[float64]{1, math.NaN(), 1} }), ErrVocabulary, "token 1 has the score NaN"},
		{small("llama", func(v *Vocab) { v.Scores = list[float64]{1, 1e300, 1} }), ErrVocabulary, "token 1 has the score 1e+300"},
		{small("llama", func(v *Vocab) { v.Unknown = 3 }), ErrVocabulary, "unknown token is 3 of 3"},
		{small("bert", func(v *Vocab) { v.SEP = -7 }), ErrVocabulary, "eos token is -7"},
		{small("bert", func(v *Vocab) { *v.AddSpacePrefix = true }), ErrUnsupported, "add_space_prefix with WordPiece"},
		{small("bert", func(v *Vocab) { v.Charsmap = list[int64]{0} }), ErrUnsupported, "precompiled_charsmap with WordPiece"},
		{marks("llama", strings.Repeat("x", 1025)), ErrVocabulary, "1025 bytes"},
		{marks("t5", strings.Repeat("x", 1025)), ErrVocabulary, "1025 bytes"},
		{small("t5", func(v *Vocab) { v.Charsmap = list[int64]{1, 0, 0} }), ErrVocabulary, "charsmap of 3 bytes"},
		{small("llama", func(v *Vocab) { v.Charsmap = list[int64]{4, 0, 0, -1, 0, 0, 0, 0, 0} }), ErrVocabulary, "trie of 4278190084"},
		{small("t5", func(v *Vocab) { v.Charsmap = list[int64]{4, 0, 0, 0, 0, 0, 0, 0} }), ErrVocabulary, "trie of 4"},
		{small("t5", func(v *Vocab) { v.Charsmap = list[int64]{5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} }), ErrVocabulary, "trie of 5"},
		{small("t5", func(v *Vocab) { v.Charsmap = list[int64]{4, 0, 0, 0, 0, 0, 0, 0, 'x'} }), ErrVocabulary, "has no end"},
		{small("t5", func(v *Vocab) { v.Charsmap = byteList(append(make([]byte, 300), "y"...)) }), ErrVocabulary, "trie of 0"},
		{small("t5", func(v *Vocab) {
			v.Charsmap = byteList(append([]byte{4, 0, 0, 0, 0, 0, 0, 0}, strings.Repeat("x", 257)+"\x00"...))
		}), ErrVocabulary, "more than 256 bytes"},
	} {
		lease := budget.New(1 << 20).Lease()
		_, err := FromVocab(tt.v, lease)
		lease.Close()
		if !errors.Is(err, tt.is) || !strings.Contains(fmt.Sprint(err), tt.text) {
			t.Errorf("want %q, have %v", tt.text, err)
		}
	}
}

// TestReadPieces reads the metadata's names.
func TestReadPieces(t *testing.T) {
	const p = "tokenizer.ggml."
	src := metadata{
		p + "model": "t5", p + "tokens": List[string](list[string]{"a"}), p + "scores": List[float64](list[float64]{-1}),
		p + "unknown_token_id": uint64(2), p + "cls_token_id": uint64(4),
		p + "seperator_token_id": uint64(3), //nolint:misspell // as GGUF spells it
		p + "padding_token_id":   uint64(5), p + "mask_token_id": uint64(6), p + "add_space_prefix": true,
		p + "remove_extra_whitespaces": true, p + "normalizer.lowercase": false, p + "normalizer.strip_accents": true,
		p + "precompiled_charsmap": List[int64](list[int64]{1}),
	}
	v, err := ReadVocab(src)
	if err != nil {
		t.Fatal(err)
	}
	if v.Unknown != 2 || v.SEP != 3 || v.CLS != 4 || v.Pad != 5 || v.Mask != 6 || v.Scores.Len() != 1 || v.Charsmap.Len() != 1 ||
		!*v.AddSpacePrefix || !*v.RemoveExtraSpaces || *v.Lowercase || !*v.StripAccents {
		t.Errorf("%+v", v)
	}
	v, err = ReadVocab(metadata{p + "model": "t5", p + "tokens": List[string](list[string]{"a"})})
	if err != nil {
		t.Fatal(err)
	}
	if v.Unknown != None || v.SEP != None || v.CLS != None || v.Pad != None || v.Mask != None || v.Scores != nil || v.Charsmap != nil || v.RemoveExtraSpaces != nil {
		t.Errorf("%+v", v)
	}
}

// TestPiecesPriced: with less than everything loading fails.
func TestPiecesPriced(t *testing.T) {
	for _, name := range pieceVocabs {
		v := pieceVocab(t, name)
		b := budget.New(1 << 30)
		lease := b.Lease()
		if _, err := FromVocab(v, lease); err != nil {
			t.Fatal(err)
		}
		all := b.UsedFor(budget.Vocabulary)
		if all != b.Used() || all > 8<<20 {
			t.Errorf("%s: %d bytes", name, all)
		}
		lease.Close()
		for _, limit := range []int64{0, all / 4, all / 2, all - 1} {
			lease := budget.New(limit).Lease()
			if _, err := FromVocab(v, lease); !errors.Is(err, budget.ErrExceeded) {
				t.Errorf("%s, budget of %d: %v", name, limit, err)
			}
			lease.Close()
		}
	}
}

// FuzzCharsmap: no table makes a lookup fail, or take more than there is.
func FuzzCharsmap(f *testing.F) {
	trie := func(units ...uint32) []byte {
		b := binary.LittleEndian.AppendUint32(nil, uint32(4*len(units)))
		for _, u := range units {
			b = binary.LittleEndian.AppendUint32(b, u)
		}
		return append(b, "x\x00yz\x00"...)
	}
	// 'a' is at 1^'a', its value at that ^2.
	small := make([]uint32, 128)
	small[0], small[1^'a'], small[1^'a'^2] = 1<<10, 2<<10|1<<8|'a', 1<<31|2
	f.Add(trie(small...), "bab")
	small[1^'a'^2] = 1<<31 | 1000
	f.Add(trie(small...), "bab")
	f.Add(trie(^uint32(0), 0), "\xff\x00a")
	f.Fuzz(func(t *testing.T, raw []byte, text string) {
		v := marks("t5", "a", "x", "yz")
		v.Charsmap = byteList(raw)
		lease := budget.New(1 << 24).Lease()
		defer lease.Close()
		tok, err := FromVocab(v, lease)
		if err != nil {
			if !errors.Is(err, ErrVocabulary) && !errors.Is(err, budget.ErrExceeded) {
				t.Fatal(err)
			}
			return
		}
		c := tok.model.(*unigrams).sentence.charsmap
		for i := range len(text) {
			if to, n := c.replace(text[i:]); n < 0 || n > len(text)-i || len(to) > maxReplacement || strings.Contains(to, "\x00") {
				t.Fatalf("%q for %d bytes of %q", to, n, text[i:])
			}
		}
		if _, err := tok.Encode(t.Context(), nil, text, EncodeOptions{}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestCharsmap(t *testing.T) {
	units := make([]uint32, 128)
	units[0], units[1^'a'], units[1^'a'^2] = 1<<10, 2<<10|1<<8|'a', 1<<31|2
	c := &charsmap{units: units, texts: "x\x00yz\x00"}
	for _, tt := range []struct {
		text, to string
		n        int
	}{{"ab", "yz", 1}, {"b", "", 0}, {"a", "yz", 1}, {"", "", 0}, {"\x00", "", 0}} {
		if to, n := c.replace(tt.text); to != tt.to || n != tt.n {
			t.Errorf("%q: %q for %d bytes", tt.text, to, n)
		}
	}
	units[1^'a'^2] = 1<<31 | 5
	if to, n := c.replace("a"); to != "" || n != 0 {
		t.Errorf("a text outside: %q, %d", to, n)
	}
}

// TestSpellingTooLong: places in a text have 31 bits, and spaces are spelled with
// three bytes.
func TestSpellingTooLong(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 1 GiB of address space")
	}
	w := &work{ctx: t.Context(), arrays: arrays{spelling: make([]byte, 1<<30)}} // never touched
	if err := w.growSpelling(); !errors.Is(err, ErrTooLong) {
		t.Error(err)
	}
}

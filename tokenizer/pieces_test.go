package tokenizer

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// pieceVocabs are the vocabularies in testdata of the algorithms beside
// byte-level BPE.
var pieceVocabs = []string{"llama-spm", "bpe-trim", "unigram", "unigram-bytes", "unigram-keep", "bert-bge"}

func pieceVocab(t testing.TB, name string) *Vocab {
	t.Helper()
	return readVocab(t, "testdata/"+name+".vocab.json.gz")
}

var pieceTokenizers sync.Map

// pieceTokenizer is one for all tests: they don't change it.
func pieceTokenizer(t testing.TB, name string) *Tokenizer {
	t.Helper()
	if tok, ok := pieceTokenizers.Load(name); ok {
		return tok.(*Tokenizer)
	}
	tok := newTokenizer(t, pieceVocab(t, name))
	pieceTokenizers.Store(name, tok)
	return tok
}

// marks is a SentencePiece vocabulary: an unknown token, then the given ones,
// each with a lower score than the one before.
func marks(model string, tokens ...string) *Vocab {
	off := false
	v := &Vocab{
		Model: model, BOS: None, EOS: None, EOT: None, EOM: None,
		Unknown: None, CLS: None, SEP: None, Pad: None, Mask: None, AddSpacePrefix: &off,
	}
	var scores list[float64]
	var types list[int64]
	all := append(list[string]{"<unk>"}, tokens...)
	for i := range all {
		scores, types = append(scores, -float64(i)), append(types, int64(Normal))
	}
	types[0] = int64(Unknown)
	v.Tokens, v.Scores, v.Types, v.Unknown = all, scores, types, 0
	return v
}

// with gives the token of a vocabulary another type.
func (v *Vocab) with(text string, k TokenType) *Vocab {
	i := slices.Index(v.Tokens.(list[string]), text)
	v.Types.(list[int64])[i] = int64(k)
	return v
}

func (v *Vocab) withBytes() *Vocab {
	for c := range 256 {
		v.Tokens = append(v.Tokens.(list[string]), "<0x"+strings.ToUpper(string("0123456789abcdef"[c>>4])+string("0123456789abcdef"[c&15]))+">")
		v.Types = append(v.Types.(list[int64]), int64(Byte))
		v.Scores = append(v.Scores.(list[float64]), 0)
	}
	return v
}

func TestScoredOrder(t *testing.T) {
	for _, tt := range []struct {
		tokens     []string
		text, want string
	}{
		{[]string{"ab", "bc", "a", "b", "c"}, "abc", "ab c"},
		{[]string{"bc", "ab", "a", "b", "c"}, "abc", "a bc"},
		{[]string{"aa", "a"}, "aaaaa", "aa aa a"}, // leftmost first
		{[]string{"aa", "aaa", "a"}, "aaaaa", "aa aaa"},
		{[]string{"abcd", "b", "a", "c", "d"}, "abcd", "a b c d"}, // nothing leads to it
		{[]string{"xy", "x"}, "xyx", "xy x"},                      // y alone has no token
		{[]string{"x"}, "yyxyy", "<unk> x <unk>"},
		{[]string{"a▁b", "▁b", "a", "▁"}, "a b", "a▁b"},
	} {
		tok := newTokenizer(t, marks("llama", tt.tokens...))
		if got := strings.Join(encodeTexts(t, tok, tt.text, EncodeOptions{}), " "); got != tt.want {
			t.Errorf("%q, tokens %q: want %s, have %s", tt.text, tt.tokens, tt.want, got)
		}
	}
}

func TestUnigramOrder(t *testing.T) {
	for _, tt := range []struct {
		scores     map[string]float64
		text, want string
	}{
		{map[string]float64{"a": -1, "b": -1, "ab": -3}, "ab", "a b"},
		{map[string]float64{"a": -1, "b": -1, "ab": -1.5}, "ab", "ab"},
		{map[string]float64{"a": -1, "aa": -2}, "aaa", "a aa"}, // of equal ones the longest at the end
		{map[string]float64{"abcd": -4, "a": -1, "b": -1, "c": -1, "d": -2}, "abcd", "abcd"},
		{map[string]float64{"a": -1}, "axxa", "a <unk> a"},
		{map[string]float64{"xx": -30, "a": -1}, "axxa", "a xx a"}, // two unknown characters cost more
		{map[string]float64{"xx": -30, "z": -1}, "xx", "xx"},
	} {
		v := marks("t5")
		for text, s := range tt.scores {
			v.Tokens, v.Scores = append(v.Tokens.(list[string]), text), append(v.Scores.(list[float64]), s)
			v.Types = append(v.Types.(list[int64]), int64(Normal))
		}
		if got := strings.Join(encodeTexts(t, newTokenizer(t, v), tt.text, EncodeOptions{}), " "); got != tt.want {
			t.Errorf("%q, %v: want %s, have %s", tt.text, tt.scores, tt.want, got)
		}
	}
}

// TestScoredLong holds the queue against the scan on pieces of all lengths.
func TestScoredLong(t *testing.T) {
	tok := pieceTokenizer(t, "llama-spm")
	s := tok.model.(*scoredPairs)
	source := strings.Repeat("▁the▁quickbrownfoxэто你好▁▁▁▁▁▁▁▁▁aaaaaaaabbbb\xffbbbb", 3)
	for n := range len(source) {
		for _, text := range []string{source[:n], source[n:]} {
			var short, long work
			for i := range text {
				short.ids = append(short.ids, ID(i))
			}
			short.ids = append(short.ids, ID(len(text)))
			long.ids, long.ctx, long.room = slices.Clone(short.ids), t.Context(), 1<<20
			short.ctx, short.room = t.Context(), 1<<20
			if err := errors.Join(s.mergeShort(&short, []byte(text)), s.mergeLong(&long, []byte(text))); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(short.out, long.out) {
				t.Fatalf("%q: scan %d, queue %d", text, short.out, long.out)
			}
		}
	}
}

// TestBorders: where a text is cut doesn't change its tokens.
func TestBorders(t *testing.T) {
	for _, name := range pieceVocabs[:5] {
		cut, whole := pieceTokenizer(t, name), newTokenizer(t, pieceVocab(t, name))
		var s *sentence
		switch m := whole.model.(type) {
		case *scoredPairs:
			s = &m.sentence
		case *unigrams:
			s = &m.sentence
		}
		for i := range s.borders.bits {
			s.borders.bits[i] = ^uint64(0)
		}
		for _, text := range []string{
			strings.Repeat("The licenses for most software\n\nare designed  to take away 12 (twelve) freedoms. ", 20),
			strings.Repeat("自由软件ab的许可证\u00a0是e\u0301为了  Ünïcödé ▁x\xff\xfe", 20),
		} {
			want, _ := whole.Encode(t.Context(), nil, text, EncodeOptions{})
			got, err := cut.Encode(t.Context(), nil, text, EncodeOptions{})
			if err != nil || !slices.Equal(want, got) {
				t.Errorf("%s: %v, want %d, have %d", name, err, want, got)
			}
		}
	}
}

// TestPiecesGrowth counts the steps for a megabyte of one thing.
func TestPiecesGrowth(t *testing.T) {
	for _, name := range pieceVocabs {
		tok := pieceTokenizer(t, name)
		for unit, text := range map[string]string{
			"letter": "a", "space": " ", "newline": "\n", "emoji": "\U0001f600", "word": "the", "mark": "▁", "invalid": "\xff",
			"dash": "-", "double": "l", "ideograph": "好", "accent": "\u0301", "ligature": "\ufdfa",
		} {
			t.Run(name+"/"+unit, func(t *testing.T) {
				steps := func(bytes int) int {
					w := &work{ctx: t.Context(), room: 1 << 30}
					if err := tok.encode(w, strings.Repeat(text, bytes/len(text)), EncodeOptions{}); err != nil {
						t.Fatal(err)
					}
					return w.steps
				}
				n := 1 << 17
				if testing.Short() {
					n = 1 << 14
				}
				small, large := steps(n/16), steps(n)
				// As in TestGrowth, but a mark has three bytes for one, the ligature 33
				// for three, and the longest token bounds the steps at one place.
				if large > 3*n*2*20*11 || large > 26*small+1000 {
					t.Errorf("%d steps for %d bytes, %d for %d", small, n/16, large, n)
				}
			})
		}
	}
}

func TestPiecesCancel(t *testing.T) {
	const n = 1 << 14
	for _, name := range pieceVocabs {
		tok := pieceTokenizer(t, name)
		for _, unit := range []string{"a", " ", "\U0001f600", "the ", "\n", "好", "\u0301"} {
			text := strings.Repeat(unit, n/len(unit))
			ctx := &countdown{t.Context(), 1 << 30}
			w := &work{ctx: ctx, room: 1 << 30}
			if err := tok.encode(w, text, EncodeOptions{}); err != nil {
				t.Fatal(err)
			}
			all := 1<<30 - ctx.n
			if all < n/pollSteps-1 {
				t.Errorf("%s, %q: asked %d times for %d bytes", name, unit, all, n)
			}
			for _, asked := range []int{0, all / 2, all - 1} {
				w = &work{ctx: &countdown{t.Context(), asked}, room: 1 << 30}
				if err := tok.encode(w, text, EncodeOptions{}); err == nil {
					t.Errorf("%s, %q: asked %d of %d times, no error", name, unit, asked, all)
				}
			}
		}
	}
}

// TestPiecesBudget: what a long piece takes is priced, and given back.
func TestPiecesBudget(t *testing.T) {
	for _, tt := range []struct {
		name, unit string
		most       int64 // bytes for each byte of text
	}{
		{"llama-spm", "a", 36},
		{"llama-spm", " ", 44}, // three bytes each, one symbol
		{"bpe-trim", "l", 36},  // "ll" is in tokens, so nothing is cut
		{"unigram", "l", 36},
		{"unigram-keep", "l", 36},
	} {
		tok := pieceTokenizer(t, tt.name)
		text := strings.Repeat(tt.unit, freePiece+freePiece/8)
		b := budget.New(tt.most * int64(len(text)))
		if _, err := tok.Encode(t.Context(), []ID{}, text, EncodeOptions{Budget: b}); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if b.Used() != 0 {
			t.Errorf("%s: %d bytes are still charged", tt.name, b.Used())
		}
		b = budget.New(16 * int64(len(text)))
		if _, err := tok.Encode(t.Context(), []ID{}, text, EncodeOptions{Budget: b}); !errors.Is(err, budget.ErrExceeded) {
			t.Errorf("%s: %v", tt.name, err)
		}
		// Words are short pieces.
		if _, err := tok.Encode(t.Context(), []ID{}, strings.Repeat("the words ", freePiece/8), EncodeOptions{Budget: budget.New(0)}); err != nil {
			t.Errorf("%s, words: %v", tt.name, err)
		}
	}
}

func TestPiecesAllocations(t *testing.T) {
	for _, name := range pieceVocabs {
		tok := pieceTokenizer(t, name)
		text := "It's 10 o'clock, 你好 한국 Ünïcödé — " + strings.Repeat("verylongword", 20) + "\n\n"
		dst := make([]ID, 0, 2048)
		buf := make([]byte, 0, 4096)
		ctx := t.Context()
		n := testing.AllocsPerRun(100, func() {
			ids, err := tok.Encode(ctx, dst, text, EncodeOptions{ParseSpecial: true, AddSpecial: true, Limit: 2000})
			if err != nil {
				t.Fatal(err)
			}
			buf = tok.Decode(buf[:0], ids, DecodeOptions{Special: true})
		})
		if n != 0 && !raceEnabled {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestPiecesLimit(t *testing.T) {
	for _, name := range pieceVocabs {
		tok := pieceTokenizer(t, name)
		text := "Hello there, how are you?"
		all, err := tok.Encode(t.Context(), nil, text, EncodeOptions{AddSpecial: true})
		if err != nil {
			t.Fatal(err)
		}
		for limit := 1; limit <= len(all)+1; limit++ {
			got, err := tok.Encode(t.Context(), nil, text, EncodeOptions{AddSpecial: true, Limit: limit})
			if limit >= len(all) && (err != nil || !slices.Equal(got, all)) || limit < len(all) && !errors.Is(err, ErrTooLong) {
				t.Errorf("%s, limit %d of %d: %d, %v", name, limit, len(all), got, err)
			}
		}
	}
	// A whole text may be few tokens, or none.
	for name, text := range map[string]string{
		"bert-bge": strings.Repeat("x", 1<<16), "bpe-trim": strings.Repeat(" ", 1<<16), "unigram": strings.Repeat("好", 1<<16),
		"llama-spm": strings.Repeat("▁", 1<<16),
	} {
		tok := pieceTokenizer(t, name)
		all, _ := tok.Encode(t.Context(), nil, text, EncodeOptions{})
		if ids, err := tok.Encode(t.Context(), nil, text, EncodeOptions{Limit: len(all) + 1}); err != nil || len(ids) != len(all) {
			t.Errorf("%s: %d of %d tokens, %v", name, len(ids), len(all), err)
		}
	}
	// One that can't fit is refused before any work.
	w := &work{ctx: t.Context(), room: 10}
	if err := pieceTokenizer(t, "llama-spm").encode(w, strings.Repeat("a", 1<<20), EncodeOptions{}); !errors.Is(err, ErrTooLong) || w.steps+w.spent > 0 {
		t.Errorf("%v after %d steps", err, w.steps+w.spent)
	}
}

// FuzzPieces: no text panics; a text of a vocabulary that only spells spaces
// otherwise comes back; a limit of as many tokens as there are is enough; what
// is allocated is bounded by the text.
func FuzzPieces(f *testing.F) {
	var toks []*Tokenizer
	for _, name := range pieceVocabs {
		toks = append(toks, pieceTokenizer(f, name))
	}
	for _, s := range []string{"", "Hello world", "  a▁b  ", "\xff\xe2\x96<s>", " \r\n\t  x", "\U0001f600é\xf0\x9f\ufdfa", "한국 [CLS] À́", "\x00\u3000"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, text string, special bool) {
		for i, tok := range toks {
			opt := EncodeOptions{ParseSpecial: special, AddSpecial: special}
			ids := encodeBounded(t, tok, text, opt)
			opt.Limit = max(1, len(ids))
			if again, err := tok.Encode(t.Context(), nil, text, opt); err != nil || !slices.Equal(ids, again) {
				t.Fatalf("%s, %q with a limit: %d, then %d, %v", pieceVocabs[i], text, ids, again, err)
			}
			back := tok.Decode(nil, ids, DecodeOptions{})
			if want := strings.ReplaceAll(text, markText, " "); pieceVocabs[i] == "llama-spm" && !special && string(back) != want {
				t.Fatalf("%q came back as %q", want, back)
			}
			d := tok.Stream(DecodeOptions{})
			var whole []byte
			for _, id := range ids {
				whole = d.Add(whole, id)
			}
			whole = d.Flush(whole)
			if !utf8.Valid(whole) || utf8.Valid(back) && string(whole) != string(back) {
				t.Fatalf("%s: %q as a stream %q", pieceVocabs[i], back, whole)
			}
			if len(ids) < (len(text)+tok.maxTokenBytes-1)/tok.maxTokenBytes && tok.traits.bounded {
				t.Fatalf("%s: %d tokens for %d bytes, at most %d each", pieceVocabs[i], len(ids), len(text), tok.maxTokenBytes)
			}
		}
	})
}

func BenchmarkPieces(b *testing.B) {
	for _, name := range pieceVocabs {
		tok := pieceTokenizer(b, name)
		for kind, text := range map[string]string{
			"english": strings.Repeat("The licenses for most software are designed to take away your freedom to share and change it. ", 100),
			"chinese": strings.Repeat("自由软件的许可证是为了保证您有共享和更改软件的自由。", 120),
			"letter":  strings.Repeat("a", 10000),
		} {
			b.Run(name+"/"+kind, func(b *testing.B) {
				b.SetBytes(int64(len(text)))
				b.ReportAllocs()
				var ids []ID
				for b.Loop() {
					ids, _ = tok.Encode(b.Context(), ids[:0], text, EncodeOptions{})
				}
			})
		}
	}
}

package tokenizer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// spell is the byte-level spelling of s.
func spell(s string) string { return string(appendSpelling(nil, s)) }

// smallVocab has all bytes, the given merges with what they make, and further
// tokens of the types given.
func smallVocab(merges []string, more map[string]TokenType) *Vocab {
	var tokens list[string]
	var types list[int64]
	add := func(text string, k TokenType) {
		if !slices.Contains(tokens, text) {
			tokens, types = append(tokens, text), append(types, int64(k))
		}
	}
	for c := range 256 {
		add(spell(string([]byte{byte(c)})), Normal)
	}
	for _, m := range merges {
		add(strings.ReplaceAll(m, " ", ""), Normal)
	}
	names := make([]string, 0, len(more))
	for text := range more {
		names = append(names, text)
	}
	slices.Sort(names)
	for _, text := range names {
		add(text, more[text])
	}
	return &Vocab{
		Model: "gpt2", Pre: "gpt-2", Tokens: tokens, Types: types, Merges: list[string](merges),
		BOS: None, EOS: None, EOT: None, EOM: None,
	}
}

func encodeTexts(t *testing.T, tok *Tokenizer, text string, opt EncodeOptions) []string {
	t.Helper()
	ids, err := tok.Encode(t.Context(), nil, text, opt)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	var texts []string
	for _, id := range ids {
		texts = append(texts, tok.Text(id))
	}
	return texts
}

func TestMergeOrder(t *testing.T) {
	for _, tt := range []struct {
		merges     []string
		text, want string
	}{
		{[]string{"a b", "b c"}, "abc", "ab c"},
		{[]string{"b c", "a b"}, "abc", "a bc"},
		{[]string{"a a"}, "aaaaa", "aa aa a"}, // leftmost first
		{[]string{"a a", "aa a"}, "aaaaa", "aa aaa"},
		{[]string{"a a", "aa aa"}, "aaaaa", "aaaa a"},
		{[]string{"c d", "a b", "ab cd", "b c"}, "abcd", "abcd"},
		{nil, "abc", "a b c"},
	} {
		tok := newTokenizer(t, smallVocab(tt.merges, nil))
		if got := strings.Join(encodeTexts(t, tok, tt.text, EncodeOptions{}), " "); got != tt.want {
			t.Errorf("%q, merges %q: want %s, have %s", tt.text, tt.merges, tt.want, got)
		}
	}
}

// TestMergeLong holds the queue against the scan on pieces of all lengths.
func TestMergeLong(t *testing.T) {
	tok := newTokenizer(t, readVocab(t, "testdata/gpt-2.vocab.json.gz"))
	b := tok.model.(*bytePairs)
	source := strings.Repeat("thequickbrownfoxjumpsoverthelazydogaaaaaaaabbbbbbbbbbbbbbbb", 3)
	for n := range len(source) {
		for _, text := range []string{source[:n], source[n:]} {
			var short, long work
			for i := range len(text) {
				short.ids = append(short.ids, b.bytes[text[i]])
			}
			long.ids, long.ctx, long.room = slices.Clone(short.ids), t.Context(), 1<<20
			want := b.pairs.mergeShort(&short)
			if err := b.pairs.mergeLong(&long); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(want, long.out) {
				t.Fatalf("%q: scan %d, queue %d", text, want, long.out)
			}
		}
	}
}

// TestGrowth counts the steps of merging one piece of a megabyte: they grow like
// n log n, whatever the piece is made of.
func TestGrowth(t *testing.T) {
	tok := newTokenizer(t, readVocab(t, "testdata/gpt-2.vocab.json.gz"))
	for name, unit := range map[string]string{
		"letter": "a", "space": " ", "newline": "\n", "emoji": "\U0001f600", "word": "the", "invalid": "\xff", "digit": "7", "dash": "-",
	} {
		t.Run(name, func(t *testing.T) {
			steps := func(bytes int) int {
				w := &work{ctx: t.Context(), room: 1 << 30}
				text := strings.Repeat(unit, bytes/len(unit))
				if err := tok.encode(w, text, EncodeOptions{}); err != nil {
					t.Fatal(err)
				}
				if back := tok.Decode(nil, w.out, DecodeOptions{}); string(back) != text {
					t.Error("another text came back")
				}
				return w.steps
			}
			n := 1 << 20
			if testing.Short() {
				n = 1 << 17
			}
			small, large := steps(n/16), steps(n)
			// At most 3n entries, each moving up to log2(n) levels in and out. For
			// sixteen times the text log2(n) is up to a third more: 21 times the
			// steps, where a quadratic merge takes 256 times.
			if large > 3*n*2*20 || large > 26*small {
				t.Errorf("%d steps for %d bytes, %d for %d", small, n/16, large, n)
			}
		})
	}
}

func TestSpecial(t *testing.T) {
	v := smallVocab([]string{"a b"}, map[string]TokenType{
		"<s>": Control, "<s>x": Control, "<s": UserDefined, "  ": UserDefined, "€": UserDefined, "<unk>": Unknown, "": Control,
	})
	tok := newTokenizer(t, v)
	for _, tt := range []struct {
		text  string
		parse bool
		want  string
	}{
		{"ab<s>ab", false, "ab|<s|>|ab"},
		{"ab<s>ab", true, "ab|<s>|ab"},
		{"<s>x<s>y", true, "<s>x|<s>|y"},
		{"<s<s>", true, "<s|<s>"},
		{"<<s>", true, "<|<s>"},
		{"<unk>", true, "<unk>"},
		{"<unk>", false, "<|u|n|k|>"},
		{"a   b", false, "a|  |Ġ|b"},
		{"a€b", false, "a|€|b"},
		{"a<s", true, "a|<s"},
		{"", true, ""},
		{"<s>", true, "<s>"},
	} {
		got := strings.Join(encodeTexts(t, tok, tt.text, EncodeOptions{ParseSpecial: tt.parse}), "|")
		if got != tt.want {
			t.Errorf("%q, parse %v: want %s, have %s", tt.text, tt.parse, tt.want, got)
		}
	}
	ids, _ := tok.Encode(t.Context(), nil, "a<s>€", EncodeOptions{ParseSpecial: true})
	if got := tok.Decode(nil, ids, DecodeOptions{}); string(got) != "a€" {
		t.Errorf("without control tokens: %q", got)
	}
	if got := tok.Decode(nil, ids, DecodeOptions{Special: true}); string(got) != "a<s>€" {
		t.Errorf("with control tokens: %q", got)
	}
}

func TestAddSpecial(t *testing.T) {
	v := smallVocab(nil, map[string]TokenType{"<s>": Control, "</s>": Control})
	v.BOS, v.EOS = ID(slices.Index(v.Tokens.(list[string]), "<s>")), ID(slices.Index(v.Tokens.(list[string]), "</s>"))
	on := true
	for _, tt := range []struct {
		pre            string
		addBOS, addEOS *bool
		want           string
	}{
		{"gpt-2", nil, nil, "a"},
		{"llama-bpe", nil, nil, "<s> a"},
		{"gpt-2", &on, nil, "<s> a"},
		{"gpt-2", &on, &on, "<s> a </s>"},
	} {
		v.Pre, v.AddBOS, v.AddEOS = tt.pre, tt.addBOS, tt.addEOS
		tok := newTokenizer(t, v)
		if got := strings.Join(encodeTexts(t, tok, "a", EncodeOptions{AddSpecial: true}), " "); got != tt.want {
			t.Errorf("%s: want %s, have %s", tt.pre, tt.want, got)
		}
		if got := strings.Join(encodeTexts(t, tok, "a", EncodeOptions{}), " "); got != "a" {
			t.Errorf("%s without: %s", tt.pre, got)
		}
	}
}

func TestLimit(t *testing.T) {
	tok := newTokenizer(t, readVocab(t, "testdata/smollm.vocab.json.gz"))
	text := "Hello there, how are you? <|im_end|>"
	all, err := tok.Encode(t.Context(), nil, text, EncodeOptions{ParseSpecial: true})
	if err != nil {
		t.Fatal(err)
	}
	prefix := []ID{7, 8}
	for limit := 1; limit <= len(all)+1; limit++ {
		got, err := tok.Encode(t.Context(), prefix, text, EncodeOptions{ParseSpecial: true, Limit: limit})
		if limit >= len(all) {
			if err != nil || !slices.Equal(got, append(slices.Clone(prefix), all...)) {
				t.Errorf("limit %d: %d, %v", limit, got, err)
			}
		} else if !errors.Is(err, ErrTooLong) || !slices.Equal(got, prefix) {
			t.Errorf("limit %d of %d: %d, %v", limit, len(all), got, err)
		}
	}

	// A text that can't fit is refused before any work; bytes without a token
	// don't count.
	w := &work{ctx: t.Context(), room: 10}
	if err := tok.encode(w, strings.Repeat("a", 1<<20), EncodeOptions{}); !errors.Is(err, ErrTooLong) || w.steps+w.spent > 0 {
		t.Errorf("%v after %d steps", err, w.steps+w.spent)
	}
	if ids, err := tok.Encode(t.Context(), nil, strings.Repeat("\xff", 1<<20), EncodeOptions{Limit: 10}); err != nil || len(ids) > 0 {
		t.Errorf("%d tokens, %v", len(ids), err)
	}
}

// countdown is a context that is done after it was asked n times.
type countdown struct {
	context.Context
	n int
}

func (c *countdown) Err() error {
	if c.n--; c.n < 0 {
		return context.Canceled
	}
	return nil
}
func (c *countdown) Deadline() (time.Time, bool) { return time.Time{}, false }

func TestCancel(t *testing.T) {
	tok := newTokenizer(t, readVocab(t, "testdata/smollm.vocab.json.gz"))
	for name, text := range map[string]string{
		"words":   strings.Repeat("some words ", 1<<16),
		"piece":   strings.Repeat("a", 1<<20),
		"special": strings.Repeat("<|im_", 1<<18),
	} {
		t.Run(name, func(t *testing.T) {
			for _, asked := range []int{0, 1, 5} {
				ids, err := tok.Encode(&countdown{t.Context(), asked}, nil, text, EncodeOptions{ParseSpecial: true})
				if !errors.Is(err, context.Canceled) || ids != nil {
					t.Errorf("asked %d times: %d tokens, %v", asked, len(ids), err)
				}
			}
		})
	}
}

// TestPolled: each stage of a long text looks at the context.
func TestPolled(t *testing.T) {
	v := readVocab(t, "testdata/gpt-2.vocab.json.gz")
	v.Pre = "llama-bpe"
	tok := newTokenizer(t, v)
	const n = 1 << 17
	for _, unit := range []string{"a", " ", "\n", "\U0001f600", "7", "<", "the "} {
		text := strings.Repeat(unit, n/len(unit))
		ctx := &countdown{t.Context(), 1 << 30}
		w := &work{ctx: ctx, room: 1 << 30}
		if err := tok.encode(w, text, EncodeOptions{ParseSpecial: true}); err != nil {
			t.Fatal(err)
		}
		// Looking for special tokens and cutting both pass over the whole text.
		if asked := 1<<30 - ctx.n; asked < n/pollSteps*3/2 {
			t.Errorf("%q: asked %d times for %d bytes", unit, asked, n)
		}
		for _, asked := range []int{n / pollSteps / 2, n / pollSteps * 5 / 4} {
			w = &work{ctx: &countdown{t.Context(), asked}, room: 1 << 30}
			if err := tok.encode(w, text, EncodeOptions{ParseSpecial: true}); !errors.Is(err, context.Canceled) {
				t.Errorf("%q, asked %d times: %v", unit, asked, err)
			}
		}
	}
}

func TestEncodeBudget(t *testing.T) {
	tok := newTokenizer(t, readVocab(t, "testdata/smollm.vocab.json.gz"))
	text := strings.Repeat("ab", 1<<16)
	b := budget.New(int64(len(text)) * pieceBytes)
	if _, err := tok.Encode(t.Context(), []ID{}, text, EncodeOptions{Budget: b}); err != nil {
		t.Error(err)
	}
	if b.Used() != 0 {
		t.Errorf("%d bytes are still charged", b.Used())
	}
	if _, err := tok.Encode(t.Context(), []ID{}, text+"a", EncodeOptions{Budget: b}); !errors.Is(err, budget.ErrExceeded) {
		t.Error(err)
	}
}

// TestTokensAreCharged: where the list of tokens is made by Encode, its memory counts
// while it grows.
func TestTokensAreCharged(t *testing.T) {
	tok := newTokenizer(t, readVocab(t, "testdata/smollm.vocab.json.gz"))
	for _, n := range []int{1, 64, 65, 1000} {
		text := strings.Repeat("a b ", n/2) + "a"
		want, err := tok.Encode(t.Context(), []ID{}, text, EncodeOptions{Budget: budget.New(0)})
		if err != nil {
			t.Fatal(err)
		}
		b := budget.New(4 * int64(max(len(want)*3/2, 64)))
		got, err := tok.Encode(t.Context(), nil, text, EncodeOptions{Budget: b})
		if err != nil || !slices.Equal(got, want) || int64(4*cap(got)) > b.Limit() || b.Used() != 0 {
			t.Errorf("%d tokens: %v, room for %d of %d bytes, %d still charged", len(want), err, cap(got), b.Limit(), b.Used())
		}
		b = budget.New(4*int64(max(len(want), 64)) - 1)
		if got, err := tok.Encode(t.Context(), nil, text, EncodeOptions{Budget: b}); !errors.Is(err, budget.ErrExceeded) || got != nil || b.Used() != 0 {
			t.Errorf("%d tokens in less room: %d, %v, %d still charged", len(want), len(got), err, b.Used())
		}
	}
}

func TestEncodeAllocations(t *testing.T) {
	tok := newTokenizer(t, readVocab(t, "testdata/smollm.vocab.json.gz"))
	text := "<|im_start|>It's 10 o'clock, 你好 — " + strings.Repeat("verylongword", 20) + "\n\n"
	dst := make([]ID, 0, 1024)
	buf := make([]byte, 0, 4096)
	stream := tok.Stream(DecodeOptions{})
	ctx := t.Context()
	n := testing.AllocsPerRun(100, func() {
		ids, err := tok.Encode(ctx, dst, text, EncodeOptions{ParseSpecial: true, AddSpecial: true, Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		buf = tok.Decode(buf[:0], ids, DecodeOptions{Special: true})
		buf = buf[:0]
		for _, id := range ids {
			buf = stream.Add(buf, id)
		}
		buf = stream.Flush(buf)
	})
	if n != 0 && !raceEnabled {
		t.Errorf("%v allocations", n)
	}
}

func TestConcurrent(t *testing.T) {
	tok := newTokenizer(t, readVocab(t, "testdata/smollm.vocab.json.gz"))
	texts := []string{"Hello world", strings.Repeat("a", 5000), "<|im_start|>user\n1234", strings.Repeat("word ", 3000)}
	want := make([][]ID, len(texts))
	for i, text := range texts {
		want[i], _ = tok.Encode(t.Context(), nil, text, EncodeOptions{ParseSpecial: true})
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 20 {
				k := (g + i) % len(texts)
				got, err := tok.Encode(t.Context(), nil, texts[k], EncodeOptions{ParseSpecial: true})
				if err != nil || !slices.Equal(got, want[k]) {
					t.Errorf("text %d: %v", k, err)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzEncodeDecode(f *testing.F) {
	lossless := newTokenizer(f, readVocab(f, "testdata/gpt-2.vocab.json.gz"))
	llama := readVocab(f, "testdata/gpt-2.vocab.json.gz")
	llama.Pre = "llama-bpe"
	toks := []*Tokenizer{lossless, newTokenizer(f, llama), newTokenizer(f, readVocab(f, "testdata/smollm.vocab.json.gz"))}
	for _, s := range []string{"", "Hello world", "it's 'LL 12345", "\xff\xfe<|endoftext|>", " \r\n\t  x", "\U0001f600é\xf0\x9f", "<|im_start|>\x04a\x06"} {
		f.Add(s, true, 0)
		f.Add(s, false, 3)
	}
	f.Fuzz(func(t *testing.T, text string, special bool, limit int) {
		for _, tok := range toks {
			ids, err := tok.Encode(t.Context(), nil, text, EncodeOptions{ParseSpecial: special, Limit: max(limit, 0)})
			if err != nil {
				if limit <= 0 || !errors.Is(err, ErrTooLong) {
					t.Fatal(err)
				}
				continue
			}
			if limit > 0 && len(ids) > limit {
				t.Fatalf("%d tokens, limit %d", len(ids), limit)
			}
			want := text
			if !tok.Lossless() {
				want = kept(tok, text)
			}
			got := string(tok.Decode(nil, ids, DecodeOptions{Special: true}))
			if !special && got != want || tok.Lossless() && got != want {
				t.Fatalf("%q came back as %q", text, got)
			}
			if len(want) > len(ids)*tok.MaxTokenBytes() {
				t.Fatalf("%d bytes in %d tokens of at most %d", len(want), len(ids), tok.MaxTokenBytes())
			}
		}
	})
}

// kept is text without the bytes that have no token.
func kept(tok *Tokenizer, text string) string {
	var b strings.Builder
	for i := range len(text) {
		if tok.model.takes(text[i]) {
			b.WriteByte(text[i])
		}
	}
	return b.String()
}

func BenchmarkEncode(b *testing.B) {
	tok := newTokenizer(b, readVocab(b, "testdata/smollm.vocab.json.gz"))
	for name, text := range map[string]string{
		"english": strings.Repeat("The licenses for most software are designed to take away your freedom to share and change it. ", 100),
		"code":    strings.Repeat("\tfor i := range len(text) {\n\t\tif text[i] != 0x41 {\n\t\t\treturn nil\n\t\t}\n\t}\n", 120),
		"chinese": strings.Repeat("自由软件的许可证是为了保证您有共享和更改软件的自由。", 120),
		"letter":  strings.Repeat("a", 10000),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			var ids []ID
			for b.Loop() {
				ids, _ = tok.Encode(b.Context(), ids[:0], text, EncodeOptions{})
			}
		})
	}
}

// BenchmarkTexts encodes the files of a folder.
func BenchmarkTexts(b *testing.B) {
	files, _ := filepath.Glob(filepath.Join(os.Getenv("DUNLIN_BENCH_TEXTS"), "*.txt"))
	if len(files) == 0 {
		b.Skip("DUNLIN_BENCH_TEXTS isn't a folder with texts")
	}
	for _, vocabulary := range []string{"smollm", "llama-spm"} {
		tok := newTokenizer(b, readVocab(b, "testdata/"+vocabulary+".vocab.json.gz"))
		for _, path := range files {
			text, err := os.ReadFile(path)
			if err != nil {
				b.Fatal(err)
			}
			b.Run(vocabulary+"/"+strings.TrimSuffix(filepath.Base(path), ".txt"), func(b *testing.B) {
				b.SetBytes(int64(len(text)))
				b.ReportAllocs()
				var ids []ID
				for b.Loop() {
					ids, _ = tok.Encode(b.Context(), ids[:0], string(text), EncodeOptions{})
				}
				b.ReportMetric(float64(len(ids)), "tokens")
			})
		}
	}
}

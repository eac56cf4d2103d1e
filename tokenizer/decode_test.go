package tokenizer

import (
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"os"
	"testing"
	"unicode/utf8"
)

func byteIDs(tok *Tokenizer, s []byte) []ID {
	ids := make([]ID, len(s))
	for i, c := range s {
		ids[i] = tok.model.(*bytePairs).bytes[c]
	}
	return ids
}

// TestStreamReplaces holds the replacement of invalid bytes against Python's.
func TestStreamReplaces(t *testing.T) {
	data, err := os.ReadFile("testdata/utf8.json")
	if err != nil {
		t.Fatal(err)
	}
	var rows [][2]string
	if err := json.Unmarshal(data, &rows); err != nil {
		t.Fatal(err)
	}
	tok := newTokenizer(t, smallVocab(nil, nil))
	for _, row := range rows {
		raw, err := hex.DecodeString(row[0])
		if err != nil {
			t.Fatal(err)
		}
		d := tok.Stream(DecodeOptions{})
		var text []byte
		for _, id := range byteIDs(tok, raw) {
			text = d.Add(text, id)
			if !utf8.Valid(text) || d.Held() > 3 {
				t.Fatalf("% x: %q, %d held", raw, text, d.Held())
			}
		}
		if text = d.Flush(text); string(text) != row[1] {
			t.Errorf("% x: want %q, have %q", raw, row[1], text)
		}
		if rest := d.Flush(nil); len(rest) > 0 {
			t.Errorf("% x: a second flush gives %q", raw, rest)
		}
	}
}

// TestStreamSplits: however the bytes are dealt out to tokens, the text is the
// same, and a character is out as soon as its last byte is in.
func TestStreamSplits(t *testing.T) {
	tok := newTokenizer(t, readVocab(t, "testdata/gpt-2.vocab.json.gz"))
	rng := rand.New(rand.NewPCG(1, 2))
	text := "Ünïcödé 你好 \U0001f469\u200d\U0001f680 a\xffb\xe2\x82 \xf0\x9f\x98x\xed\xa0\x80"
	whole := tok.Stream(DecodeOptions{})
	var want []byte
	for _, id := range byteIDs(tok, []byte(text)) {
		want = whole.Add(want, id)
	}
	want = whole.Flush(want)
	for range 500 {
		d := tok.Stream(DecodeOptions{})
		var got []byte
		for rest := text; rest != ""; {
			n := 1 + rng.IntN(len(rest))
			ids, err := tok.Encode(t.Context(), nil, rest[:n], EncodeOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range ids {
				got = d.Add(got, id)
			}
			rest = rest[n:]
		}
		if got = d.Flush(got); string(got) != string(want) {
			t.Fatalf("want %q, have %q", want, got)
		}
	}
	d := tok.Stream(DecodeOptions{})
	if got := d.Add(d.Add(nil, byteIDs(tok, []byte("\xc3"))[0]), byteIDs(tok, []byte("\xa9"))[0]); string(got) != "é" || d.Held() != 0 {
		t.Errorf("%q, %d held", got, d.Held())
	}
	d.Add(nil, byteIDs(tok, []byte("\xc3"))[0])
	if d.Reset(); d.Held() != 0 || len(d.Flush(nil)) != 0 {
		t.Error("something is held after Reset")
	}
}

func TestDecodeOutside(t *testing.T) {
	tok := newTokenizer(t, smallVocab(nil, map[string]TokenType{"▁x": Normal, "<s>": Control}))
	for _, tt := range []struct {
		text, want, special string
	}{
		{"▁x", "▁x", "▁x"}, // not of the byte alphabet: as it stands
		{"Ġ", " ", " "},
		{"Ċ", "\n", "\n"},
		{"<s>", "", "<s>"},
	} {
		id := tok.Lookup(tt.text)
		if got := tok.AppendToken(nil, id, DecodeOptions{}); string(got) != tt.want {
			t.Errorf("%s: want %q, have %q", tt.text, tt.want, got)
		}
		if got := tok.AppendToken(nil, id, DecodeOptions{Special: true}); string(got) != tt.special {
			t.Errorf("%s special: want %q, have %q", tt.text, tt.special, got)
		}
	}
	for _, id := range []ID{None, -5, ID(tok.Size()), 1 << 30} {
		if got := tok.AppendToken(nil, id, DecodeOptions{Special: true}); len(got) > 0 || tok.Text(id) != "" || tok.Type(id) != Undefined {
			t.Errorf("token %d: %q", id, got)
		}
	}
}

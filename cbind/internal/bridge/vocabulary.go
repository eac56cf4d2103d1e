package bridge

import (
	"bytes"

	"github.com/dunlin-go/dunlin/cbind/internal/device"
	"github.com/dunlin-go/dunlin/tokenizer"
)

// vocabulary has the texts of a model's tokens.
type vocabulary struct {
	v       *device.Vocabulary
	ends    map[int32]bool // end-of-generation tokens
	spaced  bool           // it writes a space before each text
	longest int            // bytes of a token
}

func newVocabulary(v *device.Vocabulary, info *device.Info) *vocabulary {
	w := &vocabulary{v: v, ends: map[int32]bool{}, spaced: info.SpacePrefix, longest: 1}
	for _, id := range info.EndIDs {
		w.ends[id] = true
	}
	for id := range v.Kinds {
		w.longest = max(w.longest, int(v.Offsets[id+1]-v.Offsets[id]))
	}
	return w
}

// kind is what an id is.
func (w *vocabulary) kind(id int32) device.TokenKind {
	if id < 0 || int(id) >= len(w.v.Kinds) {
		return device.NoToken
	}
	return w.v.Kinds[id]
}

// bytes are those of a token, and the names of special ones; nil for an unknown id.
// They are the vocabulary's own.
func (w *vocabulary) bytes(id int32) []byte {
	if w.kind(id) == device.NoToken {
		return nil
	}
	return w.v.Bytes[w.v.Offsets[id]:w.v.Offsets[id+1]:w.v.Offsets[id+1]]
}

// text is the [runtime.TokenText] of one answer.
type text struct {
	words  *vocabulary
	stream tokenizer.UTF8Stream
	first  bool // the next token begins a text
}

// textAfter is for the tokens that go on those of a prompt.
func (w *vocabulary) textAfter(prompt []int32) *text {
	return &text{words: w, first: len(prompt) > 0 && w.kind(prompt[len(prompt)-1]) == device.Special}
}

// Text implements [runtime.TokenText]. Special tokens have no text.
func (t *text) Text(id int32) string {
	if t.words.kind(id) != device.Text {
		return ""
	}
	b := t.words.bytes(id)
	if t.first && len(b) > 0 {
		t.first = false
		if t.words.spaced {
			b = bytes.TrimPrefix(b, []byte(" "))
		}
	}
	return t.stream.Text(b)
}

// Flush implements [runtime.TokenText].
func (t *text) Flush(dst []byte) []byte { return t.stream.Flush(dst) }

// Reset implements [runtime.TokenText].
func (t *text) Reset() { t.stream.Reset() }

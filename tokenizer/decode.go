package tokenizer

import (
	"strings"
	"unicode/utf8"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// DecodeOptions says how tokens become text.
type DecodeOptions struct {
	// Special writes control tokens as their text; without it they stand for
	// nothing.
	Special bool
	// Continue takes the tokens as the rest of a text. Without it they are a whole
	// one, and the space goes that its encoding may have begun with.
	Continue bool
}

// AppendToken appends the bytes that one token stands for, which may be part of
// a character. An id outside the vocabulary stands for nothing.
func (t *Tokenizer) AppendToken(dst []byte, id ID, opt DecodeOptions) []byte {
	if !t.texts.has(id) {
		return dst
	}
	switch t.kinds[id] {
	case Unknown, Control:
		if !opt.Special {
			return dst
		}
		return append(dst, t.texts.at(id)...)
	case UserDefined:
		if !t.traits.marked {
			return append(dst, t.texts.at(id)...)
		}
	}
	return t.model.appendBytes(dst, id)
}

// plainTexts are the bytes that all tokens stand for, end to end in one string,
// so that a text of whole characters is handed out without an allocation.
type plainTexts struct {
	arena string
	ends  []uint32
}

func (p *plainTexts) at(id ID) string {
	if id < 0 || int(id) >= len(p.ends) {
		return ""
	}
	from := uint32(0)
	if id > 0 {
		from = p.ends[id-1]
	}
	return p.arena[from:p.ends[id]]
}

// decodeAll makes the plain texts of the vocabulary. No token stands for more
// bytes than its spelling has.
func (t *Tokenizer) decodeAll(lease *budget.Lease) error {
	n := t.texts.len()
	if err := lease.Reserve(budget.Vocabulary, int64(len(t.texts.arena))+int64(t.texts.longest)+4*int64(n)); err != nil {
		return err
	}
	t.maxTokenBytes = 1
	var all strings.Builder // which gives its string without another copy of all
	all.Grow(len(t.texts.arena))
	one := make([]byte, 0, t.texts.longest)
	t.plain.ends = make([]uint32, n)
	for id := range ID(n) {
		one = t.AppendToken(one[:0], id, DecodeOptions{})
		all.Write(one)
		t.plain.ends[id] = uint32(all.Len())
		size := len(one)
		if size == 0 { // a control token, which has a text only where that is asked for
			size = len(t.texts.at(id))
		}
		t.maxTokenBytes = max(t.maxTokenBytes, size)
	}
	if t.traits.marked {
		t.maxTokenBytes = max(t.maxTokenBytes, t.texts.longest)
	}
	t.plain.arena = all.String()
	return nil
}

// Decode appends the bytes that ids stand for. They are UTF-8 where the ids came
// from such a text; a model may generate others. [StreamDecoder] gives text that
// is always valid.
func (t *Tokenizer) Decode(dst []byte, ids []ID, opt DecodeOptions) []byte {
	from, first := len(dst), t.spacePrefix(opt)
	for _, id := range ids {
		dst = t.AppendToken(dst, id, opt)
		if first && len(dst) > from {
			dst, first = cutSpace(dst, from), false
		}
	}
	return dst
}

// spacePrefix reports whether a text begins with a space that isn't its own.
func (t *Tokenizer) spacePrefix(opt DecodeOptions) bool { return t.traits.spacePrefix && !opt.Continue }

// cutSpace is b without the byte at place i, if that is a space.
func cutSpace(b []byte, i int) []byte {
	if b[i] == ' ' {
		b = append(b[:i], b[i+1:]...)
	}
	return b
}

// Stream starts the decoding of tokens one by one.
func (t *Tokenizer) Stream(opt DecodeOptions) *StreamDecoder {
	return &StreamDecoder{t: t, opt: opt, first: t.spacePrefix(opt)}
}

// StreamAfter is [Tokenizer.Stream] for the tokens that go on those of a prompt.
// The first is taken for the beginning of a text where Encode would begin one:
// if the prompt is empty or ends with a special token. opt.Continue is set to
// that.
func (t *Tokenizer) StreamAfter(prompt []ID, opt DecodeOptions) *StreamDecoder {
	opt.Continue = false
	if len(prompt) > 0 {
		switch t.Type(prompt[len(prompt)-1]) {
		case Control, Unknown, UserDefined:
		default:
			opt.Continue = true
		}
	}
	return t.Stream(opt)
}

// StreamDecoder turns tokens into valid UTF-8 as they come. Bytes that may
// become a character are held back until they do. Bytes that can't are replaced
// by U+FFFD, one for each longest beginning of a character, as Unicode
// recommends and as Python's bytes.decode("utf-8", "replace") does. It has one
// user at a time.
type StreamDecoder struct {
	t    *Tokenizer
	opt  DecodeOptions
	held []byte
	text []byte
	// No token had a text yet, and the first may have a space too many.
	first bool
}

// Add appends the text that has become certain with one more token.
func (d *StreamDecoder) Add(dst []byte, id ID) []byte {
	d.held = d.t.AppendToken(d.held, id, d.opt)
	if d.first && len(d.held) > 0 {
		d.held, d.first = cutSpace(d.held, 0), false
	}
	return d.take(dst, false)
}

// Text is [StreamDecoder.Add] for a caller who wants a string. It allocates
// nothing where the token stands for whole characters and none were open.
func (d *StreamDecoder) Text(id ID) string {
	if len(d.held) == 0 && !d.opt.Special {
		if text := d.t.plain.at(id); utf8.ValidString(text) {
			if d.first && text != "" {
				d.first = false
				text = strings.TrimPrefix(text, " ")
			}
			return text
		}
	}
	d.text = d.Add(d.text[:0], id)
	return string(d.text)
}

// Flush appends what was held back, which no token follows.
func (d *StreamDecoder) Flush(dst []byte) []byte { return d.take(dst, true) }

// Reset forgets what was held back.
func (d *StreamDecoder) Reset() { d.held = d.held[:0] }

// Held is the number of bytes held back.
func (d *StreamDecoder) Held() int { return len(d.held) }

func (d *StreamDecoder) take(dst []byte, final bool) []byte {
	dst, d.held = takeUTF8(dst, d.held, final)
	return dst
}

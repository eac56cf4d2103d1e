package tokenizer

import (
	"unicode/utf8"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// charPairs is BPE over characters, with SentencePiece's spelling of spaces: the
// characters of a text are the first tokens, or their bytes where they are none,
// and neighbours are merged by a list as in byte-level BPE. So Hugging Face's
// tokenizers have vocabularies that SentencePiece made, and GGUF that of Gemma 4.
type charPairs struct {
	texts    *texts
	kinds    []TokenType
	pairs    pairs
	sentence sentence
	fallback fallback
}

func newCharPairs(v *Vocab, x *texts, kinds []TokenType, lease *budget.Lease) (model, error) {
	plain := *v
	if v.AddSpacePrefix == nil {
		plain.AddSpacePrefix = new(bool)
	}
	p := &charPairs{texts: x, kinds: kinds, fallback: newFallback(v, x, kinds)}
	var err error
	if p.sentence, err = newSentence(&plain, x, kinds, lease); err != nil {
		return nil, err
	}
	// Tokens that are matched as they stand may be merged too: Gemma has runs of
	// spaces and newlines that are both.
	return p, p.pairs.read(v.Merges, x, func(id ID) bool { return id != None }, lease)
}

func (p *charPairs) encode(w *work, text string, start bool) error {
	if p.fallback.complete && len(text) >= 2*partBytes {
		return p.sentence.encodeLong(w, text, start, p)
	}
	return p.sentence.encode(w, text, start, p)
}

func (p *charPairs) piece(w *work, text []byte) error {
	if err := w.price(len(text)); err != nil {
		return err
	}
	w.ids = w.ids[:0]
	for len(text) > 0 {
		_, n := utf8.DecodeRune(text)
		if err := w.spend(n); err != nil {
			return err
		}
		if id := p.texts.lookupBytes(text[:n]); id != None && p.kinds[id] != Control {
			w.ids = append(w.ids, id)
			w.lost = false
		} else if err := p.missing(w, text[:n]); err != nil {
			return err
		}
		text = text[n:]
	}
	if len(w.ids) > shortPiece {
		return p.pairs.mergeLong(w)
	}
	return w.add(p.pairs.mergeShort(w)...)
}

// missing takes a character that is no token.
func (p *charPairs) missing(w *work, char []byte) error {
	if p.fallback.complete {
		for _, c := range char {
			w.ids = append(w.ids, p.fallback.bytes[c])
		}
		return nil
	}
	if p.fallback.unknown != None && !w.lost {
		w.ids = append(w.ids, p.fallback.unknown)
		w.lost = true
	}
	return nil
}

func (p *charPairs) appendBytes(dst []byte, id ID) []byte {
	return appendMarked(dst, p.texts.at(id), p.kinds[id])
}

func (p *charPairs) takes(byte) bool { return p.fallback.complete }

func (p *charPairs) traits() traits {
	return traits{marked: true, spacePrefix: p.sentence.prefix, bounded: p.fallback.complete && !p.sentence.collapse}
}

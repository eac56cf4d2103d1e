package tokenizer

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// maxWordRunes is the most characters of a word that is taken apart; a longer
// one is unknown.
const maxWordRunes = 100

// wordPieces is BERT's WordPiece: text is cleaned, made lower case, freed of
// accents and cut into words, where each punctuation mark and each ideograph is
// one; of a word the longest token that it begins with is taken again and again.
// A word for which that fails is the unknown token. In GGUF a token that begins
// a word has "▁" before it, and one that goes on a word has nothing.
//
// Sources: Devlin et al., "BERT", https://arxiv.org/abs/1810.04805, and
// tokenization.py of https://github.com/google-research/bert; the Unicode is
// that of Hugging Face's BertNormalizer.
type wordPieces struct {
	texts   *texts
	trie    *trie
	words   uint32 // the node of the mark, or 0
	unknown ID     // or None

	lower, strip bool
}

func newWordPieces(v *Vocab, x *texts, kinds []TokenType, lease *budget.Lease) (model, error) {
	if v.AddSpacePrefix != nil && *v.AddSpacePrefix {
		return nil, fmt.Errorf("%w: add_space_prefix with WordPiece", ErrUnsupported)
	}
	if v.Charsmap != nil {
		return nil, fmt.Errorf("%w: precompiled_charsmap with WordPiece", ErrUnsupported)
	}
	p := &wordPieces{texts: x, unknown: v.Unknown, lower: v.Lowercase == nil || *v.Lowercase}
	p.strip = p.lower
	if v.StripAccents != nil {
		p.strip = *v.StripAccents
	}
	var err error
	if p.trie, err = newTrie(x, kinds, lease); err != nil {
		return nil, err
	}
	p.words = p.trie.next(0, spaceMark)
	return p, nil
}

func (p *wordPieces) encode(w *work, text string, _ bool) error {
	word := word{w: w, p: p}
	w.spelling = w.spelling[:0]
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		if err := w.spend(n); err != nil {
			return err
		}
		var err error
		switch bertRune(r) {
		case bertRemoved:
		case bertSpace:
			err = word.end()
		case bertIdeograph:
			if err = word.end(); err == nil {
				if err = p.letter(&word, text[:n], r); err == nil {
					err = word.end()
				}
			}
		default:
			err = p.letter(&word, text[:n], r)
		}
		if err != nil {
			return err
		}
		text = text[n:]
	}
	return word.end()
}

// letter adds to the word what the character r, written char, is normalised to.
func (p *wordPieces) letter(word *word, char string, r rune) error {
	if !p.strip || r < utf8.RuneSelf {
		return p.small(word, r)
	}
	var jamo [3]rune
	if syllable := hangul(r, &jamo); len(syllable) > 0 {
		for _, r := range syllable {
			if err := p.small(word, r); err != nil {
				return err
			}
		}
		return nil
	}
	parts := decomposition(r, char)
	if parts == nil {
		if bertMark(r) {
			return nil
		}
		return p.small(word, r)
	}
	for i := 0; i < len(parts); {
		r, n := utf8.DecodeRune(parts[i:])
		if i += n; bertMark(r) {
			continue
		}
		if err := p.small(word, r); err != nil {
			return err
		}
	}
	return nil
}

// small adds the character, in lower case where that is asked for.
func (p *wordPieces) small(word *word, r rune) error {
	if !p.lower {
		return word.add(r)
	}
	if r == 'İ' {
		if err := word.add('i'); err != nil {
			return err
		}
		return word.add('\u0307')
	}
	return word.add(bertLower(r))
}

// decomposition is that of NFD, nil for a character that stays.
func decomposition(r rune, char string) []byte {
	if r == '\U00011938' { // since Unicode 13
		return nil
	}
	return norm.NFD.PropertiesString(char).Decomposition()
}

// hangul takes a syllable apart, as NFD does; nil if r is none.
//
// Source: The Unicode Standard, section 3.12.
func hangul(r rune, jamo *[3]rune) []rune {
	const (
		first, last      = 0xac00, 0xd7a3
		lead, vowel      = 0x1100, 0x1161
		trail            = 0x11a7
		vowels, trailing = 21, 28
	)
	if r < first || r > last {
		return nil
	}
	i := r - first
	jamo[0], jamo[1] = lead+i/(vowels*trailing), vowel+i%(vowels*trailing)/trailing
	if t := i % trailing; t > 0 {
		jamo[2] = trail + t
		return jamo[:]
	}
	return jamo[:2]
}

// word is one that is being read, in w.spelling.
type word struct {
	w     *work
	p     *wordPieces
	runes int // of which the first maxWordRunes are kept
}

// add adds a normalised character, which may end the word.
func (word *word) add(r rune) error {
	switch {
	case bertBlank(r):
		return word.end()
	case bertPunctuation(r):
		if err := word.end(); err != nil {
			return err
		}
		word.push(r)
		return word.end()
	}
	word.push(r)
	return nil
}

func (word *word) push(r rune) {
	if word.runes++; word.runes <= maxWordRunes {
		word.w.spelling = utf8.AppendRune(word.w.spelling, r)
	}
}

// end adds the tokens of the word.
func (word *word) end() error {
	w, n := word.w, word.runes
	text := w.spelling
	word.runes, w.spelling = 0, w.spelling[:0]
	switch {
	case n == 0:
		return nil
	case n <= maxWordRunes:
		ok, err := word.p.pieces(w, text)
		if ok || err != nil {
			return err
		}
	}
	if word.p.unknown == None {
		return nil
	}
	return w.add(word.p.unknown)
}

// pieces adds the tokens of a word, if it can be written in tokens.
func (p *wordPieces) pieces(w *work, text []byte) (ok bool, err error) {
	w.ids = slices.Grow(w.ids[:0], maxWordRunes)
	for at := 0; at < len(text); {
		node := p.words // a word begins behind the mark
		if at > 0 {
			node = 0
		}
		if at == 0 && node == 0 {
			return false, nil
		}
		id, end, steps := None, at, 0
		for i := at; i < len(text); {
			r, n := utf8.DecodeRune(text[i:])
			if at > 0 && i == at && r == spaceMark {
				break // tokens with the mark begin a word
			}
			i += n
			steps++
			if node = p.trie.next(node, r); node == 0 {
				break
			}
			if p.trie.ends[node] != None {
				id, end = p.trie.ends[node], i
			}
		}
		w.steps += steps
		if err := w.spend(steps); err != nil {
			return false, err
		}
		if id == None {
			return false, nil
		}
		w.ids = append(w.ids, id)
		at = end
	}
	return true, w.add(w.ids...)
}

// appendBytes appends the token with a space for the mark, so that words stand
// apart.
func (p *wordPieces) appendBytes(dst []byte, id ID) []byte {
	text := p.texts.at(id)
	if len(text) >= len(markText) && text[:len(markText)] == markText {
		dst, text = append(dst, ' '), text[len(markText):]
	}
	return append(dst, text...)
}

func (p *wordPieces) takes(byte) bool { return false }

func (p *wordPieces) traits() traits {
	return traits{addBOS: true, addEOS: true, spacePrefix: true}
}

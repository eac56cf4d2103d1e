package tokenizer

import (
	"fmt"
	"slices"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// model is an algorithm over a checked vocabulary.
type model interface {
	// encode adds the tokens of text, in which no special token is looked for.
	// It isn't empty; start: it begins the whole text or follows a special token.
	encode(w *work, text string, start bool) error
	// appendBytes appends what a token stands for that isn't special.
	appendBytes(dst []byte, id ID) []byte
	// takes reports whether the byte becomes part of some token.
	takes(c byte) bool
	traits() traits
}

// traits are what else there is to know of an algorithm with its vocabulary.
type traits struct {
	addBOS, addEOS bool // what Encode does where the file doesn't say
	exact          bool // the bytes that it takes come back as they were
	// The bytes of a text are no more than those of its tokens, as the vocabulary
	// spells them. Without this a token may stand for any number of bytes.
	bounded bool
	marked  bool // tokens spell a space as "▁", user-defined ones too
	// The first token of a text that follows no other begins with a space that
	// the text doesn't have.
	spacePrefix bool
}

// algorithm makes a model from a vocabulary.
type algorithm struct {
	make func(*Vocab, *texts, []TokenType, *budget.Lease) (model, error)
	// The tokens where the file names none, as in llama.cpp; they count if they
	// are control tokens or an unknown one.
	bos, eos, unknown ID
}

// models is the algorithm for each name of tokenizer.ggml.model.
var models = map[string]algorithm{
	"bert":   {newWordPieces, 101, 102, 100},
	"gemma4": {newCharPairs, None, None, None},
	"gpt2":   {newBytePairs, None, None, None},
	"llama":  {newScoredPairs, 1, 2, 0},
	"t5":     {newUnigrams, None, 1, 2},
}

// withDefaults is v with the tokens that the file doesn't name.
func (a algorithm) withDefaults(v *Vocab, kinds []TokenType) *Vocab {
	c := *v
	if c.Model == "bert" { // what encloses a text has names of its own there
		c.BOS, c.EOS = either(c.CLS, c.BOS), either(c.SEP, c.EOS)
	}
	for _, d := range []struct {
		at *ID
		id ID
	}{{&c.BOS, a.bos}, {&c.EOS, a.eos}, {&c.Unknown, a.unknown}} {
		if *d.at == None && d.id != None && int(d.id) < len(kinds) && (kinds[d.id] == Control || kinds[d.id] == Unknown) {
			*d.at = d.id
		}
	}
	return &c
}

// either is a, or b where a is None.
func either(a, b ID) ID {
	if a == None {
		return b
	}
	return a
}

// Tokenizer is a vocabulary ready for use. It is immutable.
type Tokenizer struct {
	name, pre string
	texts     *texts
	plain     plainTexts
	kinds     []TokenType
	model     model

	special       *specials // unknown, control and user-defined tokens
	userDefined   *specials
	endOfGen      []ID
	bos, eos, eot ID

	traits         traits
	addBOS, addEOS bool
	takesAll       bool // each byte of any text becomes part of some token
	maxTokenBytes  int
}

// New makes a tokenizer from a model file's metadata. The memory that it keeps
// is charged to lease, before it is allocated; after an error too, until the
// lease is closed.
func New(src Source, lease *budget.Lease) (*Tokenizer, error) {
	v, err := ReadVocab(src)
	if err != nil {
		return nil, err
	}
	return FromVocab(v, lease)
}

// FromVocab makes a tokenizer from a vocabulary, as [New] does. Nothing of v is
// kept.
func FromVocab(v *Vocab, lease *budget.Lease) (*Tokenizer, error) {
	t, err := fromVocab(v, lease)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	return t, nil
}

func fromVocab(v *Vocab, lease *budget.Lease) (*Tokenizer, error) {
	algorithm, ok := models[v.Model]
	if !ok {
		return nil, fmt.Errorf("%w: algorithm %s", ErrUnsupported, quote(v.Model))
	}
	if v.Tokens == nil {
		return nil, fmt.Errorf("%w: no tokens", ErrVocabulary)
	}
	t := &Tokenizer{name: v.Model, pre: v.Pre}
	var err error
	if t.texts, err = newTexts(v.Tokens, lease); err != nil {
		return nil, err
	}
	n := t.texts.len()
	if err := lease.ReserveItems(budget.Vocabulary, uint64(n), 1); err != nil {
		return nil, err
	}
	if t.kinds, err = v.tokenKinds(n); err != nil {
		return nil, err
	}
	v = algorithm.withDefaults(v, t.kinds)
	if err := v.checkIDs(n); err != nil {
		return nil, err
	}
	if t.model, err = algorithm.make(v, t.texts, t.kinds, lease); err != nil {
		return nil, err
	}
	t.traits = t.model.traits()
	if err := t.indexSpecials(lease); err != nil {
		return nil, err
	}
	if err := t.setEnds(v); err != nil {
		return nil, err
	}
	t.takesAll = true
	for c := range 256 {
		t.takesAll = t.takesAll && t.model.takes(byte(c))
	}
	return t, t.decodeAll(lease)
}

// indexSpecials collects the tokens that are found in text as they stand.
func (t *Tokenizer) indexSpecials(lease *budget.Lease) (err error) {
	var special, userDefined []ID
	count := func(k TokenType) (n int) {
		for _, kind := range t.kinds {
			if kind == k {
				n++
			}
		}
		return n
	}
	users := count(UserDefined)
	all := users + count(Control) + count(Unknown)
	if err := lease.ReserveItems(budget.Vocabulary, uint64(all+users), 4); err != nil {
		return err
	}
	special, userDefined = make([]ID, 0, all), make([]ID, 0, users)
	for i, kind := range t.kinds {
		id := ID(i)
		if t.texts.at(id) == "" {
			continue
		}
		switch kind {
		case UserDefined:
			special, userDefined = append(special, id), append(userDefined, id)
		case Control, Unknown:
			special = append(special, id)
		}
	}
	if t.special, err = newSpecials(t.texts, special); err != nil {
		return err
	}
	t.userDefined, err = newSpecials(t.texts, userDefined)
	return err
}

// endTexts are control tokens that end a turn or a text in some family of
// models, whose files often name only one of theirs.
var endTexts = []string{
	"<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>",
	"<end_of_turn>", "<|EOT|>", "</s>", "<｜end▁of▁sentence｜>",
}

func (t *Tokenizer) setEnds(v *Vocab) error {
	t.bos, t.eos, t.eot = v.BOS, v.EOS, v.EOT
	t.addBOS, t.addEOS = t.traits.addBOS && t.bos != None, t.traits.addEOS && t.eos != None
	if v.AddBOS != nil {
		t.addBOS = *v.AddBOS
	}
	if v.AddEOS != nil {
		t.addEOS = *v.AddEOS
	}
	if t.addBOS && t.bos == None || t.addEOS && t.eos == None {
		return fmt.Errorf("%w: a token is to be added to each text that the vocabulary doesn't name", ErrVocabulary)
	}
	ends := []ID{v.EOS, v.EOT, v.EOM}
	for _, text := range endTexts {
		if id := t.texts.lookup(text); id != None && t.kinds[id] == Control {
			ends = append(ends, id)
		}
	}
	slices.Sort(ends)
	ends = slices.Compact(ends)
	t.endOfGen = slices.DeleteFunc(ends, func(id ID) bool {
		// Where <|return|> ends the answer, <|end|> ends only one of its parts.
		return id == None || id != v.EOS && t.texts.at(id) == "<|end|>" && t.texts.lookup("<|return|>") != None
	})
	return nil
}

// Algorithm is the name of the algorithm and of the rule that cuts text into
// pieces, as the file has them; pre is "" for an algorithm that doesn't cut.
func (t *Tokenizer) Algorithm() (model, pre string) { return t.name, t.pre }

// Size is the number of tokens. A model may have rows for more: those ids have
// no text and must not be sampled.
func (t *Tokenizer) Size() int { return t.texts.len() }

// BOS is the token that begins a text, or [None].
func (t *Tokenizer) BOS() ID { return t.bos }

// EOS is the token that ends a text, or [None].
func (t *Tokenizer) EOS() ID { return t.eos }

// EOT is the token that ends a turn of a conversation where the file names one
// besides EOS, or [None].
func (t *Tokenizer) EOT() ID { return t.eot }

// AddsBOS reports whether [EncodeOptions.AddSpecial] puts BOS before a text.
func (t *Tokenizer) AddsBOS() bool { return t.addBOS }

// AddsEOS reports whether [EncodeOptions.AddSpecial] puts EOS after a text.
func (t *Tokenizer) AddsEOS() bool { return t.addEOS }

// Lossless reports whether each byte has a token, so that decoding gives back
// every text that was encoded. Of the algorithms only byte-level BPE can: the
// others take a text's own "▁" for a space, or normalise.
func (t *Tokenizer) Lossless() bool { return t.takesAll && t.traits.exact }

// MaxTokenBytes is the length of the longest token's bytes, or of its spelling
// where it has "▁" for a space: a text of n bytes has at least n / MaxTokenBytes
// tokens in a lossless vocabulary, and in a SentencePiece BPE one that has all
// byte tokens and doesn't normalise. It is at least 1.
func (t *Tokenizer) MaxTokenBytes() int { return t.maxTokenBytes }

// IsEndOfGeneration reports whether a model that generates the token has
// finished: it is one of the file's eos, eot and eom tokens, or a control token
// known to end a turn or a text, like <|im_end|> and <|endoftext|>.
func (t *Tokenizer) IsEndOfGeneration(id ID) bool {
	return id != None && slices.Contains(t.endOfGen, id)
}

// EndOfGeneration lists the tokens of [Tokenizer.IsEndOfGeneration] in
// ascending order.
func (t *Tokenizer) EndOfGeneration() []ID { return slices.Clone(t.endOfGen) }

// Type is the token's type, [Undefined] for an id outside the vocabulary.
func (t *Tokenizer) Type(id ID) TokenType {
	if !t.texts.has(id) {
		return Undefined
	}
	return t.kinds[id]
}

// Text is the token as the vocabulary spells it, where a byte-level vocabulary
// has "Ġ" for a space and the others have "▁"; "" for an id outside the
// vocabulary.
func (t *Tokenizer) Text(id ID) string {
	if !t.texts.has(id) {
		return ""
	}
	return t.texts.at(id)
}

// Lookup is the token that the vocabulary spells so, or [None].
func (t *Tokenizer) Lookup(text string) ID { return t.texts.lookup(text) }

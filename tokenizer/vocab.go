package tokenizer

import (
	"fmt"
	"math"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// ID is a token's number, its row in the model's embedding.
type ID = int32

// None stands for a token that the vocabulary doesn't have.
const None ID = -1

// maxTokens bounds the tokens and the merges of a vocabulary. The largest
// vocabularies in use have about 2^18.
const maxTokens = 1 << 24

// maxTokenText bounds the text of a token, in bytes. The longest in use are runs of
// some hundred spaces or dashes. What holds a few tokens' texts is bounded by it.
const maxTokenText = 1 << 14

// TokenType says what a token is, with GGUF's numbers.
type TokenType uint8

// The token types of GGUF.
const (
	Undefined   TokenType = 0
	Normal      TokenType = 1
	Unknown     TokenType = 2 // stands for text that has no token
	Control     TokenType = 3 // structure, not text: <|im_start|>
	UserDefined TokenType = 4 // text that is always one token
	Unused      TokenType = 5
	Byte        TokenType = 6 // a single byte, written <0x0A>
	tokenTypes  TokenType = 7
)

// List is a sequence of values that stay where they are.
type List[T any] interface {
	Len() int
	At(i int) T
}

// Source is the metadata of a model file. A getter's ok is false where the key
// is missing or holds another kind of value. Lists are read inside New and not
// kept.
type Source interface {
	String(key string) (v string, ok bool)
	Uint(key string) (v uint64, ok bool)
	Bool(key string) (v, ok bool)
	Strings(key string) (v List[string], ok bool)
	Ints(key string) (v List[int64], ok bool)
	Floats(key string) (v List[float64], ok bool)
}

// Vocab is a vocabulary as a file gives it, before anything is checked. Lists
// that the file doesn't have are nil.
type Vocab struct {
	Model string // the algorithm: "gpt2" is byte-level BPE
	Pre   string // the rule that cuts text into pieces; "" where there is none
	Rule  *Rule  // stands over Pre; nil where the file only has a name

	Tokens List[string]
	Types  List[int64]   // a [TokenType] each; nil: all Normal
	Scores List[float64] // a number each, of SentencePiece vocabularies
	Merges List[string]  // "left right", the earliest merged first

	BOS, EOS, EOT, EOM ID // or None

	// What stands for text without a token, what BERT puts before and after a
	// text, and what fills and hides places of a batch; or None.
	Unknown, CLS, SEP, Pad, Mask ID

	// Whether Encode adds BOS and EOS, and puts a space before text; nil leaves
	// it to the algorithm.
	AddBOS, AddEOS, AddSpacePrefix *bool
	// SpacePrefixOnce: none is put before a text that begins with one.
	SpacePrefixOnce bool

	// RemoveExtraSpaces, of SentencePiece vocabularies: spaces at the ends of a
	// text go, and of others that follow each other all but one. nil: false.
	RemoveExtraSpaces *bool
	// Charsmap, of SentencePiece vocabularies, are the bytes of the table that
	// text is normalised with first.
	Charsmap List[int64]
	// Lowercase and StripAccents, of WordPiece vocabularies: letters become
	// small, and marks on them go. nil: true, and what Lowercase is.
	Lowercase, StripAccents *bool
}

// ReadVocab collects the vocabulary from GGUF's metadata keys.
func ReadVocab(src Source) (*Vocab, error) {
	const prefix = "tokenizer.ggml."
	v := &Vocab{}
	v.Model, _ = src.String(prefix + "model")
	v.Pre, _ = src.String(prefix + "pre")
	if v.Model == "" {
		return nil, fmt.Errorf("tokenizer: %w: %smodel is missing", ErrVocabulary, prefix)
	}
	var ok bool
	if v.Tokens, ok = src.Strings(prefix + "tokens"); !ok {
		return nil, fmt.Errorf("tokenizer: %w: %stokens is missing or not a list of strings", ErrVocabulary, prefix)
	}
	if v.Types, ok = src.Ints(prefix + "token_type"); !ok {
		v.Types = nil
	}
	if v.Scores, ok = src.Floats(prefix + "scores"); !ok {
		v.Scores = nil
	}
	if v.Merges, ok = src.Strings(prefix + "merges"); !ok {
		v.Merges = nil
	}
	if v.Charsmap, ok = src.Ints(prefix + "precompiled_charsmap"); !ok {
		v.Charsmap = nil
	}
	for _, id := range []struct {
		key string
		at  *ID
	}{
		{"bos", &v.BOS},
		{"eos", &v.EOS},
		{"eot", &v.EOT},
		{"eom", &v.EOM},
		{"unknown", &v.Unknown},
		{"cls", &v.CLS},
		{"seperator", &v.SEP}, //nolint:misspell // as GGUF spells it
		{"padding", &v.Pad},
		{"mask", &v.Mask},
	} {
		*id.at = None
		u, ok := src.Uint(prefix + id.key + "_token_id")
		if ok && u > math.MaxInt32 {
			return nil, fmt.Errorf("tokenizer: %w: %s%s_token_id is %d", ErrVocabulary, prefix, id.key, u)
		}
		if ok {
			*id.at = ID(u)
		}
	}
	for _, flag := range []struct {
		key string
		at  **bool
	}{
		{"add_bos_token", &v.AddBOS},
		{"add_eos_token", &v.AddEOS},
		{"add_space_prefix", &v.AddSpacePrefix},
		{"remove_extra_whitespaces", &v.RemoveExtraSpaces},
		{"normalizer.lowercase", &v.Lowercase},
		{"normalizer.strip_accents", &v.StripAccents},
	} {
		if b, ok := src.Bool(prefix + flag.key); ok {
			*flag.at = &b
		}
	}
	return v, nil
}

// tokenKinds copies the token types, which must be one for each of n tokens.
func (v *Vocab) tokenKinds(n int) ([]TokenType, error) {
	kinds := make([]TokenType, n)
	if v.Types == nil {
		for i := range kinds {
			kinds[i] = Normal
		}
		return kinds, nil
	}
	if v.Types.Len() != n {
		return nil, fmt.Errorf("%w: %d token types for %d tokens", ErrVocabulary, v.Types.Len(), n)
	}
	for i := range kinds {
		k := v.Types.At(i)
		if k < 0 || k >= int64(tokenTypes) {
			return nil, fmt.Errorf("%w: token %d has type %d", ErrVocabulary, i, k)
		}
		kinds[i] = TokenType(k)
	}
	return kinds, nil
}

// tokenScores copies the scores, which must be one number for each of n tokens.
func (v *Vocab) tokenScores(n int, lease *budget.Lease) ([]float32, error) {
	if v.Scores == nil {
		return nil, fmt.Errorf("%w: tokenizer.ggml.scores is missing or not a list of numbers", ErrVocabulary)
	}
	if v.Scores.Len() != n {
		return nil, fmt.Errorf("%w: %d scores for %d tokens", ErrVocabulary, v.Scores.Len(), n)
	}
	if err := lease.ReserveItems(budget.Vocabulary, uint64(n), 4); err != nil {
		return nil, err
	}
	scores := make([]float32, n)
	for i := range scores {
		s := float32(v.Scores.At(i))
		if math.IsNaN(float64(s)) || math.IsInf(float64(s), 0) {
			return nil, fmt.Errorf("%w: token %d has the score %v", ErrVocabulary, i, v.Scores.At(i))
		}
		scores[i] = s
	}
	return scores, nil
}

// isText reports whether ordinary text may become a token of this type.
func (k TokenType) isText() bool {
	return k == Normal || k == UserDefined || k == Undefined
}

// checkIDs finds the named tokens within the n of the vocabulary.
func (v *Vocab) checkIDs(n int) error {
	for _, e := range []struct {
		name string
		id   ID
	}{
		{"bos", v.BOS},
		{"eos", v.EOS},
		{"eot", v.EOT},
		{"eom", v.EOM},
		{"unknown", v.Unknown},
		{"cls", v.CLS},
		{"separator", v.SEP},
		{"padding", v.Pad},
		{"mask", v.Mask},
	} {
		if e.id != None && (e.id < 0 || int(e.id) >= n) {
			return fmt.Errorf("%w: the %s token is %d of %d", ErrVocabulary, e.name, e.id, n)
		}
	}
	return nil
}

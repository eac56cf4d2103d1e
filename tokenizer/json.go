package tokenizer

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// FromJSON reads the vocabulary of a Hugging Face tokenizer.json. What it does to
// a text is brought to one of the algorithms and rules of this package; what can't
// be is refused by name. The memory that it takes until the vocabulary isn't used
// any more is charged to lease first.
//
// Source: the serialised types of https://github.com/huggingface/tokenizers.
func FromJSON(data []byte, lease *budget.Lease) (*Vocab, error) {
	v, err := fromJSON(data, lease)
	if err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	return v, nil
}

// What the file takes in memory while it is read: copies of its parts and texts,
// by the byte, and the elements of maps and growing lists, by the comma.
const (
	jsonBytes     = 4
	jsonItemBytes = 160
)

// A comma or bracket of a normalizer, pre-tokenizer or post-processor may stand for a
// component, which is far larger in memory than other items: componentBytes is what one
// takes in a list that grows and in the flat copy of it.
const (
	maxComponentItems = 4096
	componentBytes    = 1 << 10
)

// tokenizerJSON is the file. Parts of different kinds are read by their type.
type tokenizerJSON struct {
	Model         json.RawMessage
	AddedTokens   []addedToken `json:"added_tokens"`
	Normalizer    json.RawMessage
	PreTokenizer  json.RawMessage `json:"pre_tokenizer"`
	PostProcessor json.RawMessage `json:"post_processor"`
}

type addedToken struct {
	ID         ID
	Content    string
	Special    bool
	Normalized bool
	SingleWord bool `json:"single_word"`
	LStrip     bool
	RStrip     bool
}

// component is a normalizer, pre-tokenizer or post-processor with all the fields
// that any of them has.
type component struct {
	Type string

	Normalizers   []component // of a Sequence
	PreTokenizers []component `json:"pretokenizers"`
	Processors    []component

	// Split and Replace.
	Pattern struct {
		String *string
		Regex  *string
	}
	Content  string
	Behavior string
	Invert   bool

	Prepend          string
	AddPrefixSpace   bool   `json:"add_prefix_space"`
	UseRegex         *bool  `json:"use_regex"`
	IndividualDigits bool   `json:"individual_digits"`
	PrependScheme    string `json:"prepend_scheme"`
	Replacement      string
	Split            *bool

	CleanText          *bool  `json:"clean_text"`
	HandleChineseChars *bool  `json:"handle_chinese_chars"`
	StripAccents       *bool  `json:"strip_accents"`
	Lowercase          *bool  `json:"lowercase"`
	Charsmap           string `json:"precompiled_charsmap"`

	Single []struct {
		SpecialToken *struct{ ID string }
		Sequence     *struct{ ID string }
	}
	SpecialTokens map[string]struct{ IDs []ID } `json:"special_tokens"`

	CLS, SEP []any // text and id
}

// flatten is the component of a part of the file, or those of a sequence in its
// order.
func (v *jsonVocab) flatten(name string, data json.RawMessage) ([]component, error) {
	if len(data) == 0 {
		return nil, nil
	}
	items := 0
	for _, sign := range []string{",", "{", "["} {
		items += bytes.Count(data, []byte(sign))
	}
	if items > maxComponentItems {
		return nil, fmt.Errorf("%w: a %s of %d items", ErrUnsupported, name, items)
	}
	if err := v.lease.ReserveItems(budget.Vocabulary, uint64(items), componentBytes); err != nil {
		return nil, err
	}
	var c *component
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrVocabulary, name, err)
	}
	if c == nil {
		return nil, nil
	}
	return c.appendFlat(nil), nil
}

func (c *component) appendFlat(all []component) []component {
	if c.Type != "Sequence" {
		return append(all, *c)
	}
	for _, list := range [][]component{c.Normalizers, c.PreTokenizers, c.Processors} {
		for i := range list {
			all = list[i].appendFlat(all)
		}
	}
	return all
}

// modelJSON is the part of the algorithm. The vocabulary is a map from texts to
// ids, or a list of texts with scores.
type modelJSON struct {
	Type         string
	Vocab        json.RawMessage
	Merges       []mergeJSON
	UnkToken     *string `json:"unk_token"`
	UnkID        *ID     `json:"unk_id"`
	ByteFallback bool    `json:"byte_fallback"`
	IgnoreMerges bool    `json:"ignore_merges"`
	FuseUnk      bool    `json:"fuse_unk"`
	Dropout      *float64
	Prefix       *string `json:"continuing_subword_prefix"`
	Suffix       *string `json:"end_of_word_suffix"`
	MaxChars     *int    `json:"max_input_chars_per_word"`
}

// mergeJSON is "left right", or the two in a list.
type mergeJSON string

func (m *mergeJSON) UnmarshalJSON(data []byte) error {
	var pair []string
	if len(data) > 0 && data[0] == '"' {
		return json.Unmarshal(data, (*string)(m))
	}
	if err := json.Unmarshal(data, &pair); err != nil {
		return err
	}
	*m = mergeJSON(strings.Join(pair, " "))
	return nil
}

// pieceJSON is a token of a unigram model: [text, score].
type pieceJSON struct {
	text  string
	score float64
}

func (p *pieceJSON) UnmarshalJSON(data []byte) error {
	var row [2]json.RawMessage
	if err := json.Unmarshal(data, &row); err != nil {
		return err
	}
	for i, into := range []any{&p.text, &p.score} {
		if len(row[i]) == 0 || row[i][0] == 'n' { // missing or null
			return fmt.Errorf("%s isn't a text with a score", quote(string(data)))
		}
		if err := json.Unmarshal(row[i], into); err != nil {
			return err
		}
	}
	return nil
}

// items is a slice as a [List].
type items[T, U any] struct {
	of []T
	as func(T) U
}

func (l items[T, U]) Len() int   { return len(l.of) }
func (l items[T, U]) At(i int) U { return l.as(l.of[i]) }

func itself[T any](v T) T { return v }

// jsonVocab is a vocabulary while it is read.
type jsonVocab struct {
	Vocab
	tokens []string
	types  []int64
	model  modelJSON
	lease  *budget.Lease
}

func fromJSON(data []byte, lease *budget.Lease) (*Vocab, error) {
	if !utf8.Valid(data) { // of which package json would make other and longer texts
		return nil, fmt.Errorf("%w: the file is not UTF-8", ErrVocabulary)
	}
	if err := lease.ReserveItems(budget.Vocabulary, uint64(len(data)), jsonBytes); err != nil {
		return nil, err
	}
	if err := lease.ReserveItems(budget.Vocabulary, uint64(bytes.Count(data, []byte(","))), jsonItemBytes); err != nil {
		return nil, err
	}
	var file tokenizerJSON
	v := &jsonVocab{lease: lease, Vocab: Vocab{BOS: None, EOS: None, EOT: None, EOM: None, Unknown: None, CLS: None, SEP: None, Pad: None, Mask: None}}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrVocabulary, err)
	}
	if err := json.Unmarshal(file.Model, &v.model); err != nil {
		return nil, fmt.Errorf("%w: model: %w", ErrVocabulary, err)
	}
	for _, step := range []func(*tokenizerJSON) error{v.readTokens, v.readAdded, v.readModel, v.readEnds} {
		if err := step(&file); err != nil {
			return nil, err
		}
	}
	v.Tokens, v.Types = items[string, string]{v.tokens, itself[string]}, items[int64, int64]{v.types, itself[int64]}
	return &v.Vocab, nil
}

// readTokens reads the vocabulary, which must have each id once.
func (v *jsonVocab) readTokens(*tokenizerJSON) error {
	if v.model.Type == "Unigram" {
		var rows []pieceJSON
		if err := json.Unmarshal(v.model.Vocab, &rows); err != nil {
			return fmt.Errorf("%w: vocab: %w", ErrVocabulary, err)
		}
		var scores []float64
		for _, row := range rows {
			v.tokens, v.types, scores = append(v.tokens, row.text), append(v.types, int64(Normal)), append(scores, row.score)
		}
		v.Scores = items[float64, float64]{scores, itself[float64]}
		return nil
	}
	var ids map[string]ID
	if err := json.Unmarshal(v.model.Vocab, &ids); err != nil {
		return fmt.Errorf("%w: vocab: %w", ErrVocabulary, err)
	}
	return v.place(ids)
}

// place puts the tokens where their ids say.
func (v *jsonVocab) place(ids map[string]ID) error {
	v.tokens, v.types = make([]string, len(ids)), make([]int64, len(ids))
	for text, id := range ids {
		if id < 0 || int(id) >= len(ids) || v.tokens[id] != "" || text == "" {
			return fmt.Errorf("%w: the token %s has the id %d, which another has or none of %d tokens can have", ErrVocabulary, quote(text), id, len(ids))
		}
		v.tokens[id], v.types[id] = text, int64(Normal)
	}
	return nil
}

// readAdded adds the tokens that are matched as they stand. Many are in the
// vocabulary already; others follow it.
func (v *jsonVocab) readAdded(file *tokenizerJSON) error {
	slices.SortFunc(file.AddedTokens, func(a, b addedToken) int { return int(a.ID) - int(b.ID) })
	for _, t := range file.AddedTokens {
		switch {
		case t.SingleWord || t.LStrip || t.RStrip:
			return fmt.Errorf("%w: the added token %s with single_word, lstrip or rstrip", ErrUnsupported, quote(t.Content))
		case int(t.ID) == len(v.tokens):
			v.tokens, v.types = append(v.tokens, t.Content), append(v.types, 0)
			if scores, ok := v.Scores.(items[float64, float64]); ok {
				scores.of = append(scores.of, 0)
				v.Scores = scores
			}
		case t.ID < 0 || int(t.ID) > len(v.tokens) || v.tokens[t.ID] != t.Content:
			return fmt.Errorf("%w: the added token %s has the id %d of another token, or ids before it are missing", ErrVocabulary, quote(t.Content), t.ID)
		}
		v.types[t.ID] = int64(UserDefined)
		if t.Special {
			v.types[t.ID] = int64(Control)
		}
	}
	return nil
}

func (v *jsonVocab) lookup(text string) ID { return ID(slices.Index(v.tokens, text)) }

// readModel chooses the algorithm.
func (v *jsonVocab) readModel(file *tokenizerJSON) error {
	m := &v.model
	if m.Dropout != nil && *m.Dropout != 0 {
		return fmt.Errorf("%w: dropout", ErrUnsupported)
	}
	if m.UnkToken != nil {
		if v.Unknown = v.lookup(*m.UnkToken); v.Unknown == None {
			return fmt.Errorf("%w: the unknown token %s isn't in the vocabulary", ErrVocabulary, quote(*m.UnkToken))
		}
	}
	normalizers, err := v.flatten("normalizer", file.Normalizer)
	if err != nil {
		return err
	}
	if err := checkAdded(file.AddedTokens, normalizers); err != nil {
		return err
	}
	pre, err := v.flatten("pre-tokenizer", file.PreTokenizer)
	if err != nil {
		return err
	}
	switch {
	case m.Type == "WordPiece":
		return v.wordPiece(normalizers, pre)
	case m.Type == "Unigram":
		return v.unigram(normalizers, pre)
	case m.Type != "BPE" && m.Type != "":
		return fmt.Errorf("%w: model %s", ErrUnsupported, quote(m.Type))
	}
	if m.Prefix != nil && *m.Prefix != "" || m.Suffix != nil && *m.Suffix != "" {
		return fmt.Errorf("%w: continuing_subword_prefix or end_of_word_suffix with BPE", ErrUnsupported)
	}
	v.Merges = items[mergeJSON, string]{m.Merges, func(s mergeJSON) string { return string(s) }}
	if slices.ContainsFunc(pre, func(c component) bool { return c.Type == "ByteLevel" }) {
		return v.byteLevel(normalizers, pre)
	}
	v.Model = "gemma4"
	if m.IgnoreMerges {
		return fmt.Errorf("%w: ignore_merges with BPE over characters", ErrUnsupported)
	}
	complete, err := v.byteTokens(m.ByteFallback)
	if err != nil {
		return err
	}
	if !complete && !m.FuseUnk && m.UnkToken != nil {
		return fmt.Errorf("%w: BPE without fuse_unk", ErrUnsupported)
	}
	return v.marked(normalizers, pre)
}

// checkAdded refuses added tokens that are looked for in normalised text, where
// that makes a difference.
func checkAdded(tokens []addedToken, normalizers []component) error {
	for _, t := range tokens {
		for _, n := range normalizers {
			same := false
			switch n.Type {
			case "NFC":
				same = norm.NFC.IsNormalString(t.Content)
			case "Replace": // of spaces by marks, or it is refused later
				same = !strings.Contains(t.Content, " ") && !strings.Contains(t.Content, markText)
			}
			if t.Normalized && !same {
				return fmt.Errorf("%w: the added token %s with normalized, and the normalizer %s", ErrUnsupported, quote(t.Content), quote(n.Type))
			}
		}
	}
	return nil
}

// byteTokens marks the tokens of bytes, where text without a token becomes those.
func (v *jsonVocab) byteTokens(fallback bool) (complete bool, err error) {
	count := 0
	for i, text := range v.tokens {
		if _, ok := byteOf(text); ok && fallback && v.types[i] == int64(Normal) {
			v.types[i] = int64(Byte)
			count++
		}
	}
	if count != 0 && count != 256 {
		return false, fmt.Errorf("%w: byte_fallback with tokens for %d bytes", ErrUnsupported, count)
	}
	return count != 0, nil
}

func (v *jsonVocab) byteLevel(normalizers, pre []component) error {
	v.Model, v.Rule = "gpt2", &Rule{Whole: v.model.IgnoreMerges}
	spelled := 0
	for _, text := range v.tokens {
		if r, n := utf8.DecodeRuneInString(text); n == len(text) && r < alphabetEnd && runeBytes[r] >= 0 {
			spelled++
		}
	}
	if v.model.UnkToken != nil && spelled < len(byteRunes) {
		return fmt.Errorf("%w: byte-level BPE with an unknown token and none for some bytes", ErrUnsupported)
	}
	for _, n := range normalizers {
		if n.Type != "NFC" {
			return n.unsupported("normalizer")
		}
		v.Rule.NFC = true
	}
	gpt2, err := preTokenizerFor("gpt-2") // what ByteLevel cuts by
	if err != nil {
		return err
	}
	for i, p := range pre {
		switch {
		case p.Type == "ByteLevel" && !p.AddPrefixSpace && i == len(pre)-1:
			if p.UseRegex == nil || *p.UseRegex {
				v.Rule.Split = append(v.Rule.Split, gpt2.stages[0].pattern.text)
			}
		case p.Type == "ByteLevel" && !p.AddPrefixSpace && (p.UseRegex == nil || *p.UseRegex):
			// What follows sees the spelling of bytes; ASCII is spelled as itself.
			v.Rule.Split = append(v.Rule.Split, gpt2.stages[0].pattern.text)
			for _, later := range pre[i+1:] {
				if later.Type != "Split" || later.Pattern.Regex == nil || *later.Pattern.Regex != "[0-9][0-9][0-9]" {
					return later.unsupported("pre-tokenizer after ByteLevel")
				}
			}
		case p.Type == "Digits" && p.IndividualDigits:
			v.Rule.Split = append(v.Rule.Split, `\p{N}`)
		case p.Type == "Digits":
			v.Rule.Split = append(v.Rule.Split, `\p{N}+`)
		case p.Type == "Punctuation" && p.Behavior == "Contiguous":
			v.Rule.Split = append(v.Rule.Split, "[\\p{P8}$+<=>^~|`]+")
		case p.Type == "Punctuation" && p.Behavior == "Isolated":
			v.Rule.Split = append(v.Rule.Split, "[\\p{P8}$+<=>^~|`]")
		case p.Type == "Split" && p.Behavior == "Isolated" && !p.Invert, p.Type == "Split" && p.Behavior == "Removed" && p.Invert && matchesAll(p.regex()):
			v.Rule.Split = append(v.Rule.Split, p.regex())
		default:
			return p.unsupported("pre-tokenizer")
		}
	}
	if len(v.Rule.Split) == 0 {
		return fmt.Errorf("%w: byte-level BPE that doesn't cut text", ErrUnsupported)
	}
	return nil
}

func (c *component) unsupported(what string) error {
	return fmt.Errorf("%w: %s %s", ErrUnsupported, what, quote(c.Type))
}

// regex is the pattern of a Split.
func (c *component) regex() string {
	if c.Pattern.Regex != nil {
		return *c.Pattern.Regex
	}
	if c.Pattern.String != nil {
		return quotePattern(*c.Pattern.String)
	}
	return ""
}

// quotePattern is the pattern that matches the text itself.
func quotePattern(text string) string {
	return (&syntax.Regexp{Op: syntax.OpLiteral, Rune: []rune(text)}).String()
}

// marked reads how a vocabulary of SentencePiece writes spaces.
func (v *jsonVocab) marked(normalizers, pre []component) error {
	prefix, marks := false, false
	for _, n := range normalizers {
		switch {
		case n.Type == "Prepend" && n.Prepend == markText:
			prefix = true
		case n.Type == "Replace" && n.Pattern.String != nil && *n.Pattern.String == " " && n.Content == markText:
			marks = true
		default:
			return n.unsupported("normalizer")
		}
	}
	for _, p := range pre {
		switch {
		case p.Type == "Metaspace" && p.Replacement == markText && !marks:
			marks, prefix, v.SpacePrefixOnce = true, p.PrependScheme != "never", true
			for i, text := range v.tokens {
				if (p.Split == nil || *p.Split) && v.types[i] == int64(Normal) && strings.LastIndex(text, markText) > 0 {
					return fmt.Errorf("%w: Metaspace that splits, with the token %s", ErrUnsupported, quote(text))
				}
			}
			if p.PrependScheme == "first" {
				return fmt.Errorf("%w: Metaspace with prepend_scheme \"first\"", ErrUnsupported)
			}
		case p.Type == "Split" && marks && p.Pattern.String != nil && *p.Pattern.String == " ":
			// No space is left to cut at.
		default:
			return p.unsupported("pre-tokenizer")
		}
	}
	if !marks {
		return fmt.Errorf("%w: BPE that spells neither bytes nor spaces", ErrUnsupported)
	}
	v.AddSpacePrefix = &prefix
	return nil
}

func (v *jsonVocab) unigram(normalizers, pre []component) error {
	v.Model = "t5"
	if _, err := v.byteTokens(v.model.ByteFallback); err != nil {
		return err
	}
	if id := v.model.UnkID; id != nil {
		if *id < 0 || int(*id) >= len(v.types) {
			return fmt.Errorf("%w: the unknown token is %d of %d", ErrVocabulary, *id, len(v.types))
		}
		v.Unknown, v.types[*id] = *id, int64(Unknown)
	}
	var rest []component
	for _, n := range normalizers {
		if n.Type != "Precompiled" || v.Charsmap != nil {
			rest = append(rest, n)
			continue
		}
		table, err := base64.StdEncoding.DecodeString(n.Charsmap)
		if err != nil {
			return fmt.Errorf("%w: precompiled_charsmap: %w", ErrVocabulary, err)
		}
		v.Charsmap = items[byte, int64]{table, func(b byte) int64 { return int64(b) }}
	}
	if n := len(pre); n > 0 && pre[0].Type == "WhitespaceSplit" {
		trim := true
		v.RemoveExtraSpaces, pre = &trim, pre[1:]
	}
	return v.marked(rest, pre)
}

func (v *jsonVocab) wordPiece(normalizers, pre []component) error {
	v.Model = "bert"
	if p := v.model.Prefix; p != nil && *p != "##" {
		return fmt.Errorf("%w: continuing_subword_prefix %s", ErrUnsupported, quote(*p))
	}
	if n := v.model.MaxChars; n != nil && *n != maxWordRunes {
		return fmt.Errorf("%w: max_input_chars_per_word %d", ErrUnsupported, *n)
	}
	if len(normalizers) != 1 || normalizers[0].Type != "BertNormalizer" {
		return fmt.Errorf("%w: WordPiece without BertNormalizer", ErrUnsupported)
	}
	if len(pre) != 1 || pre[0].Type != "BertPreTokenizer" {
		return fmt.Errorf("%w: WordPiece without BertPreTokenizer", ErrUnsupported)
	}
	n := normalizers[0]
	if n.CleanText != nil && !*n.CleanText || n.HandleChineseChars != nil && !*n.HandleChineseChars {
		return fmt.Errorf("%w: BertNormalizer without clean_text or handle_chinese_chars", ErrUnsupported)
	}
	v.Lowercase, v.StripAccents = n.Lowercase, n.StripAccents
	for i, text := range v.tokens { // GGUF's spelling: what begins a word has a mark
		if v.types[i] != int64(Normal) {
			continue
		}
		if after, ok := strings.CutPrefix(text, "##"); ok && after != "" {
			v.tokens[i] = after
		} else {
			v.tokens[i] = markText + text
		}
	}
	return nil
}

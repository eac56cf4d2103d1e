package tokenizer

import (
	_ "embed" // pretokenizers.json
	"encoding/json"
	"fmt"
	"sync"
	"unicode/utf8"
)

// preTokenizer cuts text into the pieces that are merged each for itself.
type preTokenizer struct {
	// stages cut one after the other, each the pieces of the one before.
	stages []stage
	// whole: a piece that is a token is not merged but taken.
	whole bool
	// addBOS: Encode adds BOS where the file doesn't say.
	addBOS bool
	// nfc: text is brought into Unicode's normalisation form C first.
	nfc bool
}

// stage cuts a text at both ends of each match of a pattern. What lies between
// the matches is a piece too.
type stage struct {
	pattern *pattern
	// threes cuts a piece of digits instead, into groups of three from its end.
	threes bool
}

// encoder takes the pieces of a text in their order.
type encoder interface {
	piece(w *work, text string) error
}

// cut cuts text into pieces for enc.
func cut(w *work, text string, stages []stage, enc encoder) error {
	if len(stages) == 0 {
		if err := w.spend(len(text)); err != nil {
			return err
		}
		return enc.piece(w, text)
	}
	s, next := stages[0], stages[1:]
	if s.threes {
		return cutThrees(w, text, next, enc)
	}
	for len(text) > 0 {
		n, err := cutFirst(w, text, stages, enc)
		if err != nil {
			return err
		}
		text = text[n:]
	}
	return nil
}

// cutFirst cuts off the pieces up to the end of the first match of a pattern, and
// returns their length.
func cutFirst(w *work, text string, stages []stage, enc encoder) (n int, err error) {
	start, end := stages[0].pattern.find(w, text)
	for _, piece := range [...]string{text[:start], text[start:end]} {
		if piece == "" {
			continue
		}
		if err := cut(w, piece, stages[1:], enc); err != nil {
			return 0, err
		}
	}
	return end, w.spend(1)
}

func cutThrees(w *work, text string, next []stage, enc encoder) error {
	count := 0
	for _, r := range text {
		if digits>>categoryOf(r)&1 == 0 {
			return cut(w, text, next, enc)
		}
		if count++; count%pollSteps == 0 {
			if err := w.poll(); err != nil {
				return err
			}
		}
	}
	if err := w.spend(len(text)); err != nil {
		return err
	}
	for size := (count-1)%3 + 1; len(text) > 0; size = 3 {
		n := 0
		for range size {
			_, m := utf8.DecodeRuneInString(text[n:])
			n += m
		}
		if err := cut(w, text[:n], next, enc); err != nil {
			return err
		}
		text = text[n:]
	}
	return nil
}

// rules is every rule with the names that GGUF files have for it: the patterns
// are those of the models' own tokenizers, cut one after the other; "threes" is
// stage.threes.
//
//go:embed pretokenizers.json
var rules []byte

type namedRule struct {
	Names []string // of tokenizer.ggml.pre
	BOS   bool
	Rule
}

// Rule says how byte-level BPE cuts text, where a vocabulary brings it along.
type Rule struct {
	// Split are regular expressions that cut one after the other: at both ends of
	// each match, in each of the pieces of the one before.
	Split []string
	// Whole: a piece that is a token is not merged but taken.
	Whole bool
	// NFC brings text into Unicode's normalisation form C first.
	NFC bool
}

// preTokenizers is the rule for each name.
var preTokenizers = sync.OnceValue(func() map[string]func() (preTokenizer, error) {
	var all []namedRule
	if err := json.Unmarshal(rules, &all); err != nil {
		panic(err) // the file is a part of the program
	}
	byName := make(map[string]func() (preTokenizer, error))
	for _, r := range all {
		compiled := sync.OnceValues(func() (preTokenizer, error) {
			pre, err := r.compile()
			pre.addBOS = r.BOS
			return pre, err
		})
		for _, name := range r.Names {
			byName[name] = compiled
		}
	}
	return byName
})

// maxStages bounds the patterns of a rule, and with them its memory and the depth
// of [cut]. The rules in use have up to 6.
const maxStages = 32

func (r Rule) compile() (preTokenizer, error) {
	pre := preTokenizer{whole: r.Whole, nfc: r.NFC}
	if len(r.Split) > maxStages {
		return pre, fmt.Errorf("%w: %d patterns that cut text", ErrUnsupported, len(r.Split))
	}
	size := 0
	for _, text := range r.Split {
		size += len(text)
	}
	if size > maxPatternBytes {
		return pre, fmt.Errorf("%w: patterns of %d bytes", ErrUnsupported, size)
	}
	for _, text := range r.Split {
		if text == "threes" {
			pre.stages = append(pre.stages, stage{threes: true})
			continue
		}
		p, err := compilePattern(text)
		if err != nil {
			return pre, err
		}
		pre.stages = append(pre.stages, stage{pattern: p})
	}
	return pre, nil
}

// preTokenizer is the vocabulary's own rule, or that of its name.
func (v *Vocab) preTokenizer() (preTokenizer, error) {
	if v.Rule != nil {
		return v.Rule.compile()
	}
	return preTokenizerFor(v.Pre)
}

func preTokenizerFor(name string) (preTokenizer, error) {
	compile, ok := preTokenizers()[name]
	switch {
	case ok:
		return compile()
	case name == "":
		return preTokenizer{}, fmt.Errorf("%w: tokenizer.ggml.pre is missing, so the pre-tokenizer isn't known", ErrUnsupported)
	default:
		return preTokenizer{}, fmt.Errorf("%w: pre-tokenizer %s", ErrUnsupported, quote(name))
	}
}

package tokenizer

import "fmt"

// preTokenizer cuts text into the pieces that are merged each for itself.
type preTokenizer struct {
	// split is the length of the first piece of a text that isn't empty. It
	// looks at that piece and at most the white space after it, so cutting a
	// whole text takes linear time. Once w's context is done, any length will
	// do: the next step of w reports it.
	split func(w *work, text string) int
	// whole: a piece that is a token is not merged but taken.
	whole bool
	// addBOS: Encode adds BOS where the file doesn't say.
	addBOS bool
}

// preTokenizers is the rule for each name of tokenizer.ggml.pre. The rules are
// regular expressions in the models' own tokenizers, given at each function.
var preTokenizers = map[string]preTokenizer{
	"gpt-2":     {split: splitGPT2},
	"llama-bpe": {split: splitLlama3, whole: true, addBOS: true},
	"refact":    {split: splitDigitsGPT2},
	"smollm":    {split: splitDigitsGPT2},
	"starcoder": {split: splitDigitsGPT2},
}

func preTokenizerFor(name string) (preTokenizer, error) {
	p, ok := preTokenizers[name]
	switch {
	case ok:
		return p, nil
	case name == "":
		return p, fmt.Errorf("%w: tokenizer.ggml.pre is missing, so the pre-tokenizer isn't known", ErrUnsupported)
	default:
		return p, fmt.Errorf("%w: pre-tokenizer %s", ErrUnsupported, quote(name))
	}
}

// newlines is where the CRs and LFs that begin at text[i:] end.
func newlines(text string, i int) int {
	for i < len(text) && (text[i] == '\n' || text[i] == '\r') {
		i++
	}
	return i
}

// splitGPT2 is 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
func splitGPT2(w *work, text string) int { return gpt2(w, text, false) }

// splitDigitsGPT2 takes each \p{N} out as a piece of its own, then applies
// splitGPT2 to each text between them.
func splitDigitsGPT2(w *work, text string) int { return gpt2(w, text, true) }

// gpt2 treats a number, with digits, as the end of the text before it.
func gpt2(w *work, text string, digits bool) int {
	if n := contraction(text, false); n > 0 {
		return n
	}
	k, n := classAt(text)
	if digits && k == number {
		return n
	}
	if text[0] == ' ' && len(text) > 1 {
		var m int
		k, m = classAt(text[1:])
		n += m
	}
	if k != space && (!digits || k != number) {
		return run(w, text, n, k)
	}
	end, last := blank(w, text)
	if end == len(text) || last == 0 {
		return end
	}
	if k, _ := classAt(text[end:]); digits && k == number {
		return end
	}
	return last
}

// splitLlama3 is (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
// ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
func splitLlama3(w *work, text string) int {
	if n := contraction(text, true); n > 0 {
		return n
	}
	k, n := classAt(text)
	switch {
	case k == letter:
		return run(w, text, n, letter)
	case k == number:
		for count := 1; count < 3 && n < len(text); count++ {
			k, m := classAt(text[n:])
			if k != number {
				break
			}
			n += m
		}
		return n
	case n < len(text) && text[0] != '\r' && text[0] != '\n':
		next, m := classAt(text[n:])
		if next == letter {
			return run(w, text, n+m, letter)
		}
		if text[0] == ' ' && next == symbol {
			return newlines(text, run(w, text, n+m, symbol))
		}
	}
	if k == symbol {
		return newlines(text, run(w, text, n, symbol))
	}
	end, last := blank(w, text)
	for i := end - 1; i >= 0; i-- {
		if text[i] == '\n' || text[i] == '\r' {
			return i + 1
		}
	}
	if end < len(text) && last > 0 {
		return last
	}
	return end
}

// contraction is the length of 's, 't, 're, 've, 'm, 'll or 'd at the beginning
// of text, or 0. With fold the letters match as (?i) in Unicode does, where s is
// also U+017F.
func contraction(text string, fold bool) int {
	if len(text) < 2 || text[0] != '\'' {
		return 0
	}
	if fold && len(text) >= 3 && text[1:3] == "ſ" {
		return 3
	}
	lower := func(c byte) byte {
		if fold && c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		return c
	}
	a := lower(text[1])
	switch a {
	case 's', 't', 'm', 'd':
		return 2
	}
	if len(text) < 3 {
		return 0
	}
	b := lower(text[2])
	if (a == 'r' || a == 'v') && b == 'e' || a == 'l' && b == 'l' {
		return 3
	}
	return 0
}

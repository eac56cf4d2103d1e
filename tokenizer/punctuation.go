package tokenizer

import (
	"sync"
	"unicode"
)

// punctuation8 is the punctuation of Unicode 8.0, which Hugging Face's
// pre-tokenizers Punctuation and BertPreTokenizer go by. In patterns it is
// \p{P8}, which is a name of ours.
var punctuation8 = sync.OnceValue(func() union {
	u := union{ranges: []runeRange{{0x166d, 0x166d}, {0x111c9, 0x111c9}}} // of other categories since
	for _, x := range rangesOf(unicode.P) {
		for r := x.lo; r <= x.hi; r++ {
			if !unicode.Is(newPunctuation, r) {
				u.ranges = append(u.ranges, runeRange{r, r})
			}
		}
	}
	u.sort()
	return u
})

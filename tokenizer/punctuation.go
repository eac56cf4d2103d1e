package tokenizer

import (
	"slices"
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
			if !slices.ContainsFunc(laterPunctuation, func(l runeRange) bool { return l.lo <= r && r <= l.hi }) {
				u.ranges = append(u.ranges, runeRange{r, r})
			}
		}
	}
	u.sort()
	return u
})

// laterPunctuation is what Unicode 9.0 to 15.0 added.
var laterPunctuation = []runeRange{
	{0x61d, 0x61d},
	{0x9fd, 0x9fd},
	{0xa76, 0xa76},
	{0xc77, 0xc77},
	{0xc84, 0xc84},
	{0x1b7d, 0x1b7e},
	{0x2e43, 0x2e4f},
	{0x2e52, 0x2e5d},
	{0x10ead, 0x10ead},
	{0x10f55, 0x10f59},
	{0x10f86, 0x10f89},
	{0x1144b, 0x1144f},
	{0x1145a, 0x1145b},
	{0x1145d, 0x1145d},
	{0x11660, 0x1166c},
	{0x116b9, 0x116b9},
	{0x1183b, 0x1183b},
	{0x11944, 0x11946},
	{0x119e2, 0x119e2},
	{0x11a3f, 0x11a46},
	{0x11a9a, 0x11a9c},
	{0x11a9e, 0x11aa2},
	{0x11b00, 0x11b09},
	{0x11c41, 0x11c45},
	{0x11c70, 0x11c71},
	{0x11ef7, 0x11ef8},
	{0x11f43, 0x11f4f},
	{0x11fff, 0x11fff},
	{0x12ff1, 0x12ff2},
	{0x16e97, 0x16e9a},
	{0x16fe2, 0x16fe2},
	{0x1e95e, 0x1e95f},
}

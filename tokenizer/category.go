package tokenizer

import (
	"slices"
	"sync"
	"unicode"
	"unicode/utf8"
)

// categorySet is a set of Unicode's general categories, a bit each.
type categorySet uint32

// categoryNames are the two-letter names in the order of the bits. The control
// characters that are white space (\t, \n, \v, \f, \r, U+0085) are one of their
// own, so that \s is a set of categories too.
var categoryNames = []string{
	"Cn", "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No",
	"Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So",
	"Zs", "Zl", "Zp", "Cc", "Cf", "Co", "Cs", "white Cc",
}

const whiteControl = 30 // "white Cc"

// categoriesNamed is the set that \p{name} stands for: one category, or all
// that begin with a letter. It is 0 for another name.
func categoriesNamed(name string) (set categorySet) {
	for i, n := range categoryNames {
		if n == name || len(name) == 1 && n[:1] == name {
			set |= 1 << i
		}
	}
	if name == "Cc" || name == "C" {
		set |= 1 << whiteControl
	}
	return set
}

// newCharacters is what Unicode 15.1 and 16.0 added. Go's tables are 15.0, those
// of the regular expressions in Hugging Face's tokenizers (Oniguruma) 16.0.
var newCharacters = map[string][]runeRange{
	"Lu": {{0x1c89, 0x1c89}, {0xa7cb, 0xa7cc}, {0xa7da, 0xa7da}, {0xa7dc, 0xa7dc}, {0x10d50, 0x10d65}},
	"Ll": {{0x1c8a, 0x1c8a}, {0xa7cd, 0xa7cd}, {0xa7db, 0xa7db}, {0x10d70, 0x10d85}},
	"Lm": {{0x10d4e, 0x10d4e}, {0x10d6f, 0x10d6f}, {0x16d40, 0x16d42}, {0x16d6b, 0x16d6c}},
	"Lo": {
		{0x105c0, 0x105f3},
		{0x10d4a, 0x10d4d},
		{0x10d4f, 0x10d4f},
		{0x10ec2, 0x10ec4},
		{0x11380, 0x11389},
		{0x1138b, 0x1138b},
		{
			0x1138e,
			0x1138e,
		},
		{0x11390, 0x113b5},
		{0x113b7, 0x113b7},
		{0x113d1, 0x113d1},
		{0x113d3, 0x113d3},
		{0x11bc0, 0x11be0},
		{0x13460, 0x143fa},
		{0x16100, 0x1611d},
		{0x16d43, 0x16d6a},
		{0x18cff, 0x18cff},
		{0x1e5d0, 0x1e5ed},
		{0x1e5f0, 0x1e5f0},
		{0x2ebf0, 0x2ee5d},
	},
	"Mn": {{0x897, 0x897}, {0x10d69, 0x10d6d}, {0x10efc, 0x10efc}, {0x113bb, 0x113c0}, {0x113ce, 0x113ce}, {0x113d0, 0x113d0}, {
		0x113d2,
		0x113d2,
	}, {0x113e1, 0x113e2}, {0x11f5a, 0x11f5a}, {0x1611e, 0x16129}, {0x1612d, 0x1612f}, {0x1e5ee, 0x1e5ef}},
	"Mc": {{0x113b8, 0x113ba}, {0x113c2, 0x113c2}, {0x113c5, 0x113c5}, {0x113c7, 0x113ca}, {0x113cc, 0x113cd}, {0x113cf, 0x113cf}, {
		0x1171e,
		0x1171e,
	}, {0x1612a, 0x1612c}},
	"Nd": {{0x10d40, 0x10d49}, {0x116d0, 0x116e3}, {0x11bf0, 0x11bf9}, {0x16130, 0x16139}, {0x16d70, 0x16d79}, {0x1ccf0, 0x1ccf9}, {
		0x1e5f1,
		0x1e5fa,
	}},
	"Pd": {{0x10d6e, 0x10d6e}},
	"Po": {{0x1b4e, 0x1b4f}, {0x1b7f, 0x1b7f}, {0x113d4, 0x113d5}, {0x113d7, 0x113d8}, {0x11be1, 0x11be1}, {0x16d6d, 0x16d6f}, {
		0x1e5ff,
		0x1e5ff,
	}},
	"Sm": {{0x10d8e, 0x10d8f}},
	"So": {
		{0x2427, 0x2429},
		{0x2ffc, 0x2fff},
		{0x31e4, 0x31e5},
		{0x31ef, 0x31ef},
		{0x1cc00, 0x1ccef},
		{0x1cd00, 0x1ceb3},
		{0x1f8b2, 0x1f8bb},
		{0x1f8c0, 0x1f8c1},
		{0x1fa89, 0x1fa89},
		{0x1fa8f, 0x1fa8f},
		{0x1fabe, 0x1fabe},
		{0x1fac6, 0x1fac6},
		{0x1fadc, 0x1fadc},
		{0x1fadf, 0x1fadf},
		{
			0x1fae9,
			0x1fae9,
		},
		{0x1fbcb, 0x1fbef},
	},
}

// newInScripts is the same for scripts that had a name before.
var newInScripts = map[string][]runeRange{
	"Arabic":   {{0x897, 0x897}, {0x10ec2, 0x10ec4}, {0x10efc, 0x10efc}},
	"Balinese": {{0x1b4e, 0x1b4f}, {0x1b7f, 0x1b7f}},
	"Common": {
		{0x2427, 0x2429},
		{0x2ffc, 0x2fff},
		{0x31e4, 0x31e5},
		{0x31ef, 0x31ef},
		{0x1cc00, 0x1ccf9},
		{0x1cd00, 0x1ceb3},
		{0x1f8b2, 0x1f8bb},
		{0x1f8c0, 0x1f8c1},
		{0x1fa89, 0x1fa89},
		{0x1fa8f, 0x1fa8f},
		{0x1fabe, 0x1fabe},
		{0x1fac6, 0x1fac6},
		{0x1fadc, 0x1fadc},
		{0x1fadf, 0x1fadf},
		{0x1fae9, 0x1fae9},
		{0x1fbcb, 0x1fbef},
	},
	"Cyrillic":             {{0x1c89, 0x1c8a}},
	"Egyptian_Hieroglyphs": {{0x13460, 0x143fa}},
	"Han":                  {{0x2ebf0, 0x2ee5d}},
	"Kawi":                 {{0x11f5a, 0x11f5a}},
	"Khitan_Small_Script":  {{0x18cff, 0x18cff}},
	"Latin":                {{0xa7cb, 0xa7cd}, {0xa7da, 0xa7dc}},
	"Myanmar":              {{0x116d0, 0x116e3}},
}

// categories has the category of each character by pages of 256. Most pages of
// one category are one page.
var categories = sync.OnceValue(func() *[(unicode.MaxRune + 1) >> 8]*[256]uint8 {
	var table [(unicode.MaxRune + 1) >> 8]*[256]uint8
	uniform := make([]*[256]uint8, len(categoryNames))
	for i := range uniform {
		page := [256]uint8{}
		for j := range page {
			page[j] = uint8(i)
		}
		uniform[i] = &page
	}
	for i := range table {
		table[i] = uniform[0]
	}
	set := func(lo, hi, stride rune, category int) {
		for r := lo; r <= hi; r += stride {
			page := &table[r>>8]
			if stride == 1 && r&0xff == 0 && r+0xff <= hi {
				*page = uniform[category]
				r += 0xff
				continue
			}
			if slices.Contains(uniform, *page) {
				own := **page
				*page = &own
			}
			(*page)[r&0xff] = uint8(category)
		}
	}
	for i, name := range categoryNames {
		t := unicode.Categories[name]
		if t == nil || name == "Cn" { // what no other category has
			continue
		}
		for _, r := range t.R16 {
			set(rune(r.Lo), rune(r.Hi), rune(r.Stride), i)
		}
		for _, r := range t.R32 {
			set(rune(r.Lo), rune(r.Hi), rune(r.Stride), i)
		}
		for _, r := range newCharacters[name] {
			set(r.lo, r.hi, 1, i)
		}
	}
	for _, r := range "\t\n\v\f\r\u0085" {
		set(r, r, 1, whiteControl)
	}
	return &table
})

// categoryOf is the place of the character's category in categoryNames.
func categoryOf(r rune) uint8 { return categories()[uint32(r)>>8][r&0xff] }

// runeAt is the character that text begins with. A byte that isn't UTF-8 reads
// as U+FFFD of one byte.
func runeAt(text string) (r rune, n int) {
	if c := text[0]; c < utf8.RuneSelf {
		return rune(c), 1
	}
	return utf8.DecodeRuneInString(text)
}

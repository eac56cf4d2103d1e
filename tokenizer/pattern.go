package tokenizer

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Patterns are regular expressions in the dialect of Hugging Face's tokenizers
// (Oniguruma), as far as pre-tokenizers use it: characters and escapes, classes
// with ranges, \p{..} and intersections, groups with and without (?i:, greedy
// and possessive repeats, alternatives, lookahead, $, \z and, behind a character,
// \b. Anything else is refused by name, and so is what looks at the text before a
// match: pieces are cut off one by one, and in parallel.
//
// Source: https://github.com/kkos/oniguruma/blob/master/doc/RE.

// node is a part of a pattern.
type node struct {
	kind       nodeKind
	set        charset
	min, max   int // of a repeat; max -1: any number
	possessive bool
	negate     bool
	subs       []*node // alternatives, parts in sequence, or the one repeated or looked at
}

type nodeKind uint8

const (
	charNode   nodeKind = iota // one character of set
	seqNode                    // all subs in turn
	altNode                    // the first of subs that matches
	repeatNode                 // subs[0], min to max times
	lookNode                   // whether subs[0] comes next
	lineNode                   // the end of a line
	endNode                    // the end of the text
	wordNode                   // where a word begins or ends
)

// parser reads a pattern.
type parser struct {
	text  string
	at    int
	fold  bool
	depth int
}

// The bounds of a pattern that a file brings; its bytes are those of all of a rule.
const (
	maxPatternBytes = 1 << 14
	maxPatternDepth = 32
	maxRepeat       = 1000
)

func parsePattern(text string) (*node, error) {
	if len(text) > maxPatternBytes {
		return nil, fmt.Errorf("%w: a pattern of %d bytes", ErrUnsupported, len(text))
	}
	p := &parser{text: text}
	n, err := p.alternatives()
	if err == nil && p.at < len(text) {
		err = p.unsupported(")")
	}
	if err == nil && n.looksBack() {
		err = fmt.Errorf("%w: \\b at the beginning of the pattern %s", ErrUnsupported, quote(text))
	}
	return n, err
}

func (p *parser) unsupported(what string) error {
	return fmt.Errorf("%w: %s at byte %d of the pattern %s", ErrUnsupported, quote(what), p.at, quote(p.text))
}

// rest is what is still to be read.
func (p *parser) rest() string { return p.text[p.at:] }

func (p *parser) accept(s string) bool {
	ok := strings.HasPrefix(p.rest(), s)
	if ok {
		p.at += len(s)
	}
	return ok
}

func (p *parser) alternatives() (*node, error) {
	if p.depth++; p.depth > maxPatternDepth {
		return nil, p.unsupported("nesting")
	}
	defer func() { p.depth-- }()
	alt := &node{kind: altNode}
	for {
		seq := &node{kind: seqNode}
		for p.at < len(p.text) && p.text[p.at] != '|' && p.text[p.at] != ')' {
			n, err := p.repeated()
			if err != nil {
				return nil, err
			}
			seq.subs = append(seq.subs, n)
		}
		alt.subs = append(alt.subs, seq)
		if !p.accept("|") {
			break
		}
	}
	if len(alt.subs) == 1 {
		return alt.subs[0], nil
	}
	return alt, nil
}

// repeated is an atom with what may follow it: *, +, ?, {m,n} and a further +.
func (p *parser) repeated() (*node, error) {
	n, err := p.atom()
	if err != nil {
		return nil, err
	}
	for p.at < len(p.text) {
		r := &node{kind: repeatNode, max: -1, subs: []*node{n}}
		switch {
		case p.accept("*"):
		case p.accept("+"):
			r.min = 1
		case p.accept("?"):
			r.max = 1
		case p.text[p.at] == '{':
			if err := p.counts(r); err != nil {
				return nil, err
			}
		default:
			return n, nil
		}
		if n.nullable() {
			return nil, p.unsupported("repeat of what may be empty")
		}
		switch rest := p.rest(); {
		case strings.HasPrefix(rest, "?"):
			return nil, p.unsupported("lazy repeat")
		case strings.HasPrefix(rest, "+") && p.text[p.at-1] != '}' && n.kind == charNode: // after {m,n} it repeats that again
			p.at++
			r.possessive = true
		case strings.HasPrefix(rest, "+"):
			return nil, p.unsupported("repeat of a repeat")
		}
		n = r
		if p.at < len(p.text) && strings.ContainsRune("*+?{", rune(p.text[p.at])) {
			return nil, p.unsupported("repeat of a repeat")
		}
	}
	return n, nil
}

// counts reads {m}, {m,} or {m,n}.
func (p *parser) counts(r *node) error {
	end := strings.IndexByte(p.rest(), '}')
	if end < 0 {
		return p.unsupported("{")
	}
	low, high, isRange := strings.Cut(p.text[p.at+1:p.at+end], ",")
	var err error
	if r.min, err = strconv.Atoi(low); err != nil || r.min < 0 || r.min > maxRepeat {
		return p.unsupported(p.text[p.at : p.at+end+1])
	}
	switch {
	case !isRange:
		r.max = r.min
	case high != "":
		if r.max, err = strconv.Atoi(high); err != nil || r.max < max(r.min, 1) || r.max > maxRepeat {
			return p.unsupported(p.text[p.at : p.at+end+1])
		}
	}
	p.at += end + 1
	return nil
}

func (p *parser) atom() (*node, error) {
	switch {
	case p.accept("(?:"):
		return p.group(p.fold)
	case p.accept("(?i:"):
		return p.group(true)
	case p.accept("(?="), p.accept("(?!"):
		negate := p.text[p.at-1] == '!'
		n, err := p.group(p.fold)
		if err != nil {
			return nil, err
		}
		return &node{kind: lookNode, negate: negate, subs: []*node{n}}, nil
	case strings.HasPrefix(p.rest(), "(?"), strings.HasPrefix(p.rest(), "(*"):
		return nil, p.unsupported(p.rest()[:min(4, len(p.rest()))])
	case p.accept("("):
		return p.group(p.fold)
	case strings.HasPrefix(p.rest(), "^"):
		return nil, p.unsupported("^")
	case p.accept("$"):
		return &node{kind: lineNode}, nil
	case p.accept(`\z`):
		return &node{kind: endNode}, nil
	case p.accept(`\b`):
		return &node{kind: wordNode}, nil
	case strings.ContainsRune("*+?{", rune(p.text[p.at])):
		return nil, p.unsupported(p.text[p.at : p.at+1])
	case p.accept("."):
		return char(union{ranges: []runeRange{{'\n', '\n'}}, negate: true}), nil
	case p.accept("["):
		set, err := p.class()
		return &node{kind: charNode, set: set}, err
	}
	u, err := p.one()
	if err != nil {
		return nil, err
	}
	return char(u), nil
}

func char(u union) *node {
	u.sort()
	return &node{kind: charNode, set: charset{u}}
}

func (p *parser) group(fold bool) (*node, error) {
	outer := p.fold
	p.fold = fold
	n, err := p.alternatives()
	p.fold = outer
	if err == nil && !p.accept(")") {
		err = p.unsupported("a group without an end")
	}
	return n, err
}

// class reads what is between [ and ].
func (p *parser) class() (charset, error) {
	negate := p.accept("^")
	set := charset{{negate: negate}}
	for first := true; ; first = false {
		u := &set[len(set)-1]
		switch {
		case p.at == len(p.text):
			return nil, p.unsupported("a class without an end")
		case !first && p.accept("]"):
			u.sort()
			return set, nil
		case p.accept("&&"):
			if negate {
				return nil, p.unsupported("[^..&&")
			}
			u.sort()
			inner := p.accept("[")
			set = append(set, union{negate: inner && p.accept("^")})
			if inner {
				// The intersection's other side is one class, then the end.
				more, err := p.union(&set[len(set)-1])
				if err != nil {
					return nil, err
				}
				if !more || !p.accept("]") {
					return nil, p.unsupported("a class in a class")
				}
				return set, nil
			}
		case strings.HasPrefix(p.rest(), "["):
			return nil, p.unsupported("a class in a class")
		default:
			if err := p.item(u); err != nil {
				return nil, err
			}
		}
	}
}

// union reads a class without intersections, with its end.
func (p *parser) union(u *union) (ok bool, err error) {
	for p.at < len(p.text) {
		if p.accept("]") {
			u.sort()
			return true, nil
		}
		if err := p.item(u); err != nil {
			return false, err
		}
	}
	return false, nil
}

// item adds one character, a range or what an escape stands for.
func (p *parser) item(u *union) error {
	from := p.at
	low, err := p.one()
	if err != nil {
		return err
	}
	if rest := p.rest(); len(rest) > 1 && rest[0] == '-' && rest[1] != ']' {
		p.at++
		high, err := p.one()
		if err != nil {
			return err
		}
		lo, ok := low.single()
		hi, ok2 := high.single()
		if !ok || !ok2 || lo > hi {
			p.at = from
			return p.unsupported("a range")
		}
		low = union{ranges: []runeRange{{lo, hi}}}
		if p.fold {
			low.fold()
		}
	}
	if item := p.text[from:]; p.fold && (strings.HasPrefix(item, `\p`) || strings.HasPrefix(item, `\P`)) {
		return p.unsupported(`\p in a class within (?i:`) // where it is folded too, and nowhere else
	}
	if low.negate {
		if len(low.ranges) > 0 {
			return p.unsupported("a negated script in a class")
		}
		low.categories = ^low.categories
	}
	if strings.HasPrefix(p.text[from:], `\w`) { // superscripts and fractions aren't in a class's
		low.ranges = slices.DeleteFunc(low.ranges, func(x runeRange) bool { return x.hi < 0x100 })
	}
	u.categories |= low.categories
	if u.ranges = append(u.ranges, low.ranges...); len(u.ranges) > 1<<14 {
		u.sort()
	}
	return nil
}

// single is the character that the union was read from.
func (u *union) single() (rune, bool) {
	if u.categories != 0 || u.negate || len(u.ranges) == 0 {
		return 0, false
	}
	return u.ranges[0].lo, u.ranges[0].lo == u.ranges[0].hi
}

var (
	whiteSpace = categoriesNamed("Z") | 1<<whiteControl
	digits     = categoriesNamed("Nd")
	// wordChars is Oniguruma's \w: what is alphabetic, which some symbols are.
	wordChars = union{
		categories: categoriesNamed("L") | categoriesNamed("M") | digits | categoriesNamed("Nl") | categoriesNamed("Pc"),
		ranges:     []runeRange{{0xb2, 0xb3}, {0xb9, 0xb9}, {0xbc, 0xbe}, {0x24b6, 0x24e9}, {0x1f130, 0x1f149}, {0x1f150, 0x1f169}, {0x1f170, 0x1f189}},
	}
)

// one reads a character or an escape.
func (p *parser) one() (union, error) {
	r, n := utf8.DecodeRuneInString(p.rest())
	if r == utf8.RuneError && n <= 1 {
		return union{}, p.unsupported("text that isn't UTF-8")
	}
	p.at += n
	if r == '\\' {
		return p.escape()
	}
	return p.literal(r), nil
}

func (p *parser) literal(r rune) union {
	u := union{ranges: []runeRange{{r, r}}}
	if p.fold {
		u.fold()
		// The character itself stays the first, which single looks at.
		i := slices.IndexFunc(u.ranges, func(x runeRange) bool { return x.lo <= r && r <= x.hi })
		u.ranges[0], u.ranges[i] = u.ranges[i], u.ranges[0]
	}
	return u
}

func (p *parser) escape() (union, error) {
	if p.at == len(p.text) {
		return union{}, p.unsupported(`\`)
	}
	c := p.text[p.at]
	p.at++
	switch c {
	case 'n':
		return p.literal('\n'), nil
	case 'r':
		return p.literal('\r'), nil
	case 't':
		return p.literal('\t'), nil
	case 's', 'S':
		return union{categories: whiteSpace, negate: c == 'S'}, nil
	case 'd', 'D':
		return union{categories: digits, negate: c == 'D'}, nil
	case 'w', 'W':
		return union{categories: wordChars.categories, ranges: slices.Clone(wordChars.ranges), negate: c == 'W'}, nil
	case 'p', 'P':
		end := strings.IndexByte(p.rest(), '}')
		if end < 0 || p.rest()[0] != '{' {
			return union{}, p.unsupported(`\p`)
		}
		name := p.rest()[1:end]
		u := union{categories: categoriesNamed(name), negate: c == 'P'}
		if script := unicode.Scripts[name]; script != nil {
			u.ranges = rangesOf(script)
			u.ranges = append(u.ranges, newInScripts[name]...)
			u.sort()
		} else if name == "P8" {
			u.ranges = slices.Clone(punctuation8().ranges)
		} else if u.categories == 0 {
			return union{}, p.unsupported(`\p{` + name + "}")
		}
		p.at += end + 1
		return u, nil
	}
	if c >= utf8.RuneSelf || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' {
		return union{}, p.unsupported(`\` + string(rune(c)))
	}
	return p.literal(rune(c)), nil
}

func rangesOf(t *unicode.RangeTable) (ranges []runeRange) {
	add := func(lo, hi, stride rune) {
		if stride == 1 {
			ranges = append(ranges, runeRange{lo, hi})
			return
		}
		for r := lo; r <= hi; r += stride {
			ranges = append(ranges, runeRange{r, r})
		}
	}
	for _, r := range t.R16 {
		add(rune(r.Lo), rune(r.Hi), rune(r.Stride))
	}
	for _, r := range t.R32 {
		add(rune(r.Lo), rune(r.Hi), rune(r.Stride))
	}
	return ranges
}

// nullable reports whether the node can match nothing.
func (n *node) nullable() bool {
	switch n.kind {
	case charNode:
		return false
	case seqNode:
		return !slices.ContainsFunc(n.subs, func(s *node) bool { return !s.nullable() })
	case altNode:
		return slices.ContainsFunc(n.subs, (*node).nullable)
	case repeatNode:
		return n.min == 0 || n.subs[0].nullable()
	}
	return true
}

// looksBack reports whether a match may need to know the character before it.
func (n *node) looksBack() bool {
	switch n.kind {
	case wordNode:
		return true
	case seqNode:
		for _, s := range n.subs {
			if s.looksBack() {
				return true
			}
			if !s.nullable() {
				return false
			}
		}
		return false
	}
	return slices.ContainsFunc(n.subs, (*node).looksBack)
}

// matchesAll reports whether the pattern matches at each place of any text: each
// character is all that one of its alternatives needs. It may miss some that do.
func matchesAll(text string) bool {
	root, err := parsePattern(text)
	if err != nil {
		return false // as compilePattern says
	}
	alternatives := []*node{root}
	if root.kind == altNode {
		alternatives = root.subs
	}
	var sets []charset
	for _, alt := range alternatives {
		if set, ok := alt.needs(); ok {
			sets = append(sets, set)
		}
	}
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if r == 0xd800 {
			r = 0xe000 // no surrogates
		}
		if !slices.ContainsFunc(sets, func(c charset) bool { return c.has(r) }) {
			return false
		}
	}
	return true
}

// needs is the set of which one character is all that the sequence needs, in any
// context.
func (n *node) needs() (set charset, ok bool) {
	for _, s := range n.subs {
		one := s
		if s.kind == repeatNode {
			if s.possessive {
				return nil, false
			}
			if s.min == 0 {
				continue
			}
			if s.min > 1 {
				return nil, false
			}
			one = s.subs[0]
		}
		if one.kind != charNode || set != nil {
			return nil, false
		}
		set = one.set
	}
	return set, set != nil
}

package tokenizer

import (
	"slices"
	"sync"
	"unicode"
	"unicode/utf8"
)

// runeRange is the characters from lo to hi, both included.
type runeRange struct{ lo, hi rune }

// union is the characters of some categories and ranges, or all others.
type union struct {
	categories categorySet
	ranges     []runeRange // ascending by lo, apart
	negate     bool
}

func (u *union) has(r rune) bool {
	in := u.categories>>categoryOf(r)&1 != 0
	if !in && len(u.ranges) > 0 {
		_, in = slices.BinarySearchFunc(u.ranges, r, func(x runeRange, r rune) int {
			switch {
			case x.hi < r:
				return -1
			case x.lo > r:
				return 1
			}
			return 0
		})
	}
	return in != u.negate
}

// sort brings the ranges into order and joins those that touch.
func (u *union) sort() {
	slices.SortFunc(u.ranges, func(a, b runeRange) int { return int(a.lo - b.lo) })
	joined := u.ranges[:0]
	for _, r := range u.ranges {
		if n := len(joined); n > 0 && r.lo <= joined[n-1].hi+1 {
			joined[n-1].hi = max(joined[n-1].hi, r.hi)
		} else {
			joined = append(joined, r)
		}
	}
	u.ranges = joined
}

// fold adds the characters that differ only in case.
func (u *union) fold() {
	pairs := casePairs()
	for _, x := range slices.Clone(u.ranges) {
		from, _ := slices.BinarySearchFunc(pairs, x.lo, func(p [2]rune, r rune) int { return int(p[0] - r) })
		for _, p := range pairs[from:] {
			if p[0] > x.hi {
				break
			}
			if p[1] < x.lo || p[1] > x.hi {
				u.ranges = append(u.ranges, runeRange{p[1], p[1]})
			}
		}
	}
	u.sort()
}

// casePairs are the characters with each other that differs only in case, in
// ascending order.
var casePairs = sync.OnceValue(func() (all [][2]rune) {
	last := unicode.CaseRanges[len(unicode.CaseRanges)-1].Hi
	for r := rune(0); r <= rune(last); r++ {
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			all = append(all, [2]rune{r, f})
		}
	}
	return all
})

// charset is what all of its unions have.
type charset []union

func (c charset) has(r rune) bool {
	for i := range c {
		if !c[i].has(r) {
			return false
		}
	}
	return true
}

// apart reports that no character is in both sets. It may miss some that are.
func apart(a, b charset) bool {
	for r := rune(0); r < utf8.RuneSelf; r++ {
		if a.has(r) && b.has(r) {
			return false
		}
	}
	return a.other()&b.other() == 0
}

// other is a set of categories that the charset's characters beyond ASCII are in.
func (c charset) other() categorySet {
	all := ^categorySet(0)
	for _, u := range c {
		switch {
		case u.negate:
			all &^= u.categories
		case len(u.ranges) == 0 || u.ranges[len(u.ranges)-1].hi < utf8.RuneSelf:
			all &= u.categories
		}
	}
	return all
}

package tokenizer

import (
	"fmt"
	"math"
	"slices"
	"unicode/utf8"
)

// pattern is a regular expression as a program for match.
//
// Source: Cox 2009, "Regular Expression Matching: the Virtual Machine
// Approach", https://swtch.com/~rsc/regexp/regexp2.html, the backtracking one.
type pattern struct {
	text  string
	prog  []inst
	sets  []charset
	ascii [utf8.RuneSelf]uint64 // the sets that a character is in, a bit each

	starts []int32               // where each alternative begins in prog
	first  [utf8.RuneSelf]uint64 // the alternatives that may begin with the character
	other  uint64                // those that may begin with one beyond ASCII
	run    int                   // the set whose run the only alternative begins with, or -1
}

// inst is one step. Each goes on with the next but jump and split.
type inst struct {
	op       opcode
	set      uint8
	keep     bool  // opRun: gives nothing back, as what follows can't take it
	last     bool  // opSplit: from y on nothing can fail
	negate   bool  // opLook
	min, max int32 // of opRun
	x, y     int32
}

type opcode uint8

const (
	opChar  opcode = iota // one character of set
	opRun                 // min to max characters of set, as many as there are
	opJump                // go on at x
	opSplit               // go on at x and, where that fails, at y
	opLook                // see whether what follows up to its opMatch comes next, then go on at x
	opLine
	opEnd
	opWord
	opMatch
)

const (
	maxProgram = 1 << 13
	maxSets    = 64
)

func compilePattern(text string) (*pattern, error) {
	root, err := parsePattern(text)
	if err != nil {
		return nil, err
	}
	p := &pattern{text: text, run: -1}
	alternatives := []*node{root}
	if root.kind == altNode {
		alternatives = root.subs
	}
	if root.nullable() {
		return nil, fmt.Errorf("%w: the pattern %s, which may match nothing", ErrUnsupported, quote(text))
	}
	if len(alternatives) > 64 {
		return nil, fmt.Errorf("%w: %d alternatives in the pattern %s", ErrUnsupported, len(alternatives), quote(text))
	}
	for _, alt := range alternatives {
		p.starts = append(p.starts, int32(len(p.prog)))
		p.emit(alt)
		p.add(inst{op: opMatch})
		if len(p.prog) > maxProgram || len(p.sets) > maxSets {
			return nil, fmt.Errorf("%w: a pattern so large: %s", ErrUnsupported, quote(text))
		}
	}
	for i, alt := range alternatives {
		p.begins(alt, 1<<i)
	}
	if first := p.prog[0]; len(alternatives) == 1 && first.op == opRun && first.min == 1 && first.max == math.MaxInt32 {
		p.run = int(first.set)
	}
	p.finish()
	return p, nil
}

func (p *pattern) add(in inst) (at int) {
	p.prog = append(p.prog, in)
	return len(p.prog) - 1
}

func (p *pattern) here() int32 { return int32(len(p.prog)) }

// set is the number of the set.
func (p *pattern) set(c charset) uint8 {
	i := slices.IndexFunc(p.sets, func(s charset) bool {
		return slices.EqualFunc(s, c, func(a, b union) bool {
			return a.categories == b.categories && a.negate == b.negate && slices.Equal(a.ranges, b.ranges)
		})
	})
	if i < 0 {
		i = len(p.sets)
		p.sets = append(p.sets, c)
		for r := range p.ascii {
			if c.has(rune(r)) && i < maxSets {
				p.ascii[r] |= 1 << i
			}
		}
	}
	return uint8(min(i, maxSets))
}

func (p *pattern) emit(n *node) {
	if len(p.prog) > maxProgram { // which compilePattern refuses
		return
	}
	switch n.kind {
	case charNode:
		p.add(inst{op: opChar, set: p.set(n.set)})
	case seqNode:
		for _, s := range n.subs {
			p.emit(s)
		}
	case altNode:
		var ends []int
		for _, s := range n.subs[:len(n.subs)-1] {
			split := p.add(inst{op: opSplit})
			p.prog[split].x = p.here()
			p.emit(s)
			ends = append(ends, p.add(inst{op: opJump}))
			p.prog[split].y = p.here()
		}
		p.emit(n.subs[len(n.subs)-1])
		for _, e := range ends {
			p.prog[e].x = p.here()
		}
	case repeatNode:
		p.emitRepeat(n)
	case lookNode:
		look := p.add(inst{op: opLook, negate: n.negate})
		p.emit(n.subs[0])
		p.add(inst{op: opMatch})
		p.prog[look].x = p.here()
	case lineNode:
		p.add(inst{op: opLine})
	case endNode:
		p.add(inst{op: opEnd})
	case wordNode:
		p.add(inst{op: opWord})
	}
}

func (p *pattern) emitRepeat(n *node) {
	sub := n.subs[0]
	if sub.kind == charNode {
		most := int32(n.max)
		if n.max < 0 {
			most = math.MaxInt32
		}
		p.add(inst{op: opRun, set: p.set(sub.set), min: int32(n.min), max: most, keep: n.possessive})
		return
	}
	for range n.min {
		p.emit(sub)
	}
	if n.max < 0 {
		loop := p.add(inst{op: opSplit})
		p.prog[loop].x = p.here()
		p.emit(sub)
		p.add(inst{op: opJump, x: int32(loop)})
		p.prog[loop].y = p.here()
		return
	}
	var splits []int
	for range n.max - n.min {
		split := p.add(inst{op: opSplit})
		p.prog[split].x = p.here()
		p.emit(sub)
		splits = append(splits, split)
	}
	for _, s := range splits {
		p.prog[s].y = p.here()
	}
}

// begins notes the characters that the alternative may begin with.
func (p *pattern) begins(n *node, alternative uint64) {
	var visit func(n *node)
	visit = func(n *node) {
		switch n.kind {
		case charNode:
			for r := range p.first {
				if n.set.has(rune(r)) {
					p.first[r] |= alternative
				}
			}
			if n.set.other() != 0 {
				p.other |= alternative
			}
		case seqNode:
			for _, s := range n.subs {
				if visit(s); !s.nullable() {
					break
				}
			}
		case altNode, repeatNode:
			for _, s := range n.subs {
				visit(s)
			}
		}
	}
	visit(n)
}

// finish finds the runs that never give back what they took, and the splits
// after which nothing can fail.
func (p *pattern) finish() {
	inLook := make([]bool, len(p.prog))
	for pc, in := range p.prog {
		if in.op == opLook {
			for i := pc + 1; i < int(in.x); i++ {
				inLook[i] = true
			}
		}
	}
	ends := make([]bool, len(p.prog))
	for pc := range p.prog {
		ends[pc] = p.ends(pc, len(p.prog))
	}
	apart := p.apart()
	for pc := range p.prog {
		switch in := &p.prog[pc]; {
		case in.op == opRun:
			in.keep = in.keep || p.keeps(apart[in.set], pc+1, ends)
		case in.op == opSplit && !inLook[pc]:
			in.last = ends[in.y]
		}
	}
}

// apart has, for each set, a bit for each of those that it has no character with.
func (p *pattern) apart() (all [maxSets]uint64) {
	for i, a := range p.sets {
		for j, b := range p.sets {
			if apart(a, b) {
				all[i] |= 1 << j
			}
		}
	}
	return all
}

// keeps reports whether what follows at pc fails on each character of a set, so
// that a run of it has nothing to gain from being shorter. What can't fail at all
// needs no shorter run either. The bits of apart are the sets that it has nothing
// with in common, and ends is p.ends for each place.
func (p *pattern) keeps(apart uint64, pc int, ends []bool) bool {
	for {
		if ends[pc] {
			return true
		}
		switch in := p.prog[pc]; in.op {
		case opChar:
			return apart>>in.set&1 != 0
		case opRun:
			if apart>>in.set&1 == 0 {
				return false
			}
			if in.min > 0 {
				return true
			}
		default:
			return false
		}
		pc++
	}
}

// ends reports whether the pattern may end at pc without another step.
func (p *pattern) ends(pc, fuel int) bool {
	for ; fuel > 0; fuel-- {
		switch in := p.prog[pc]; in.op {
		case opMatch:
			return true
		case opJump:
			pc = int(in.x)
		case opSplit:
			pc = int(in.y)
		case opRun:
			if in.min > 0 {
				return false
			}
			pc++
		default:
			return false
		}
	}
	return false
}

// candidates are the alternatives that a text with this first byte may begin
// with, a bit each.
func (p *pattern) candidates(first byte) uint64 {
	if first < utf8.RuneSelf {
		return p.first[first]
	}
	return p.other
}

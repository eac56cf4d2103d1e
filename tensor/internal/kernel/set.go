package kernel

import (
	"fmt"
	"slices"
	"strings"
)

// Set is one implementation of all operations. Sets are immutable and safe for
// concurrent use.
type Set struct {
	// Name is "generic", "avx2" or "avx512".
	Name string
	impl kernels
}

// kernels is what an implementation provides. Lengths were checked by the
// methods of Set; those of one embed another to inherit what they don't have.
type kernels interface {
	quantize(a *Acts, x []float32, lo, hi int)
	mulQ(f Format, w []byte, k, lo, hi int, a *Acts, out []float32, stride int, sc *Scratch)
	mulF(f Format, w []byte, k, lo, hi int, x []float32, tokens int, out []float32, stride int, sc *Scratch)
	dequantize(f Format, dst []float32, src []byte)
	attendF32(qs *Queries, lo, hi int, keys, values []float32, from, to int)
	attendF16(qs *Queries, lo, hi int, keys, values []uint16, from, to int)
	attendQ8(qs *Queries, lo, hi int, keys, values []byte, from, to int)
	toF16(dst []uint16, src []float32)
	fromF16(dst []float32, src []uint16)
	sumSquares(x []float32) float32
	top(x []float32) (top float32, finite bool)
	scaleBy(out, x, weight []float32, factor float32)
	siluGate(gate, up []float32)
	geluGate(gate, up []float32)
	add(dst, src []float32)
	ropePairs(x, cos, sin []float32)
	ropeHalves(lo, hi, cos, sin []float32)
	prefetch(b []byte)
}

// candidate is a set that this program has code for.
type candidate struct {
	set     *Set
	missing string // the CPU feature that is wanting, "" if the set can run
}

var genericSet = &Set{Name: "generic", impl: generic{}}

// candidates lists what the program has code for, in ascending order of speed.
func candidates() []candidate {
	return append([]candidate{{set: genericSet}}, archCandidates()...)
}

// Sets returns what this CPU can run, the portable set first, the fastest last.
func Sets() []*Set {
	var sets []*Set
	for _, c := range candidates() {
		if c.missing == "" {
			sets = append(sets, c.set)
		}
	}
	return sets
}

// Missing names the sets that this program has code for and this CPU can't
// run, each with the feature that is wanting, so that tests and reports can
// say what they left out.
func Missing() map[string]string {
	m := make(map[string]string)
	for _, c := range candidates() {
		if c.missing != "" {
			m[c.set.Name] = c.missing
		}
	}
	return m
}

// names are all sets there are, on whatever machine.
var names = []string{"generic", "avx2", "avx512"}

// Select returns the set of the name, or the fastest for an empty name. It
// fails where the name is unknown, or the program or the CPU lacks the set.
func Select(name string) (*Set, error) {
	sets := Sets()
	if name == "" {
		return sets[len(sets)-1], nil
	}
	for _, s := range sets {
		if s.Name == name {
			return s, nil
		}
	}
	if why, ok := Missing()[name]; ok {
		return nil, fmt.Errorf("kernel: instruction set %s: this CPU has no %s", name, why)
	}
	if slices.Contains(names, name) {
		return nil, fmt.Errorf("kernel: instruction set %s isn't part of this build", name)
	}
	return nil, fmt.Errorf("kernel: no instruction set %q, there are %s", name, strings.Join(names, ", "))
}

// String is the set's name.
func (s *Set) String() string { return s.Name }

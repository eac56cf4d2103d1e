//go:build !purego

package kernel

// quantGroup is how many blocks quantizeAVX512 takes at once.
const quantGroup = 4

func (g avx512) quantize(a *Acts, x []float32, lo, hi int) {
	blocks := a.k / BlockLen
	if blocks < quantGroup {
		g.avx2.quantize(a, x, lo, hi)
		return
	}
	var p quantArgs
	for t := lo; t < hi; t++ {
		for b := 0; b < blocks; b += quantBlocks {
			// What is quantised twice becomes the same.
			b := min(b, blocks-quantGroup)
			p.set(a, x, t, b, min(quantBlocks, blocks-b))
			quantizeAVX512(&p)
		}
	}
}

// gateLanes is how many elements the gates take at once.
const gateLanes = 64

func (g avx512) siluGate(gate, up []float32) {
	for len(up) >= gateLanes {
		n := min(len(up)&^(gateLanes-1), vecCall)
		siluGateAVX512(&vecArgs{dst: ptr(gate), x: ptr(up), n: n})
		gate, up = gate[n:], up[n:]
	}
	g.avx2.siluGate(gate, up)
}

func (g avx512) geluGate(gate, up []float32) {
	for len(up) >= gateLanes {
		n := min(len(up)&^(gateLanes-1), vecCall)
		geluGateAVX512(&vecArgs{dst: ptr(gate), x: ptr(up), n: n})
		gate, up = gate[n:], up[n:]
	}
	g.avx2.geluGate(gate, up)
}

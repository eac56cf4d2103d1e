package main

import (
	"math"

	"github.com/mmcloughlin/avo/reg"
)

// gates generates the gates, for so many vectors at once: the steps of one wait
// for each other.
func (w width) gates(vectors int) {
	w.gate("siluGate", "silu", vectors, func(vec) {})
	// geluF32 of package kernel, step by step.
	w.gate("geluGate", "gelu", vectors, func(v vec) {
		cubic := w.vec()
		c.VMULPS(v, v, cubic)
		c.VMULPS(w.memory("geluCubic", 0.044715), cubic, cubic)
		c.VADDPS(w.memory("one", 1), cubic, cubic)
		c.VMULPS(w.memory("geluLinear", 1.59576912160573071), v, v)
		c.VMULPS(cubic, v, v)
	})
}

// gate generates dst = dst/(1+exp(-u))*x, where inner turns dst into u.
func (w width) gate(name, of string, vectors int, inner func(v vec)) {
	function(name+w.suffix, "vecArgs", "sets dst to "+of+"(dst)*x.")
	o := args()
	dst, x, n := o.load("dst"), o.load("x"), o.load("n")
	exp, step := w.newExp(), w.bytes()*vectors
	loop(w.lanes*vectors, []reg.GPVirtual{dst, x}, []int{step, step}, n, func() {
		u := w.vecs(vectors)
		for i, v := range u {
			c.VMOVUPS(at(dst, w.bytes()*i), v)
			inner(v)
			c.VXORPS(w.memory("signs", math.Copysign(0, -1)), v, v)
		}
		for i, v := range exp.of(u...) {
			out := w.vec()
			c.VADDPS(w.memory("one", 1), v, v)
			c.VMOVUPS(at(dst, w.bytes()*i), out)
			c.VDIVPS(v, out, out)
			c.VMULPS(at(x, w.bytes()*i), out, out)
			c.VMOVUPS(out, at(dst, w.bytes()*i))
		}
	})
	leave()
}

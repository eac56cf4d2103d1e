package main

import (
	"github.com/mmcloughlin/avo/reg"
)

// ropeHalves generates the rotation of elements that lie in two rows.
func ropeHalves() {
	function("ropeHalvesAVX2", "vecArgs", "rotates the n elements of dst and hi together by cosines x and sines y.")
	o := args()
	lo, hi, x, y, n := o.load("dst"), o.load("hi"), o.load("x"), o.load("y"), o.load("n")
	loop(8, []reg.GPVirtual{lo, hi, x, y}, []int{32, 32, 32, 32}, n, func() {
		a, b, cos, sin, crossed := c.YMM(), c.YMM(), c.YMM(), c.YMM(), c.YMM()
		c.VMOVUPS(at(lo, 0), a)
		c.VMOVUPS(at(hi, 0), b)
		c.VMOVUPS(at(x, 0), cos)
		c.VMOVUPS(at(y, 0), sin)
		c.VMULPS(sin, a, crossed)
		c.VMULPS(cos, a, a)
		c.VMULPS(sin, b, sin)
		c.VSUBPS(sin, a, a)
		c.VMULPS(cos, b, b)
		c.VADDPS(b, crossed, b)
		c.VMOVUPS(a, at(lo, 0))
		c.VMOVUPS(b, at(hi, 0))
	})
	leave()
}

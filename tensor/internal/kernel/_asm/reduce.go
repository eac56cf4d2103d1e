package main

import op "github.com/mmcloughlin/avo/operand"

// reductions generates the largest element.
func reductions() {
	function("maxAVX2", "vecArgs", "sets dst[0] to the largest of x, which has no NaN, and dst[1] to 0, or NaN where x isn't finite.")
	o := args()
	dst, x, n := o.load("dst"), o.load("x"), o.load("n")
	tops, odd := ymms(2), ymms(2)
	for i := range tops {
		c.VMOVUPS(at(x, 32*i), tops[i])
		c.VXORPS(odd[i], odd[i], odd[i])
	}
	c.Label("elements")
	for i := range tops {
		v, zero := c.YMM(), c.YMM()
		c.VMOVUPS(at(x, 32*i), v)
		c.VMAXPS(v, tops[i], tops[i])
		c.VSUBPS(v, v, zero) // NaN of an infinity, too
		c.VADDPS(zero, odd[i], odd[i])
	}
	c.ADDQ(op.U8(64), x)
	c.SUBQ(op.U8(16), n)
	c.JNZ(op.LabelRef("elements"))
	c.VMAXPS(tops[1], tops[0], tops[0])
	c.VADDPS(odd[1], odd[0], odd[0])
	c.VMOVSS(wide8.horizontal(tops[0], c.VMAXPS, c.VMAXSS), at(dst, 0))
	c.VMOVSS(wide8.horizontal(odd[0], c.VADDPS, c.VADDSS), at(dst, 4))
	leave()
}

package main

// avx2 generates the kernels for CPUs with AVX2, FMA and F16C.
func avx2() {
	quantizeAVX2()
	unpackAVX2()
	for _, f := range unpackings {
		f.unpackAVX2()
	}
	for _, f := range panels {
		for n := 1; n <= 4; n++ {
			f.tileAVX2(n)
		}
	}
	streamAVX2()
	streamQ4KAVX2()
	streamQ6KAVX2()
	for _, f := range []string{"F32", "F16"} {
		for _, shape := range [][2]int{{8, 1}, {1, 1}, {4, 2}, {1, 2}, {4, 3}, {1, 3}} {
			dot(wide8, f, shape[0], shape[1])
		}
	}
	// Of several tokens, rows of BF16 are widened first.
	dot(wide8, "BF16", 8, 1)
	dot(wide8, "BF16", 1, 1)
	attention()
	vectors()
	wide8.gates(2)
	reductions()
	ropeHalves()
	dequantize()
}

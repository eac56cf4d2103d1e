package main

// avx2 generates the kernels for CPUs with AVX2, FMA and F16C.
func avx2() {
	quantizeAVX2()
	unpackAVX2()
	for _, f := range []string{"Q41", "Q80"} {
		for n := 1; n <= 4; n++ {
			tileAVX2(f, n)
		}
	}
	streamAVX2()
	for _, f := range []string{"F32", "F16"} {
		for _, shape := range [][2]int{{8, 1}, {1, 1}, {4, 2}, {1, 2}, {4, 3}, {1, 3}} {
			dot(wide8, f, shape[0], shape[1])
		}
	}
	attention()
	vectors()
	dequantize()
}

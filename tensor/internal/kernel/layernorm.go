package kernel

// LayerNorm sets out[i] = (x[i]-mean) / sqrt(variance+eps) * weight[i] + bias[i];
// without a bias where that is nil. The variance is the mean of (x-mean)^2, and the
// result NaN where that is infinite. out may be x. All sets give the same bits.
//
// Source: Ba et al. 2016, https://arxiv.org/abs/1607.06450.
func (s *Set) LayerNorm(out, x, weight, bias []float32, eps float32) {
	mustMatch("LayerNorm", len(out), len(x))
	mustMatch("LayerNorm", len(weight), len(x))
	if bias != nil {
		mustMatch("LayerNorm", len(bias), len(x))
	}
	if len(x) == 0 {
		return
	}
	n := float32(len(x))
	mean := sumF32(x) / n
	// The differences are squared, not the numbers: a large mean would cancel.
	for i, v := range x {
		out[i] = v - mean
	}
	factor := normFactor(dotF32(out, out)/n, eps)
	for i, v := range out {
		v = float32(float32(v*factor) * weight[i])
		if bias != nil {
			v += bias[i]
		}
		out[i] = v
	}
}

// sumF32 adds in four interleaved sums, like dotF32.
func sumF32(x []float32) float32 {
	var s [4]float32
	for i, v := range x {
		s[i%4] += v
	}
	return (s[0] + s[1]) + (s[2] + s[3])
}

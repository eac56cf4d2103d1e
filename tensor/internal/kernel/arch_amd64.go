//go:build !purego

package kernel

import "golang.org/x/sys/cpu"

// feature is something a set needs of the CPU. The flags are only up where the
// operating system saves the registers too.
type feature struct {
	name string
	has  bool
}

func archCandidates() []candidate {
	need2, need512 := needs()
	return []candidate{
		{&Set{Name: "avx2", impl: avx2{}}, missing(need2)},
		{&Set{Name: "avx512", impl: avx512{}}, missing(need512)},
	}
}

// needs is what the sets need of the CPU.
func needs() (need2, need512 []feature) {
	x := &cpu.X86
	need2 = []feature{{"AVX2", x.HasAVX2}, {"FMA", x.HasFMA}, {"F16C", x.HasF16C}}
	return need2, append(need2[:len(need2):len(need2)], []feature{
		{"AVX512F", x.HasAVX512F},
		{"AVX512BW", x.HasAVX512BW},
		{"AVX512DQ", x.HasAVX512DQ},
		{"AVX512VL", x.HasAVX512VL},
		{"AVX512_VNNI", x.HasAVX512VNNI},
		{"BMI2", x.HasBMI2},
	}...)
}

// missing is the name of the first feature that the CPU lacks.
func missing(need []feature) string {
	for _, f := range need {
		if !f.has {
			return f.name
		}
	}
	return ""
}

//go:build !purego

package probe

import (
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/cpu"
)

//go:noescape
func chainAdd(n int)

//go:noescape
func multiplyAVX2(n int)

//go:noescape
func multiplyVNNI(n int)

//go:noescape
func fmaAVX2(n int)

//go:noescape
func fmaAVX512(n int)

//go:noescape
func readAVX2(p *byte, n int)

const chainOps = 16 // additions of an iteration

var (
	chain = chainAdd
	read  = func() func(*byte, int) {
		if !cpu.X86.HasAVX2 {
			return nil
		}
		return readAVX2
	}()
)

// Designs whose multipliers are known. Sources: AMD's and Intel's software
// optimisation guides; Fog, instruction tables.
const (
	zen1       design = "Zen 1" // halves of 128 bits
	zen3       design = "Zen 3"
	zen4       design = "Zen 4" // 512 bits in two halves
	zen5       design = "Zen 5"
	intelXeonV design = "Xeon, Ice Lake to Granite Rapids"
)

var (
	avx2Int8  = kind{"VPMADDUBSW, 256 bits", 8 * 64, multiplyAVX2, map[design]float64{zen1: 32, zen3: 128}}
	vnniInt8  = kind{"VPDPBUSD, 512 bits", 16 * 128, multiplyVNNI, map[design]float64{zen4: 128, zen5: 256, intelXeonV: 256}}
	avx2Float = kind{"VFMADD231PS, 256 bits", 12 * 16, fmaAVX2, map[design]float64{zen1: 16, zen3: 32}}
	wideFloat = kind{"VFMADD231PS, 512 bits", 16 * 32, fmaAVX512, map[design]float64{zen4: 32, zen5: 64, intelXeonV: 64}}
)

func wide() bool { return cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VNNI }

func int8Kind() *kind {
	switch {
	case wide():
		return &vnniInt8
	case cpu.X86.HasAVX2:
		return &avx2Int8
	}
	return nil
}

func floatKind() *kind {
	switch {
	case wide():
		return &wideFloat
	case cpu.X86.HasAVX2 && cpu.X86.HasFMA:
		return &avx2Float
	}
	return nil
}

// thisDesign is read from Linux; elsewhere nothing is known.
var thisDesign = sync.OnceValue(func() design {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	return designOf(string(data))
})

// designOf finds the design of the first CPU that /proc/cpuinfo tells of.
func designOf(cpuinfo string) design {
	fields := map[string]string{}
	for line := range strings.Lines(cpuinfo) {
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			break // the end of the first
		}
		fields[strings.TrimSpace(key)] = strings.TrimSpace(value)
	}
	family, err := strconv.Atoi(fields["cpu family"])
	if err != nil {
		return ""
	}
	model, err := strconv.Atoi(fields["model"])
	if err != nil {
		return ""
	}
	switch vendor := fields["vendor_id"]; {
	case vendor == "AuthenticAMD" && family == 0x17 && model < 0x30:
		return zen1
	case vendor == "AuthenticAMD" && family == 0x19 && (model <= 0x0f || model >= 0x20 && model <= 0x5f):
		return zen3
	case vendor == "AuthenticAMD" && family == 0x19 && (model >= 0x10 && model <= 0x1f || model >= 0x60 && model <= 0xaf):
		return zen4
	case vendor == "AuthenticAMD" && family == 0x1a && model <= 0x1f:
		return zen5
	case vendor == "GenuineIntel" && family == 6 && (model == 0x6a || model == 0x6c || model == 0x8f || model == 0xcf || model == 0xad || model == 0xae):
		return intelXeonV
	}
	return ""
}

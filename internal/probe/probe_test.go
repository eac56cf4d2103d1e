package probe

import (
	"testing"
)

// TestRates holds the rates to what any machine has, and to each other.
func TestRates(t *testing.T) {
	clock := Clock()
	if clock == 0 {
		if int8Kind() != nil || Read(1, make([]byte, readUnit)) != 0 {
			t.Error("rates without a clock")
		}
		t.Skip("no probe for this machine")
	}
	if clock < 1e8 || clock > 1e10 {
		t.Errorf("a clock of %g Hz", clock)
	}
	for name, p := range map[string]Peak{"int8": Int8(1), "float32": Float32(1)} {
		if p.Instruction == "" {
			continue
		}
		if perCycle := p.PerSecond / clock; perCycle < 1 || perCycle > 1024 {
			t.Errorf("%s: %g operations a cycle", name, perCycle)
		}
		t.Logf("%s: %s, %.1f GOP/s, %.0f %% of the design's", name, p.Instruction, p.PerSecond/1e9, 100*p.Share())
	}
}

func TestReadRefusesLittle(t *testing.T) {
	if got := Read(2, make([]byte, 2*readUnit-1)); got != 0 {
		t.Errorf("%g bytes a second of nothing", got)
	}
}

// BenchmarkPeak reports the rates, and their share of the design's where that
// is known.
func BenchmarkPeak(b *testing.B) {
	for name, f := range map[string]func(int) Peak{"int8": Int8, "float32": Float32} {
		b.Run(name, func(b *testing.B) {
			var p Peak
			for b.Loop() {
				p = f(1)
			}
			b.ReportMetric(p.PerSecond/1e9, "GOP/s")
			b.ReportMetric(100*p.Share(), "%design")
		})
	}
}

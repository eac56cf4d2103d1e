package kernel

import (
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"testing"
)

// TestDequantizeGolden compares with gguf-py 0.19.0 (gguf.quants.dequantize), bit
// for bit, on blocks of random bytes.
func TestDequantizeGolden(t *testing.T) {
	text, err := os.ReadFile("testdata/dequantize.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden map[string]struct{ Blocks, Values string }
	if err := json.Unmarshal(text, &golden); err != nil {
		t.Fatal(err)
	}
	eachSet(t, func(t *testing.T, s *Set) {
		for f := BF16; f < formats; f++ {
			blocks, err := hex.DecodeString(golden[f.String()].Blocks)
			if err != nil || len(blocks) == 0 {
				t.Fatalf("%v: %d bytes of blocks, %v", f, len(blocks), err)
			}
			values, err := hex.DecodeString(golden[f.String()].Values)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]float32, len(blocks)/layouts[f].bytes*layouts[f].blocks*BlockLen)
			if len(values) != 4*len(got) {
				t.Fatalf("%v: %d bytes of values, want %d", f, len(values), 4*len(got))
			}
			s.Dequantize(f, got, blocks)
			for i, v := range got {
				if want := readF32(values[4*i:]); math.Float32bits(v) != math.Float32bits(want) {
					t.Fatalf("%v: element %d is %g, want %g", f, i, v, want)
				}
			}
		}
	})
}

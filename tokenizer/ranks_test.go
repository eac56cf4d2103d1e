package tokenizer

import (
	"math"
	"slices"
	"testing"

	"github.com/dunlin-go/dunlin/internal/budget"
)

func TestRankScores(t *testing.T) {
	minusZero := float32(math.Copysign(0, -1))
	scores := []float32{-1, 3, 0, -1e30, 3, minusZero, 1e-40, -1e-40, math.MaxFloat32, 7, -2}
	kinds := make([]TokenType, len(scores))
	for i := range kinds {
		kinds[i] = Normal
	}
	kinds[9] = Control
	lease := budget.New(1 << 20).Lease()
	defer lease.Close()
	got, err := rankScores(scores, kinds, lease)
	if err != nil {
		t.Fatal(err)
	}
	want := []uint32{5, 1, 3, 7, 1, 3, 2, 4, 0, noRank, 6}
	if !slices.Equal(got, want) {
		t.Errorf("ranks %v, want %v", got, want)
	}
}

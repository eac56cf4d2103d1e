package tensor

import (
	"context"
	goruntime "runtime"
	"testing"
	"unsafe"

	"github.com/dunlin-go/dunlin/internal/exec"
)

// TestWeightOrder holds what workers are told to prefetch to what they read next,
// in the second of two equal steps.
func TestWeightOrder(t *testing.T) {
	defer goruntime.GOMAXPROCS(goruntime.GOMAXPROCS(2)) // or a step has one thread
	matrix := func(rows int) *Tensor { return f32Tensor(t, rows, 32, make([]float32, rows*32)) }
	a, b, c := matrix(64), matrix(32), matrix(96)
	lists := [][]Product{{{Weight: a}, {Weight: b}}, {{Weight: c}}}
	const row = 32 * 4
	ex := exec.New(2)
	defer ex.Close()
	o := weightOrder{shares: make([]share, 2)}
	for round := range 2 {
		o.at = 0
		err := ex.Step(context.Background(), 2, func(s *exec.Step) error {
			o.enter(s, lists[0], 96)
			if round == 0 {
				o.enter(s, lists[1], 96)
				return nil
			}
			for _, tc := range []struct {
				worker, matrix, base, from, to, rest int
				next                                 []byte
			}{
				{0, 0, 0, 0, 16, 32 * row, c.data},           // the share [0, 48) is of a
				{0, 0, 0, 32, 48, 0, c.data},                 // its end
				{1, 0, 0, 48, 64, 0, b.data},                 // [48, 96): the end of a, then all of b
				{1, 1, 64, 0, 16, 16 * row, c.data[48*row:]}, // b, then the second share of c
				{0, 1, 64, 16, 32, 0, nil},                   // taken over from the other's share
			} {
				got := o.ahead(tc.worker, lists[0], tc.matrix, tc.base, tc.from, tc.to)
				if got.Rest != tc.rest || unsafe.SliceData(got.Next) != unsafe.SliceData(tc.next) {
					t.Errorf("%+v: %d bytes and then %p, want %p", tc, got.Rest, got.Next, tc.next)
				}
			}
			o.enter(s, lists[1], 96) // the last one: the next step begins with a
			if got := o.ahead(1, lists[1], 0, 0, 80, 96); unsafe.SliceData(got.Next) != unsafe.SliceData(a.data[48*row:]) {
				t.Error("the last products don't lead to the first")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

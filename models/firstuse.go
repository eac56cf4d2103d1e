package models

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/models/gguf"
	"github.com/dunlin-go/dunlin/models/pool"
)

// FirstUse is where a file's tensors lie, in the order in which a forward pass
// needs them: what belongs to no block, the blocks, the output head. The embedding
// comes last: a pass begins with a few of its rows only, and where it is the output
// head as well it ends with all. Neighbours are one span.
func FirstUse(f *gguf.File, lease *budget.Lease) ([]pool.Span, error) {
	type tensor struct {
		turn int
		pool.Span
	}
	if err := lease.ReserveItems(budget.Scratch, uint64(f.TensorCount()), 32+24); err != nil {
		return nil, err
	}
	list := make([]tensor, 0, f.TensorCount())
	for t := range f.Tensors() {
		list = append(list, tensor{turnOf(t.Name), pool.Span{Part: t.Part, Offset: int64(t.Offset), Bytes: int64(t.Bytes)}})
	}
	slices.SortFunc(list, func(a, b tensor) int {
		return cmp.Or(cmp.Compare(a.turn, b.turn), cmp.Compare(a.Part, b.Part), cmp.Compare(a.Offset, b.Offset))
	})
	spans := make([]pool.Span, 0, len(list))
	for _, t := range list {
		if i := len(spans) - 1; i >= 0 && t.Part == spans[i].Part {
			// What lies between them is padding.
			if gap := t.Offset - spans[i].Offset - spans[i].Bytes; gap >= 0 && gap < int64(f.Alignment()) {
				spans[i].Bytes += gap + t.Bytes
				continue
			}
		}
		spans = append(spans, t.Span)
	}
	return spans, nil
}

// turnOf is when a tensor of that name is needed.
func turnOf(name string) int {
	switch {
	case name == "token_embd.weight":
		return math.MaxInt
	case strings.HasPrefix(name, "output"):
		return math.MaxInt - 1
	}
	if rest, ok := strings.CutPrefix(name, "blk."); ok {
		number, _, _ := strings.Cut(rest, ".")
		if n, err := strconv.ParseUint(number, 10, 31); err == nil {
			return int(n)
		}
	}
	return -1
}

package tensor

import (
	"slices"

	"github.com/dunlin-go/dunlin/internal/exec"
	"github.com/dunlin-go/dunlin/tensor/internal/kernel"
)

// weightOrder tells each worker what it will read next. A model's steps read
// their weights in one order, so the last step says what comes after a matrix;
// where it is wrong, a few lines were prefetched for nothing.
type weightOrder struct {
	reads  [][]*Tensor // of each Linears of a step
	at     int         // the present one
	shares []share     // of the workers
}

// share is a worker's part of the present products.
type share struct {
	lo, hi int    // rows of all matrices
	next   []byte // what the worker begins the following products with
}

// enter is for the caller's thread, before the workers begin.
func (o *weightOrder) enter(s *exec.Step, products []Product, rows int) {
	same := func(w *Tensor, p Product) bool { return w == p.Weight }
	if o.at == len(o.reads) {
		o.reads = append(o.reads, nil)
	}
	if !slices.EqualFunc(o.reads[o.at], products, same) {
		list := o.reads[o.at][:0]
		for _, p := range products {
			list = append(list, p.Weight)
		}
		o.reads[o.at] = list
	}
	o.at++
	next := o.reads[o.at%len(o.reads)] // the step after this one begins anew
	following := 0
	for _, w := range next {
		following += w.Rows
	}
	for i := range o.shares {
		sh := &o.shares[i]
		sh.lo, sh.hi = s.Share(i, rows, linearGrain)
		first, _ := s.Share(i, following, linearGrain)
		sh.next = rowsFrom(next, first)
	}
}

// rowsFrom is the memory from a row on, counted over all matrices.
func rowsFrom(ws []*Tensor, row int) []byte {
	for _, w := range ws {
		if row < w.Rows {
			return w.data[row*w.row:]
		}
		row -= w.Rows
	}
	return nil
}

// ahead is what worker reads after the rows [from, to) of matrix i, whose first
// row is base. Who has taken over a part of another's share reads on somewhere else.
func (o *weightOrder) ahead(worker int, products []Product, i, base, from, to int) kernel.Ahead {
	sh, w := &o.shares[worker], products[i].Weight
	if base+from < sh.lo || base+to > sh.hi {
		return kernel.Ahead{}
	}
	next := sh.next
	end := sh.hi - base
	if end > w.Rows {
		end, next = w.Rows, products[i+1].Weight.data
	}
	return kernel.Ahead{Rest: (end - to) * w.row, Next: next}
}

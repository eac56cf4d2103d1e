//go:build !purego

package kernel

import "unsafe"

// The structs that the assembly takes its operands from, each by one pointer.
// The generators read their layout from this file. Pointers are pointers, so
// that the garbage collector sees them; all distances and steps are bytes.

// mulArgs are the operands of the products of quantised weights.
type mulArgs struct {
	w       unsafe.Pointer // first row
	row     int            // from one row to the next
	blocks  int            // in a row
	groups  int            // of 16 rows
	panel   unsafe.Pointer // a group unpacked: a block is 16 rows' bytes 4j..4j+3 for each j, 16 d, 16 m
	q       unsafe.Pointer // activations of the first token
	scales  unsafe.Pointer // its d
	fix     unsafe.Pointer
	qStep   int            // from one block to the next
	sStep   int            // of scales
	fixStep int            // of fix
	offset  int            // from d to s of a token
	out     unsafe.Pointer // [token][16 rows]
	stride  int            // from one token of out to the next
	acc     unsafe.Pointer // [token][16 rows] float32 accumulators, where they don't fit registers
	far     int            // what is prefetched into the outer caches, from w
	near    int            // and then into the first, from far
}

// dotArgs are the operands of the float products: groups of a few rows times a
// few tokens of n elements, a multiple of 16.
type dotArgs struct {
	w      unsafe.Pointer
	row    int
	groups int
	x      unsafe.Pointer
	token  int // from one token of x to the next
	n      int
	out    unsafe.Pointer // [token][row]
	stride int
	far    int // as in mulArgs
	near   int
}

// attendArgs are the operands of a block's attention: d is a multiple of 8,
// or of 16 for AVX-512, or of 32 for Q8; n and queries are at least 1.
type attendArgs struct {
	q           unsafe.Pointer // [query][d]
	keys        unsafe.Pointer // [d][blockKeys]
	keyScales   unsafe.Pointer // [d/32][blockKeys] float16 of Q8
	values      unsafe.Pointer // [key][d], from the first key with a weight
	valueScales unsafe.Pointer // [d/32][blockKeys], from the first key
	d           int
	n           int            // keys
	skip        int            // to the first weight of a query
	scores      unsafe.Pointer // [query][blockKeys]
	scaled      unsafe.Pointer // [query][2][blockKeys] weights times scales
	acc         unsafe.Pointer // [query][d]
	tops        unsafe.Pointer // [query]
	sums        unsafe.Pointer
	factors     unsafe.Pointer
	queries     int
}

// quantArgs are the operands of the quantisation of one token's blocks, of four at
// least for AVX-512.
type quantArgs struct {
	x       unsafe.Pointer
	blocks  int
	q       unsafe.Pointer
	scales  unsafe.Pointer
	fix     unsafe.Pointer
	qStep   int
	sStep   int
	fixStep int
	offset  int
}

// vecArgs are the operands of the elementwise operations on n elements, a
// multiple of 16, or of 64 for the gates of AVX-512.
type vecArgs struct {
	dst    unsafe.Pointer
	hi     unsafe.Pointer // what dst's elements are rotated with
	x, y   unsafe.Pointer
	n      int
	factor float32
}

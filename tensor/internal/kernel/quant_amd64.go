//go:build !purego

package kernel

import "unsafe"

// An assembly call can't be preempted. These bounds keep each one under 100
// microseconds on slow machines: at 2^21 multiplications AVX2 needs about 60,
// and 256 KB come from memory in as much.
const (
	maxCallMuls  = 1 << 21
	maxCallBytes = 1 << 18
	maxAsmK      = 1 << 15 // longer rows are left to portable Go
)

// nearAhead is how far ahead of the rows lines come into the first cache.
const nearAhead = 4 << 10

// archScratch holds the operands of calls through kernel tables: there the
// compiler can't see that they don't escape.
type archScratch struct {
	mul mulArgs
	dot dotArgs
}

// archQueries is the same for attention.
type archQueries struct{ attend attendArgs }

// quantKernels are the products of one quantised format. Kernels take whole
// groups of 16 rows; those in direct and tile are indexed by their number of
// tokens.
type quantKernels struct {
	// direct kernels take the rows as they lie, for batches so small that
	// unpacking into registers for all tokens at once is best.
	direct [TileTokens + 1]func(*mulArgs)
	// unpack and tile take them by way of a panel, a few tokens at a time.
	unpack []func(*mulArgs) // of each plane
	tile   [TileTokens + 1]func(*mulArgs)
	tokens int // that tile goes up to
}

func ptr[T any](s []T) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(s)) }

// mul is mulQ. Rows that are left when whole groups are counted off are
// computed in a group that reaches back, into scratch: neither is memory
// outside w read nor is an output outside [lo, hi) written.
func (kn *quantKernels) mul(f Format, w []byte, k, lo, hi int, a *Acts, out []float32, stride int, sc *Scratch) {
	row := f.RowBytes(k)
	rows := len(w) / row
	if rows < groupRows || k > maxAsmK || kn.unpack == nil {
		generic{}.mulQ(f, w, k, lo, hi, a, out, stride, sc)
		return
	}
	p := &sc.arch.mul
	p.row, p.blocks = row, k/BlockLen
	p.panel, p.acc = ptr(sc.panel), ptr(sc.tile[tileFloats:])
	if a.tokens <= TileTokens && kn.direct[a.tokens] != nil {
		rest := hi - (hi-lo)%groupRows
		p.stride = 4 * stride
		kn.stream(p, w[lo*row:rest*row], a, out[lo:], sc)
		if rest < hi {
			from := min(rest, rows-groupRows)
			p.stride = 4 * groupRows
			kn.stream(p, w[from*row:(from+groupRows)*row], a, sc.tile, sc)
			copyRows(out, stride, rest, hi, sc.tile[rest-from:], 0, a.tokens)
		}
	} else {
		for r := lo; r < hi; r += groupRows {
			kn.panel(f, p, w, min(r, rows-groupRows), r, hi, a, out, stride, sc)
		}
	}
	// Clear, as pointers into a mapping must not outlive it: the heap may grow
	// to where it was.
	*p = mulArgs{}
}

// stream multiplies the groups of rows that w holds by a direct kernel.
func (kn *quantKernels) stream(p *mulArgs, w []byte, a *Acts, out []float32, sc *Scratch) {
	group := groupRows * p.row
	groups := len(w) / group
	call := max(1, min(maxCallBytes/group, maxCallMuls/(groupRows*BlockLen*p.blocks*a.tokens)))
	p.setTile(a, 0)
	for g := 0; g < groups; g += p.groups {
		p.w, p.out = ptr(w[g*group:]), ptr(out[g*groupRows:])
		left := (groups - g) * group
		far, same := sc.Ahead.from(p.w, left, farAhead)
		p.far, p.near = far, nearAhead-far
		p.groups = min(call, groups-g, max(1, same/group))
		kn.direct[a.tokens](p)
	}
}

// from is how far ahead of w the first prefetch is, where left bytes of the
// call's rows begin, and for how many of those that stays so.
func (a *Ahead) from(w unsafe.Pointer, left, distance int) (far, same int) {
	over := distance - left - a.Rest // how far into Next
	switch {
	case len(a.Next) == 0:
		return distance, left
	case over < 0:
		return distance, min(left, -over)
	}
	// Only an address: a prefetch reads nothing and can't fault.
	return int(uintptr(ptr(a.Next))-uintptr(w)) + over, left
}

// panel multiplies the group of rows that starts at from, for the rows [r, hi)
// in it, with all tokens.
func (kn *quantKernels) panel(f Format, p *mulArgs, w []byte, from, r, hi int, a *Acts, out []float32, stride int, sc *Scratch) {
	p.w = ptr(w[from*p.row:])
	group := groupRows * p.row
	far, _ := sc.Ahead.from(p.w, (hi-r)*p.row, group)
	p.far, p.near = far, nearAhead-far
	for plane := range kn.unpack {
		kn.unpackRows(f, plane, p)
		whole := r+groupRows <= hi && plane == 0
		for t0 := 0; t0 < a.tokens; t0 += TileTokens {
			n := min(TileTokens, a.tokens-t0)
			p.setTile(a, t0)
			for i := 0; i < n; i += kn.tokens {
				if i > 0 {
					p.nextTokens(kn.tokens)
				}
				if whole {
					p.out, p.stride = ptr(out[(t0+i)*stride+r:]), 4*stride
				} else {
					p.out, p.stride = ptr(sc.tile[i*groupRows:]), 4*groupRows
				}
				kn.tile[min(kn.tokens, n-i)](p)
			}
			switch {
			case plane > 0:
				addRows(out, stride, r, min(hi, r+groupRows), sc.tile[r-from:], t0, n)
			case !whole:
				copyRows(out, stride, r, hi, sc.tile[r-from:], t0, n)
			}
		}
	}
}

// unpackRows fills the panel with a plane of the group of rows at p.w. Long rows take
// several calls.
func (kn *quantKernels) unpackRows(f Format, plane int, p *mulArgs) {
	l, whole := &layouts[f], *p
	stored := whole.blocks / l.blocks // blocks of a row as the format stores them
	call := max(1, maxCallBytes/(groupRows*l.bytes))
	for at := 0; at < stored; at += call {
		// The prefetches are ahead of the calls before by all rows, w by one.
		p.w, p.far = unsafe.Add(whole.w, at*l.bytes), whole.far+(groupRows-1)*at*l.bytes
		p.panel = unsafe.Add(whole.panel, 4*panelFloats*l.blocks*at)
		p.blocks = l.blocks * min(call, stored-at)
		kn.unpack[plane](p)
	}
	*p = whole
}

// setTile points p at the first activations of the tile from token t0 on.
func (p *mulArgs) setTile(a *Acts, t0 int) {
	first, n := a.tile(t0)
	p.q, p.scales, p.fix = ptr(a.q[first*BlockLen:]), ptr(a.scales[2*first:]), ptr(a.fix[first:])
	p.qStep, p.sStep, p.fixStep, p.offset = BlockLen*n, 8*n, 4*n, 4*n
}

// nextTokens moves on by n tokens in the tile.
func (p *mulArgs) nextTokens(n int) {
	p.q, p.scales, p.fix = unsafe.Add(p.q, BlockLen*n), unsafe.Add(p.scales, 4*n), unsafe.Add(p.fix, 4*n)
}

// addRows adds what copyRows would copy.
func addRows(out []float32, stride, r, hi int, tile []float32, t0, n int) {
	for t := range n {
		for i, at := r, (t0+t)*stride; i < hi; i++ {
			out[at+i] += tile[t*groupRows+i-r]
		}
	}
}

// copyRows copies the rows [r, hi) of n tokens from a tile in scratch.
func copyRows(out []float32, stride, r, hi int, tile []float32, t0, n int) {
	for t := range n {
		at := (t0 + t) * stride
		copy(out[at+r:at+hi], tile[t*groupRows:])
	}
}

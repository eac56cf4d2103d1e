package main

import (
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"log"
	"math"
	"slices"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/gotypes"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// kernel is the package that the assembly belongs to, as far as the structs
// of its operands go: the one file that declares them is type-checked alone.
var kernel = func() *types.Package {
	files := token.NewFileSet()
	f, err := parser.ParseFile(files, "../args_amd64.go", nil, 0)
	if err != nil {
		log.Fatal(err)
	}
	conf := types.Config{Importer: importer.Default(), Sizes: gotypes.Sizes}
	pkg, err := conf.Check("kernel", files, []*ast.File{f}, nil)
	if err != nil {
		log.Fatal(err)
	}
	return pkg
}()

// function begins the function name(a *args).
func function(name, args, doc string) {
	c.Function(name)
	c.Attributes(attr.NOSPLIT)
	typ := types.NewPointer(kernel.Scope().Lookup(args).Type())
	params := types.NewTuple(types.NewParam(token.NoPos, kernel, "a", typ))
	c.Signature(gotypes.NewSignature(kernel, types.NewSignatureType(nil, nil, nil, params, nil, false)))
	c.Doc(name + " " + doc)
	c.Pragma("noescape")
}

// operands are the fields of the function's argument struct.
type operands struct{ gotypes.Component }

// args takes the pointer to the argument struct into a register, which is
// free again after the last field was loaded.
func args() operands { return operands{c.Dereference(c.Param("a"))} }

// load takes a field into a register.
func (o operands) load(field string) reg.GPVirtual {
	r := c.GP64()
	c.MOVQ(o.at(field), r)
	return r
}

// at is the field's place in memory, for instructions that take it from there.
func (o operands) at(field string) operand.Mem {
	b, err := o.Field(field).Resolve()
	if err != nil {
		log.Fatal(err)
	}
	return b.Addr
}

// constant is read-only memory of the assembly.
type constant struct {
	at     operand.Mem
	dwords []uint32
}

// data is read-only memory with the dwords, emitted once for each name.
func data(name string, dwords ...uint32) operand.Mem {
	if m, ok := emitted[name]; ok {
		if !slices.Equal(m.dwords, dwords) {
			log.Fatalf("two constants are called %s", name)
		}
		return m.at
	}
	m := c.StaticGlobal(name)
	c.DataAttributes(attr.RODATA | attr.NOPTR)
	for _, v := range dwords {
		c.AppendDatum(operand.U32(v))
	}
	emitted[name] = constant{m, dwords}
	return m
}

// f32 is read-only memory with a float32.
func f32(name string, v float32) operand.Mem { return data(name, math.Float32bits(v)) }

// leave ends the function.
func leave() {
	c.VZEROUPPER()
	c.RET()
}

// at is the memory disp bytes after base.
func at(base reg.Register, disp int) operand.Mem { return operand.Mem{Base: base, Disp: disp} }

// rows addresses the rows of a group: a base for each four, and steps of up to
// three rows from it.
type rows struct {
	base       []reg.GPVirtual
	row, three reg.GPVirtual
}

func newRows(w, row reg.GPVirtual, n int) *rows {
	r := &rows{base: []reg.GPVirtual{w}, row: row, three: c.GP64()}
	for i := 4; i < n; i += 4 {
		r.base = append(r.base, c.GP64())
	}
	c.LEAQ(operand.Mem{Base: row, Index: row, Scale: 2}, r.three)
	r.spread()
	return r
}

// spread sets the other bases from the first.
func (r *rows) spread() {
	for i := 1; i < len(r.base); i++ {
		c.LEAQ(operand.Mem{Base: r.base[i-1], Index: r.row, Scale: 4}, r.base[i])
	}
}

// advance moves on by n bytes, to the next block.
func (r *rows) advance(n int) {
	for _, b := range r.base {
		c.ADDQ(operand.I32(n), b)
	}
}

// nextGroup moves on from the end of a group's rows to the next group: the end
// of the last four's first row is the start of the second, three rows before.
func (r *rows) nextGroup() {
	c.LEAQ(operand.Mem{Base: r.base[len(r.base)-1], Index: r.three, Scale: 1}, r.base[0])
	r.spread()
}

// at is the memory off bytes into the current block of row i.
func (r *rows) at(i, off int) operand.Mem {
	m := operand.Mem{Base: r.base[i/4], Disp: off}
	switch i % 4 {
	case 1:
		m.Index, m.Scale = r.row, 1
	case 2:
		m.Index, m.Scale = r.row, 2
	case 3:
		m.Index, m.Scale = r.three, 1
	}
	return m
}

// prefetcher runs through memory at two distances ahead of the rows: first
// into the outer caches, then into the first.
type prefetcher struct{ far, near reg.GPVirtual }

func newPrefetcher(o operands, w reg.GPVirtual) prefetcher {
	p := prefetcher{o.load("far"), o.load("near")}
	c.ADDQ(w, p.far)
	return p
}

// fetch asks for the lines of the next n bytes.
func (p prefetcher) fetch(n int) {
	for i := 0; i < n; i += 64 {
		c.PREFETCHT1(at(p.far, i))
		c.PREFETCHT0(operand.Mem{Base: p.far, Index: p.near, Scale: 1, Disp: i})
	}
	c.ADDQ(operand.I32(n), p.far)
}

const (
	q80Bytes   = 34
	q41Bytes   = 20
	panelBytes = 640
	panelD     = 512 // where a panel block has its scales
	panelM     = 576 // and its offsets
)

// Command _asm writes the assembly of package kernel and its declarations.
//
// The output depends on nothing but this module and ../args_amd64.go, whatever
// machine it runs on.
package main

import (
	"log"
	"os"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/pass"
	"github.com/mmcloughlin/avo/printer"
)

var (
	c       *build.Context // what the functions being generated are added to
	emitted map[string]constant
)

func main() {
	log.SetFlags(0)
	write("avx2", avx2)
	write("avx512", avx512)
}

// write generates one instruction set's files.
func write(set string, generate func()) {
	c, emitted = build.NewContext(), make(map[string]constant)
	c.ConstraintExpr("!purego")
	generate()
	f, err := c.Result()
	if err != nil {
		build.LogError(log.Default(), err, 0)
		os.Exit(1)
	}
	if err := pass.Compile.Execute(f); err != nil {
		log.Fatalf("%s: %v", set, err)
	}
	conf := printer.Config{Name: "_asm", Argv: []string{"go", "generate"}, Pkg: "kernel"}
	for name, p := range map[string]printer.Printer{
		"../" + set + "_amd64.s":       printer.NewGoAsm(conf),
		"../" + set + "_decl_amd64.go": printer.NewStubs(conf),
	} {
		text, err := p.Print(f)
		if err != nil {
			log.Fatal(err)
		}
		if err := os.WriteFile(name, text, 0o644); err != nil {
			log.Fatal(err)
		}
	}
}

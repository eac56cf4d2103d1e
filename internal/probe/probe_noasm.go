//go:build !amd64 || purego

package probe

const chainOps = 1

var (
	chain func(n int)
	read  func(p *byte, n int)
)

func int8Kind() *kind    { return nil }
func floatKind() *kind   { return nil }
func thisDesign() design { return "" }

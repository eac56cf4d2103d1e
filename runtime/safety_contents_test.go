package runtime_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/tensor"
)

// Files whose structure is right and whose contents are not: vocabularies,
// templates, weights.

func badVocabularies() []badFile {
	many := func(n int, text func(int) string) []string {
		out := make([]string, n)
		for i := range out {
			out[i] = text(i)
		}
		return out
	}
	number := func(i int) string { return fmt.Sprint("t", i) }
	types := func(n int, typ int32) []int32 { return slices.Repeat([]int32{typ}, n) }
	all := []badFile{{name: "no vocabulary", data: testmodel.Llama(small(testmodel.Config{NoVocab: true})), codes: invalid}}
	for _, c := range []struct {
		name string
		keys map[string]any
		bad  bool // it can't be loaded
	}{
		{"no tokens", map[string]any{"tokens": []string{}, "token_type": []int32{}, "merges": []string{}}, true},
		{"one token", map[string]any{"tokens": []string{"a"}, "token_type": []int32{1}, "merges": []string{}}, true},
		{"more tokens than rows", map[string]any{"tokens": many(273, number), "token_type": types(273, 1), "merges": []string{}}, true},
		{"far more tokens than rows", map[string]any{"tokens": many(50000, number), "token_type": types(50000, 1), "merges": []string{}}, true},
		{"fewer tokens than rows", map[string]any{"tokens": many(100, number), "token_type": types(100, 1), "merges": []string{}}, false},
		{"the same token everywhere", map[string]any{"tokens": many(272, func(int) string { return "x" }), "merges": []string{}}, false},
		{"empty tokens", map[string]any{"tokens": many(272, func(int) string { return "" }), "merges": []string{}}, false},
		{"tokens that are not UTF-8", map[string]any{"tokens": many(272, func(i int) string { return string([]byte{0xff, byte(i)}) }), "merges": []string{}}, false},
		{"long tokens", map[string]any{"tokens": many(272, func(i int) string { return strings.Repeat("ab", 5000+i) }), "merges": []string{}}, false},
		{"all control tokens", map[string]any{"token_type": types(272, 3), "merges": []string{}}, false},
		{"all unused tokens", map[string]any{"token_type": types(272, 5), "merges": []string{}}, false},
		{"all user-defined tokens", map[string]any{"token_type": types(272, 4), "merges": []string{}}, false},
		{"too few token types", map[string]any{"token_type": types(271, 1)}, true},
		{"too many token types", map[string]any{"token_type": types(273, 1)}, true},
		{"token types that don't exist", map[string]any{"token_type": types(272, 7)}, true},
		{"negative token types", map[string]any{"token_type": types(272, -1)}, true},
		{"merges of unknown tokens", map[string]any{"merges": []string{"q z", "zz qq"}}, false},
		{"merges without a space", map[string]any{"merges": []string{"he"}}, false},
		{"merges with many spaces", map[string]any{"merges": []string{"h e l", " ", "  ", "h ", " e"}}, false},
		{"empty merges", map[string]any{"merges": []string{""}}, false},
		{"one merge many times", map[string]any{"merges": many(50000, func(int) string { return "h e" })}, false},
		{"BOS beyond the end", map[string]any{"bos_token_id": uint32(272)}, true},
		{"EOS beyond the end", map[string]any{"eos_token_id": uint32(math.MaxUint32)}, true},
		{"EOS far beyond the end", map[string]any{"eos_token_id": uint64(math.MaxUint64)}, true},
		{"a BOS to add that isn't there", map[string]any{"bos_token_id": "none", "add_bos_token": true}, true},
		{"an algorithm that doesn't exist", map[string]any{"model": "wordsmith"}, true},
		{"a pre-tokenizer that doesn't exist", map[string]any{"pre": "scissors"}, true},
		{"no algorithm", map[string]any{"model": ""}, true},
	} {
		keys := map[string]any{}
		for k, v := range c.keys {
			keys["tokenizer.ggml."+k] = v
		}
		f := badFile{name: c.name, data: testmodel.Llama(small(testmodel.Config{Keys: keys}))}
		if c.bad {
			f.codes = refused
		}
		all = append(all, f)
	}
	return all
}

// badTemplates are loaded: only requests with messages may fail.
func badTemplates() []badFile {
	deep := func(open, inner, shut string, n int) string {
		return strings.Repeat(open, n) + inner + strings.Repeat(shut, n)
	}
	var all []badFile
	for name, src := range map[string]string{
		"empty":                       " ",
		"syntax":                      "{% for m in messages %}",
		"unknown statement":           "{% explode now %}",
		"unknown filter":              "{{ messages | explode }}",
		"undefined":                   "{{ nothing.at.all }}",
		"raises":                      "{{ raise_exception('no') }}",
		"long loop":                   "{% for i in range(1000000000) %}x{% endfor %}",
		"loop in loop":                "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
		"recursion":                   "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
		"mutual recursion":            "{% macro f(x) %}{{ g(x) }}{% endmacro %}{% macro g(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
		"huge output":                 "{% for i in range(100000) %}{{ 'x' * 100000 }}{% endfor %}",
		"huge text in a loop":         "{% for i in range(100000) %}" + strings.Repeat("x", 10000) + "{% endfor %}",
		"raises lines":                "{{ raise_exception('a\nb\r' * 1000) }}",
		"raises control characters":   "{{ raise_exception('\x1b[2J\x00\u2028') }}",
		"names of many lines":         "{{ messages['a\nb' * 100] }}{{ messages[0].content.split('\n' * 1000, 'x', 'y', 'z') }}",
		"huge string":                 "{{ 'x' * 100000000000 }}",
		"doubling":                    "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
		"huge list":                   "{{ ([1] * 1000000000) | length }}",
		"huge number":                 "{{ 9 ** 9 ** 9 ** 9 }}",
		"huge width":                  "{{ '%999999999d' % 1 }}",
		"huge indent":                 "{{ 'a\nb' | indent(1000000000) }}",
		"deep brackets":               deep("{{ ", deep("(", "1", ")", 100000), " }}", 1),
		"deep lists":                  deep("{{ ", deep("[", "1", "]", 100000), " }}", 1),
		"deep blocks":                 deep("{% if true %}", "x", "{% endif %}", 30000),
		"deep nots":                   "{{ " + strings.Repeat("not ", 100000) + "1 }}",
		"long chain":                  "{{ 1" + strings.Repeat(" + 1", 200000) + " }}",
		"many statements":             strings.Repeat("{{1}}", 200000),
		"larger than is read":         strings.Repeat("{{1}}", 1<<20),
		"not UTF-8":                   "\xff\xfe{{ messages[0].content }}",
		"zeros":                       "\x00{{ messages[0]['content'] }}\x00",
		"the prompt, far too often":   "{% for i in range(3000) %}{{ messages[0]['content'] }}{% endfor %}",
		"a list that contains itself": "{% set a = [] %}{% set _ = a.append(a) %}{{ a }}{{ a | tojson }}{{ a == a }}",
	} {
		all = append(all, badFile{name: "template: " + name, data: testmodel.Llama(small(testmodel.Config{Template: src})), messages: true})
	}
	slices.SortFunc(all, func(a, b badFile) int { return strings.Compare(a.name, b.name) })
	return all
}

// badWeights puts a NaN or an infinity into one number of each tensor, in the
// row of a token that all requests have where it is the embedding: no answer
// may be made of that.
func badWeights() []badFile {
	var all []badFile
	for _, typ := range []tensor.DType{tensor.F32, tensor.F16, tensor.Q8_0, tensor.Q4_1} {
		for name, bits := range map[string]struct {
			f32 uint32
			f16 uint16
		}{
			"NaN": {0x7fc00000, 0x7e00}, "+Inf": {0x7f800000, 0x7c00}, "-Inf": {0xff800000, 0xfc00}, "signalling NaN": {0x7f800001, 0x7c01},
		} {
			c := small(testmodel.Config{Untied: true, Weights: typ, HeadType: typ, Seed: 2})
			files := eachTensor(c, func(t *testmodel.Tensor) {
				rows := []uint64{0}
				if t.Name == "token_embd.weight" {
					rows = []uint64{testmodel.IMStart, 0, testmodel.FirstByte + 256 + 3} // "hello" is the fourth merge
				}
				for _, row := range rows {
					poison(t, row, bits.f32, bits.f16)
				}
			})
			for _, f := range files {
				f.name = fmt.Sprintf("%s in %s of %v", name, f.name, typ)
				f.gen = numerics
				all = append(all, f)
			}
		}
	}
	slices.SortFunc(all, func(a, b badFile) int { return strings.Compare(a.name, b.name) })
	return all
}

// poison sets the first number of a row, or the scale of its first block.
func poison(t *testmodel.Tensor, row uint64, f32 uint32, f16 uint16) {
	at := int(row) * t.Type.RowBytes(int(t.Shape[0]))
	if t.Type == tensor.F32 {
		binary.LittleEndian.PutUint32(t.Data[at:], f32)
		return
	}
	binary.LittleEndian.PutUint16(t.Data[at:], f16)
}

package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
)

// object is a part of a tokenizer.json.
type object = map[string]any

// with is o with other fields.
func with(o object, fields object) object {
	c := object{}
	for _, from := range []object{o, fields} {
		for k, v := range from {
			c[k] = v
		}
	}
	return c
}

// TestJSONOptions: what changes ids is done as Hugging Face's tokenizers 0.23 do
// it, or refused. The ids are theirs.
func TestJSONOptions(t *testing.T) {
	vocab := object{"<unk>": 0, "▁": 1, "a": 2, "b": 3, "▁▁": 4, "▁a": 5, "ab": 6}
	bytes := with(vocab, nil)
	for c := range 256 {
		bytes[fmt.Sprintf("<0x%02X>", c)] = 7 + c
	}
	bpe := object{"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "vocab": vocab, "merges": []string{"▁ ▁", "▁ a", "a b"}}
	spaces := object{"type": "Replace", "pattern": object{"String": " "}, "content": "▁"}
	prefix := object{"type": "Sequence", "normalizers": []object{{"type": "Prepend", "prepend": "▁"}, spaces}}
	meta := object{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}
	level := object{"type": "ByteLevel", "add_prefix_space": false}
	added := func(id int, text string) []object {
		return []object{{"id": id, "content": text, "normalized": true}}
	}
	ends := func(single []object, ids ...int) object {
		return object{"type": "TemplateProcessing", "single": single, "special_tokens": object{"a": object{"id": "a", "ids": ids}}}
	}
	first, rest := object{"SpecialToken": object{"id": "a"}}, object{"Sequence": object{"id": "A"}}
	removed := func(pattern string) object {
		return object{"type": "Sequence", "pretokenizers": []object{
			{"type": "Split", "pattern": object{"Regex": pattern}, "behavior": "Removed", "invert": true}, with(level, object{"use_regex": false}),
		}}
	}
	for name, c := range map[string]struct {
		file object
		text string
		ids  []ID // nil: refused
	}{
		"unknown ones fused":       {object{"model": bpe, "normalizer": spaces}, "axyzb", []ID{2, 0, 3}},
		"each unknown one":         {object{"model": with(bpe, object{"fuse_unk": false}), "normalizer": spaces}, "axyzb", nil}, // 2 0 0 0 3
		"bytes":                    {object{"model": with(bpe, object{"vocab": bytes, "byte_fallback": true, "fuse_unk": false}), "normalizer": spaces}, "axb", []ID{2, 127, 3}},
		"some bytes":               {object{"model": with(bpe, object{"vocab": with(vocab, object{"<0x78>": 7}), "byte_fallback": true}), "normalizer": spaces}, "axyb", nil}, // 2 7 0 3
		"whole":                    {object{"model": with(bpe, object{"vocab": with(vocab, object{"ba": 7}), "ignore_merges": true}), "normalizer": spaces}, "ba", nil},       // 7
		"split at spaces":          {object{"model": bpe, "pre_tokenizer": meta}, "a  a", nil},                                                                                // 5 1 5
		"not split at spaces":      {object{"model": bpe, "pre_tokenizer": with(meta, object{"split": false})}, "a  a", []ID{5, 4, 2}},
		"prefixed added token":     {object{"model": bpe, "normalizer": prefix, "added_tokens": added(7, "<x>")}, "a<x>b <x>", nil}, // 5 0 0 0 3 7
		"added token of a space":   {object{"model": bpe, "normalizer": spaces, "added_tokens": added(4, "▁▁")}, "a  b", nil},       // 2 4 3
		"normalized added token":   {object{"model": bpe, "normalizer": spaces, "added_tokens": added(7, "<x>")}, "a<x>b <x>", []ID{2, 7, 3, 1, 7}},
		"decomposed added token":   {object{"model": bpe, "normalizer": object{"type": "NFC"}, "pre_tokenizer": level, "added_tokens": added(7, "e\u0301")}, "\u00e9", nil}, // 7
		"byte without a token":     {object{"model": bpe, "pre_tokenizer": level}, "aczb", nil},                                                                             // 2 0 0 3
		"and without unknown":      {object{"model": with(bpe, object{"unk_token": nil}), "pre_tokenizer": level}, "aczb", []ID{6}},
		"template":                 {object{"model": bpe, "normalizer": spaces, "post_processor": ends([]object{first, rest}, 2)}, "ab", []ID{2, 6}},
		"template of several":      {object{"model": bpe, "normalizer": spaces, "post_processor": ends([]object{first, rest}, 2, 3)}, "ab", nil}, // 2 3 6
		"template of another":      {object{"model": bpe, "normalizer": spaces, "post_processor": ends([]object{first, rest}, 3)}, "ab", []ID{3, 6}},
		"template with text twice": {object{"model": bpe, "normalizer": spaces, "post_processor": ends([]object{first, rest, rest}, 2)}, "ab", nil}, // 2 6 6
		"pattern without numbers": {object{
			"model": with(bpe, object{"unk_token": nil, "vocab": object{"a": 0, "1": 1}, "merges": []string{}}), "pre_tokenizer": removed(`\p{L}+|[^\s\p{L}\p{N}]+|\s+`),
		}, "a1a", nil}, // 0 0
		"pattern of all": {object{
			"model": with(bpe, object{"unk_token": nil, "vocab": object{"a": 0, "1": 1}, "merges": []string{}}), "pre_tokenizer": removed(`\p{L}+|[^\s\p{L}]?\p{N}{1,3}|[^\s\p{L}\p{N}]+|\s+`),
		}, "a1a", []ID{0, 1, 0}},
	} {
		data, err := json.Marshal(c.file)
		if err != nil {
			t.Fatal(err)
		}
		tok, err := jsonTokenizer(data)
		if c.ids == nil {
			if !errors.Is(err, ErrUnsupported) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := tok.Encode(t.Context(), nil, c.text, EncodeOptions{AddSpecial: true, ParseSpecial: true})
		if err != nil || !slices.Equal(got, c.ids) {
			t.Errorf("%s: %q is %v, must be %v: %v", name, c.text, got, c.ids, err)
		}
	}
}

package tokenizer

import (
	"errors"
	goruntime "runtime"
	"strings"
	"testing"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// TestJSONPrice: what reading a file allocates, at most, is charged before,
// whatever small things the file is made of.
func TestJSONPrice(t *testing.T) {
	many := func(s string) string { return s + strings.Repeat(","+s, 1<<19/len(s)) }
	bpe := `"model":{"type":"BPE","vocab":{"a":0},"merges":[]}`
	for name, file := range map[string]string{
		"normalizers":     `{"normalizer":{"type":"Sequence","normalizers":[` + many(`0`) + `]},` + bpe + `}`,
		"pre-tokenizers":  `{"pre_tokenizer":{"type":"Sequence","pretokenizers":[` + many(`{}`) + `]},` + bpe + `}`,
		"processors":      `{"post_processor":{"type":"Sequence","processors":[` + many(`null`) + `]},` + bpe + `}`,
		"cls":             `{"post_processor":{"type":"BertProcessing","cls":[` + many(`{"a":0}`) + `]},` + bpe + `}`,
		"deep cls":        `{"post_processor":{"type":"BertProcessing","cls":[[` + many(`[]`) + `]]},` + bpe + `}`,
		"single":          `{"post_processor":{"type":"TemplateProcessing","single":[` + many(`{}`) + `]},` + bpe + `}`,
		"added tokens":    `{"added_tokens":[` + many(`{}`) + `],` + bpe + `}`,
		"no added tokens": `{"added_tokens":[` + many(`0`) + `],` + bpe + `}`,
		"merges":          `{"model":{"type":"BPE","vocab":{"a":0},"merges":[` + many(`""`) + `]}}`,
		"a long merge":    `{"model":{"type":"BPE","vocab":{"a":0},"merges":[[` + many(`""`) + `]]}}`,
		"rows":            `{"model":{"type":"Unigram","vocab":[` + many(`[]`) + `]}}`,
		"rows of maps":    `{"model":{"type":"Unigram","vocab":[` + many(`[{"":0},{"":0}]`) + `]}}`,
		"a long row":      `{"model":{"type":"Unigram","vocab":[["a",[` + many(`{}`) + `]]]}}`,
		"deep": `{"pre_tokenizer":` + strings.Repeat(`{"type":"Sequence","pretokenizers":[`, 3000) + many(`{}`) +
			strings.Repeat(`]}`, 3000) + `,` + bpe + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			lease := budget.New(1 << 30).Lease()
			defer lease.Close()
			var before, after goruntime.MemStats
			goruntime.ReadMemStats(&before)
			_, err := FromJSON([]byte(file), lease)
			goruntime.ReadMemStats(&after)
			// Lists that grow leave garbage, so that less than half of it is in use.
			if took := int64(after.TotalAlloc-before.TotalAlloc) / 2; took > lease.Held() {
				t.Errorf("%d bytes of a file of %d are charged, %d were allocated (%v)", lease.Held(), len(file), took, err)
			}
		})
	}
}

// TestJSONStages: a file can't bring any number of patterns.
func TestJSONStages(t *testing.T) {
	split := `{"type":"Split","pattern":{"Regex":"a+"},"behavior":"Isolated","invert":false}`
	_, err := jsonTokenizer([]byte(`{"pre_tokenizer":{"type":"Sequence","pretokenizers":[` + strings.Repeat(split+",", 100) +
		`{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]},"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}`))
	if !errors.Is(err, ErrUnsupported) {
		t.Errorf("100 patterns: %v", err)
	}
}

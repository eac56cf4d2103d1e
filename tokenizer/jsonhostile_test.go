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
	for name, file := range pricedJSON(1 << 19) {
		t.Run(name, func(t *testing.T) {
			lease := budget.New(1 << 30).Lease()
			defer lease.Close()
			data := []byte(file)
			checkReadingPriced(t, lease, func() { _, _ = FromJSON(data, lease) })
		})
	}
}

// checkReadingPriced runs f, which reads a file, and holds what it allocates to what
// it reserves. Lists that grow leave garbage, so that less than half of it is in use.
func checkReadingPriced(t *testing.T, lease *budget.Lease, f func()) {
	t.Helper()
	if took := allocated(f) / 2; took > lease.Held()+pricedSlack {
		t.Errorf("%d bytes are charged, %d were allocated", lease.Held(), took)
	}
}

// pricedSlack is what may be allocated beside what is charged: tables of one size,
// an error.
const pricedSlack = 18 << 10

// allocated is how many bytes f takes from the heap, freed or not.
func allocated(f func()) int64 {
	var before, after goruntime.MemStats
	goruntime.ReadMemStats(&before)
	f()
	goruntime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

// pricedJSON are files of about size bytes of one small thing each.
func pricedJSON(size int) map[string]string {
	many := func(s string) string { return s + strings.Repeat(","+s, size/len(s)) }
	bpe := `"model":{"type":"BPE","vocab":{"a":0},"merges":[]}`
	return map[string]string{
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
		// JSON makes three bytes of each.
		"not UTF-8": `{"model":{"type":"BPE","v` + strings.Repeat("\xff", size) + `":{},"vocab":{"a":0},"merges":[]}}`,
		"deep": `{"pre_tokenizer":` + strings.Repeat(`{"type":"Sequence","pretokenizers":[`, size/175) + many(`{}`) +
			strings.Repeat(`]}`, size/175) + `,` + bpe + `}`,
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

package tokenizer

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// jsonTokenizer makes a tokenizer of a tokenizer.json.
func jsonTokenizer(data []byte) (*Tokenizer, error) {
	v, err := FromJSON(data, budget.New(1<<30).Lease())
	if err != nil {
		return nil, err
	}
	return FromVocab(v, budget.New(1<<30).Lease())
}

// TestJSON compares with Hugging Face's tokenizers on files that they wrote.
func TestJSON(t *testing.T) {
	dirs := []string{"testdata/json"}
	if dir := os.Getenv("DUNLIN_TEST_VOCABS"); dir != "" {
		dirs = append(dirs, filepath.Join(dir, "json"))
	}
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*.ids.json"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			name, _, _ := strings.Cut(filepath.Base(path), ".")
			t.Run(name, func(t *testing.T) {
				tok, err := jsonTokenizer(readGzip(t, filepath.Join(dir, name+".tokenizer.json.gz")))
				if err != nil {
					t.Fatal(err)
				}
				var file struct {
					Cases []struct {
						Text          string
						Special, Ends bool
						IDs           []ID
					}
				}
				data, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := json.Unmarshal(data, &file); err != nil {
					t.Fatal(err)
				}
				failed := 0
				for _, c := range file.Cases {
					got, err := tok.Encode(t.Context(), nil, c.Text, EncodeOptions{ParseSpecial: c.Special, AddSpecial: c.Ends})
					if err != nil {
						t.Fatal(err)
					}
					if !slices.Equal(got, c.IDs) {
						t.Errorf("%q: (-want +have)\n%s", c.Text, cmp.Diff(c.IDs, got))
						if failed++; failed > 3 {
							t.Fatal("and more")
						}
					}
				}
				t.Logf("%d cases", len(file.Cases))
			})
		}
	}
}

// TestJSONRefused: what can't be brought to an algorithm here is refused by name,
// and a damaged file is an error.
func TestJSONRefused(t *testing.T) {
	for _, tt := range refusedJSON() {
		if _, err := jsonTokenizer([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.says) ||
			!errors.Is(err, ErrUnsupported) && !errors.Is(err, ErrVocabulary) {
			t.Errorf("%s: %v, want it to say %s", tt.text, err, tt.says)
		}
	}
}

func refusedJSON() []struct{ text, says string } {
	bpe := `"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}`
	level := `"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false}`
	return []struct{ text, says string }{
		{`{`, "malformed"},
		{"{\"\xff\":0," + bpe + "," + level + "}", "UTF-8"},
		{`{}`, "malformed"},
		{`{"model":{"type":"WordLevel","vocab":{}}}`, `"WordLevel"`},
		{`{` + bpe + `}`, "neither bytes nor spaces"},
		{`{` + bpe + `,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":true}}`, `"ByteLevel"`},
		{`{` + bpe + `,"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"a"},"behavior":"MergedWithNext"},{"type":"ByteLevel"}]}}`, `"Split"`},
		{`{` + bpe + `,"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"a(?<=b)"},"behavior":"Isolated"},{"type":"ByteLevel"}]}}`, "(?<="},
		{`{` + bpe + `,` + level + `,"normalizer":{"type":"NFKC"}}`, `"NFKC"`},
		{`{` + bpe + `,` + level + `,"post_processor":{"type":"Odd"}}`, `"Odd"`},
		{`{` + bpe + `,` + level + `,"added_tokens":[{"id":3,"content":"x","lstrip":true}]}`, "lstrip"},
		{`{` + bpe + `,` + level + `,"added_tokens":[{"id":7,"content":"x"}]}`, "the id 7"},
		{`{` + bpe + `,` + level + `,"added_tokens":[{"id":-1,"content":"x"}]}`, "the id -1"},
		{`{` + bpe + `,` + level + `,"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x"}}]}}`, `"x"`},
		{`{"model":{"type":"BPE","vocab":{"a":0,"b":0},"merges":[]},` + level + `}`, "the id 0"},
		{`{"model":{"type":"BPE","vocab":{"a":5},"merges":[]},` + level + `}`, "the id 5"},
		{`{"model":{"type":"BPE","vocab":{"a":0},"merges":[],"dropout":0.1},` + level + `}`, "dropout"},
		{`{"model":{"type":"BPE","vocab":{"a":0},"merges":["a x"]},` + level + `}`, `"a x"`},
		{`{"model":{"type":"BPE","vocab":{"a":0},"merges":[],"unk_token":"?"},` + level + `}`, `"?"`},
		{`{"model":{"type":"Unigram","vocab":[["a"]]}}`, "malformed"},
		{`{"model":{"type":"Unigram","vocab":[["a",1]],"unk_id":4}}`, "4 of 1"},
		{`{"model":{"type":"WordPiece","vocab":{"a":0}}}`, "BertNormalizer"},
	}
}

func TestJSONBudget(t *testing.T) {
	data := readGzip(t, "testdata/json/gpt2.tokenizer.json.gz")
	if _, err := FromJSON(data, budget.New(int64(len(data))).Lease()); !errors.Is(err, budget.ErrExceeded) {
		t.Error(err)
	}
}

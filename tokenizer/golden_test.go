package tokenizer

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// vocabDirs are where vocabularies and cases lie: testdata, and a folder of
// further ones in the same form, such as long random cases.
func vocabDirs() []string {
	dirs := []string{"testdata"}
	if dir := os.Getenv("DUNLIN_TEST_VOCABS"); dir != "" {
		dirs = append(dirs, dir)
	}
	return dirs
}

type list[T any] []T

func (l list[T]) Len() int   { return len(l) }
func (l list[T]) At(i int) T { return l[i] }

func readGzip(t testing.TB, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// readVocab reads a vocabulary in the form that testdata/README.md describes.
func readVocab(t testing.TB, path string) *Vocab {
	t.Helper()
	var file struct {
		Model, Pre string
		Tokens     []string
		First      int
		Lefts      []int
		Types      map[string]int64
		BOS, EOS   ID

		Scores       list[float64]
		Unknown      *ID
		CLS, SEP     *ID
		Charsmap     string
		SpacePrefix  *bool `json:"add_space_prefix"`
		RemoveSpaces *bool `json:"remove_extra_whitespaces"`
	}
	file.BOS, file.EOS = None, None
	if err := json.Unmarshal(readGzip(t, path), &file); err != nil {
		t.Fatal(err)
	}
	types := make([]int64, len(file.Tokens))
	for i := range types {
		types[i] = int64(Normal)
		if k, ok := file.Types[strconv.Itoa(i)]; ok {
			types[i] = k
		}
	}
	merges := make([]string, len(file.Lefts))
	for i, n := range file.Lefts {
		token := []rune(file.Tokens[file.First+i])
		merges[i] = string(token[:n]) + " " + string(token[n:])
	}
	id := func(p *ID) ID {
		if p == nil {
			return None
		}
		return *p
	}
	v := &Vocab{
		Model: file.Model, Pre: file.Pre,
		Tokens: list[string](file.Tokens), Types: list[int64](types), Merges: list[string](merges),
		BOS: file.BOS, EOS: file.EOS, EOT: None, EOM: None,
		Unknown: id(file.Unknown), CLS: id(file.CLS), SEP: id(file.SEP), Pad: None, Mask: None,
		AddSpacePrefix: file.SpacePrefix, RemoveExtraSpaces: file.RemoveSpaces,
	}
	if file.Scores != nil {
		v.Scores = file.Scores
	}
	if file.Charsmap != "" {
		v.Charsmap = byteList(readGzip(t, filepath.Join(filepath.Dir(path), file.Charsmap)))
	}
	return v
}

// byteList is a list of bytes as GGUF has it, where they may have a sign.
func byteList(b []byte) list[int64] {
	l := make(list[int64], len(b))
	for i, c := range b {
		l[i] = int64(int8(c))
	}
	return l
}

func newTokenizer(t testing.TB, v *Vocab) *Tokenizer {
	t.Helper()
	lease := budget.New(1 << 30).Lease()
	t.Cleanup(lease.Close)
	tok, err := FromVocab(v, lease)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

type textCase struct {
	Text    string
	Special bool
	IDs     []ID
}

// TestGolden compares with the ids of Hugging Face's tokenizers. A file of
// cases is named after its vocabulary, up to the first dot.
func TestGolden(t *testing.T) {
	for _, dir := range vocabDirs() {
		files, err := filepath.Glob(filepath.Join(dir, "*.cases.json"))
		if err != nil {
			t.Fatal(err)
		}
		if len(files) == 0 {
			t.Errorf("no cases in %s", dir)
		}
		for _, path := range files {
			base := filepath.Base(path)
			t.Run(strings.TrimSuffix(base, ".cases.json"), func(t *testing.T) {
				name, _, _ := strings.Cut(base, ".")
				testCases(t, path, filepath.Join(dir, name+".vocab.json.gz"))
			})
		}
	}
}

func testCases(t *testing.T, path, vocab string) {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Pre   string
		Cases []textCase
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	v := readVocab(t, vocab)
	if file.Pre != "" {
		v.Pre = file.Pre
	}
	tok := newTokenizer(t, v)
	failed := 0
	for _, c := range file.Cases {
		got, err := tok.Encode(t.Context(), nil, c.Text, EncodeOptions{ParseSpecial: c.Special})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(c.IDs, got) {
			t.Errorf("%q, special %v: (-want +have)\n%s", c.Text, c.Special, cmp.Diff(c.IDs, got))
			failed++
		}
		back := tok.Decode(nil, got, DecodeOptions{Special: true})
		if tok.Lossless() && string(back) != c.Text {
			t.Errorf("%q decodes to %q", c.Text, back)
			failed++
		}
		if failed > 10 {
			t.Fatal("and more")
		}
	}
	t.Logf("%d cases", len(file.Cases))
}

package tokenizer

import (
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"github.com/dunlin-go/dunlin/internal/budget"
)

// FuzzFromJSON: any file is a tokenizer that encodes, or a typed error, for
// memory that was reserved.
func FuzzFromJSON(f *testing.F) {
	files, _ := filepath.Glob("testdata/json/*.tokenizer.json.gz")
	for _, path := range files {
		data := readGzip(f, path)
		f.Add(data)
		_, _ = jsonTokenizer(data) // package json makes tables of its types once
	}
	for _, file := range refusedJSON() {
		f.Add([]byte(file.text))
	}
	for _, size := range []int{3000, 5000, 4 * maxComponentItems * 99 / 100} { // some are refused for their items, some not
		hostile := pricedJSON(size)
		for _, name := range slices.Sorted(maps.Keys(hostile)) {
			f.Add([]byte(hostile[name]))
		}
	}
	compileRules()
	f.Fuzz(func(t *testing.T, data []byte) {
		reading, keeping := budget.New(1<<30).Lease(), budget.New(1<<30).Lease()
		defer reading.Close()
		defer keeping.Close()
		var v *Vocab
		var tok *Tokenizer
		var err error
		checkReadingPriced(t, reading, func() { v, err = FromJSON(data, reading) })
		if err == nil {
			tok, err = makePriced(t, v, keeping)
		}
		if err != nil {
			if !errors.Is(err, ErrUnsupported) && !errors.Is(err, ErrVocabulary) {
				t.Fatal(err)
			}
			return
		}
		ids := encodeBounded(t, tok, "It's 1234 \u00e9\u4f60 <s>\xff", EncodeOptions{AddSpecial: true, ParseSpecial: true})
		_ = tok.Decode(nil, ids, DecodeOptions{Special: true})
	})
}

// makePriced makes a tokenizer and holds what that allocates to what it reserves,
// give or take the allocator's size classes and pages, and the programs of the
// patterns that the file brings, which constants bound.
func makePriced(t *testing.T, v *Vocab, lease *budget.Lease) (*Tokenizer, error) {
	t.Helper()
	var programs int64
	if v.Rule != nil {
		programs = allocated(func() { _, _ = v.Rule.compile() })
	}
	var tok *Tokenizer
	var err error
	took := allocated(func() { tok, err = FromVocab(v, lease) })
	if held := lease.Held(); took > held+held/4+programs+pricedSlack && !raceEnabled {
		t.Errorf("%d bytes are charged, %d were allocated, %d for patterns (%v)", held, took, programs, err)
	}
	return tok, err
}

// compileRules makes the rules that are made when they are first needed.
func compileRules() {
	for _, compile := range preTokenizers() {
		_, _ = compile()
	}
}

// encodeBounded encodes a text that is shorter than what is priced, and holds
// what that allocates to the length of the text.
func encodeBounded(t *testing.T, tok *Tokenizer, text string, opt EncodeOptions) []ID {
	t.Helper()
	var ids []ID
	var err error
	took := allocated(func() { ids, err = tok.Encode(t.Context(), nil, text, opt) })
	if err != nil {
		t.Fatal(err)
	}
	if most := 2*pieceBytes*int64(len(text)) + pricedSlack; took > most && len(text) < freePiece && !raceEnabled {
		t.Errorf("encoding %d bytes allocated %d, want at most %d", len(text), took, most)
	}
	return ids
}

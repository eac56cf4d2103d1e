package tokenizer_test

import (
	"context"
	"fmt"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/tokenizer"
)

type texts []string

func (t texts) Len() int        { return len(t) }
func (t texts) At(i int) string { return t[i] }

func Example() {
	lease := budget.New(1 << 20).Lease()
	defer lease.Close()
	tok, err := tokenizer.FromVocab(&tokenizer.Vocab{
		Model:  "gpt2",
		Pre:    "gpt-2",
		Tokens: texts{"h", "e", "l", "o", "Ġ", "he", "ll", "hell", "hello", "Ġhello"},
		Merges: texts{"h e", "l l", "he ll", "hell o", "Ġ hello"},
		BOS:    tokenizer.None, EOS: tokenizer.None, EOT: tokenizer.None, EOM: tokenizer.None,
	}, lease)
	if err != nil {
		fmt.Println(err)
		return
	}
	ids, err := tok.Encode(context.Background(), nil, "hello hell hello", tokenizer.EncodeOptions{Limit: 8})
	fmt.Println(ids, err)

	stream := tok.Stream(tokenizer.DecodeOptions{})
	for _, id := range ids {
		fmt.Printf("%q ", stream.Add(nil, id))
	}
	fmt.Printf("%q\n", stream.Flush(nil))
	// Output:
	// [8 4 7 9] <nil>
	// "hello" " " "hell" " hello" ""
}

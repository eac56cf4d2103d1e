package tensor

import "github.com/dunlin-go/dunlin/tensor/internal/kernel"

// Batch is one step's work: the tokens of several sequences, one sequence
// after the other, prefill chunks and single decode tokens alike (a ragged
// batch). All slices but Tables and Logits have one entry for each token.
type Batch struct {
	Tokens    []int32     // ids
	Positions []int32     // place in its sequence, from 0
	Seqs      []int32     // index into Tables
	Tables    []PageTable // one for each sequence
	Logits    []int32     // indexes of the tokens whose logits are wanted, ascending
}

// Len is the number of tokens.
func (b *Batch) Len() int { return len(b.Tokens) }

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	b.Tokens, b.Positions, b.Seqs = b.Tokens[:0], b.Positions[:0], b.Seqs[:0]
	b.Tables, b.Logits = b.Tables[:0], b.Logits[:0]
}

// Wanted is the batch of those tokens whose logits are wanted, in the memory of
// into; all of its own logits are.
func (b *Batch) Wanted(into *Batch) *Batch {
	into.Reset()
	into.Tables = b.Tables
	for i, at := range b.Logits {
		into.Tokens = append(into.Tokens, b.Tokens[at])
		into.Positions = append(into.Positions, b.Positions[at])
		into.Seqs = append(into.Seqs, b.Seqs[at])
		into.Logits = append(into.Logits, int32(i))
	}
	return into
}

// BatchBytes is what the lists of a batch of so many tokens take at most.
func BatchBytes(tokens int) int64 { return 2 * 4 * 4 * int64(tokens) }

// PageTokens is the number of tokens on a page. Attention walks the keys in blocks
// of this many, so it is part of what fixes the bits of a result.
const PageTokens = kernel.BlockKeys

// PageTable lists a sequence's pages of the KV cache in the order of its
// tokens: position p lies on page p / PageTokens. Where a KV has groups of layers,
// each PageTokens tokens have an entry for each group; nothing looks at those that
// lie before the windows of all of a group's layers.
type PageTable []int32

// KV is the memory of a paged KV cache: an arena of pages, each with the keys
// and values of PageTokens tokens for all heads and the layers of a group, laid out as
// [page][layer][key, value][head], then [HeadDim][token] for keys, whose products
// with a query have a token in each lane of a vector, and [token][HeadDim] for
// values. In Q8_0 those are int8, and after them come float16 scales,
// [HeadDim/32][token]. One of F16, F32 and Q8 is set.
type KV struct {
	Layers, Heads, HeadDim int     // Layers is of a page
	Order                  []int32 // each layer's place on the pages of all groups; nil where there is one group
	F16                    []uint16
	F32                    []float32
	Q8                     []byte
}

// PageElements is the number of elements of a page, of bytes in Q8_0.
func (kv *KV) PageElements() int { return kv.Layers * 2 * kv.Heads * kv.block() }

// place is a layer's group, of how many, and its place on the group's pages.
func (kv *KV) place(layer int) (group, groups, at int) {
	if kv.Order == nil {
		return 0, 1, layer
	}
	at = int(kv.Order[layer])
	return at / kv.Layers, len(kv.Order) / kv.Layers, at % kv.Layers
}

// block is the number of elements of one head's keys on a page.
func (kv *KV) block() int {
	if kv.Q8 != nil {
		return kernel.Q8Bytes(kv.HeadDim)
	}
	return PageTokens * kv.HeadDim
}

// at is where the keys of a head on a page begin, and where its values do.
func (kv *KV) at(page int32, layer, head int) (keys, values int) {
	block := kv.block()
	keys = ((int(page)*kv.Layers+layer)*2*kv.Heads + head) * block
	return keys, keys + kv.Heads*block
}

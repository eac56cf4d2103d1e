package runtime

import "github.com/dunlin-go/dunlin/internal/budget"

// SetMemoryLimit sets how many bytes the process may reserve: all of its models,
// their requests and [httpapi]'s bodies together. The first limit is half the memory
// that the process may use: the least of GOMEMLIMIT, the cgroup's limit and the
// machine's memory. Mapped weights don't count.
//
// It may be raised and lowered while models are loaded. A limit below what is
// reserved takes nothing away: what runs goes on, and loading and new requests fail
// with [CodeResourceExhausted] until enough was given back. The KV cache of a model
// is sized when it is loaded. A limit of zero or less is refused with
// [CodeInvalidRequest].
//
// [httpapi]: https://pkg.go.dev/github.com/dunlin-go/dunlin/httpapi
func SetMemoryLimit(bytes int64) error {
	if bytes < 1 {
		return invalid("memory_limit", "the memory limit is %d bytes, it must be above zero", bytes)
	}
	budget.Process().SetLimit(bytes)
	return nil
}

// ProcessMemory is the limit of the process and what is reserved under it.
func ProcessMemory() BudgetStats { return budget.Process().Usage() }

// MemoryError is a reservation that a memory limit had no room for: how much was
// asked for, for what, and under which limit. Errors with [CodeResourceExhausted]
// wrap it; find it with errors.As.
type MemoryError = budget.ExceededError

// Purpose is what memory is reserved for: an index of [BudgetStats].By.
type Purpose = budget.Purpose

// The purposes.
const (
	PurposeMetadata   = budget.Metadata   // names and key-value pairs of a model file
	PurposeVocabulary = budget.Vocabulary // tokens, merges and the indexes over them
	PurposeKVCache    = budget.KVCache    // pages of keys and values
	PurposeScratch    = budget.Scratch    // working memory
	PurposeRequest    = budget.Request    // prompts, buffers and outputs of requests
	PurposeHTTP       = budget.HTTP       // bodies of HTTP requests, and answers that are gathered for them

	NumPurposes = budget.NumPurposes // how many there are
)

// BudgetStats are a memory limit and what is reserved under it.
type BudgetStats = budget.Usage

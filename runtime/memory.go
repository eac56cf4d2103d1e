package runtime

import "github.com/dunlin-go/dunlin/internal/budget"

// SetMemoryLimit sets how many bytes all models of the process together may
// reserve, and returns the limit before; a negative number only reads it. The
// first one is half the memory that the process may use: GOMEMLIMIT, the cgroup's
// limit or the machine's memory.
//
// It may be raised and lowered while models are loaded. A limit below what is
// reserved takes nothing away: loading and requests fail with
// [CodeResourceExhausted] until enough was given back. The KV cache of a model is
// sized when it is loaded.
func SetMemoryLimit(bytes int64) (previous int64) { return budget.Process().SetLimit(bytes) }

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

	NumPurposes = budget.NumPurposes // how many there are
)

// BudgetStats are a memory limit and what is reserved under it.
type BudgetStats = budget.Usage

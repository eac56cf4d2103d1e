package models_test

import (
	"runtime"
	"testing"

	"github.com/dunlin-go/dunlin/internal/budget"
	"github.com/dunlin-go/dunlin/internal/testmodel"
	"github.com/dunlin-go/dunlin/models"
	"github.com/dunlin-go/dunlin/models/gguf"
	"github.com/dunlin-go/dunlin/tensor"
)

// cost is what a model's memory is priced, and what is allocated for it.
func cost(t *testing.T, f *gguf.File, tokens int) (priced, allocated int64) {
	t.Helper()
	lease := budget.New(1 << 40).Lease()
	defer lease.Close()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := models.New(f, models.Limits{Tokens: tokens, Logits: tokens}, lease); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	return lease.Held(), int64(after.TotalAlloc - before.TotalAlloc)
}

// TestPricesAreWhatIsAllocated holds the price of a larger batch to what it allocates.
func TestPricesAreWhatIsAllocated(t *testing.T) {
	const few, many = 2048, 8192 // buffers are whole pages of the heap
	for arch, model := range testmodel.Architectures {
		f := parse(t, model(testmodel.Config{}))
		priced, allocated := cost(t, f, few)
		more, moreAllocated := cost(t, f, many)
		// The list of wanted tokens is made by the first batch.
		want := moreAllocated - allocated + tensor.BatchBytes(many) - tensor.BatchBytes(few)
		if got := more - priced; got < want-1<<12 || got > want+1<<12 {
			t.Errorf("%s: %d tokens more are priced %d bytes, they take %d", arch, many-few, got, want)
		}
	}
}

// TestFactorsArePriced: the factors of a rotation are copied.
func TestFactorsArePriced(t *testing.T) {
	plain := testmodel.Llama(testmodel.Config{})
	ones := []float32{1, 1, 1, 1, 1, 1, 1, 1}
	factors := withTensor(plain, "rope_freqs.weight", tensor.F32, []uint64{8}, testmodel.Quantize(tensor.F32, ones))
	without, _ := cost(t, parse(t, plain), 8)
	with, _ := cost(t, parse(t, factors), 8)
	if with-without != 4*8 {
		t.Errorf("8 factors are priced %d bytes", with-without)
	}
}
